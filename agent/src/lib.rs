//! The agent: PID 1 of a drupe guest. Applies a container's configuration, runs its process, reports its status.
//!
//! One thread, one poll loop ([`Agent::serve`]), no memory that grows with what containers write. Containers are
//! kept by id; several in one guest are the same code path as one. Promises: the exit status is exact; every byte
//! that a process wrote is handed over before `Exited`; no path of an image leads out of its root; a container
//! sees nothing of the agent. The agent never panics: the kernel would reset the machine.
//!
//! Nothing here needs vsock, virtio-fs or to be PID 1: the connection, the [`Dial`] and the [`Places`] are given.
#![deny(unsafe_code)]
#![deny(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arch;
pub mod boot;
mod capabilities;
mod cgroup;
pub mod clock;
mod confinement;
mod container;
mod copy_up;
mod devices;
pub mod dial;
mod duplex;
mod exec;
mod failure;
mod freezer;
mod hooks;
mod ids;
mod layer;
mod limits;
mod link;
mod log;
mod lookup;
mod masks;
mod mounts;
mod process;
mod processes;
mod question;
mod reader;
mod report;
mod resolve;
mod rlimits;
mod root;
mod scheduling;
mod seccomp;
mod setup;
mod sources;
mod spawn;
mod stdio;
mod streams;
mod supervise;
mod sys;
mod sysctls;
mod task;
mod terminal;
mod time_namespace;
mod user_namespace;

use std::path::PathBuf;

pub use dial::Dial;
pub use link::LinkError;
pub use supervise::{Agent, ServeError};

/// Where the agent finds and puts things. Paths are the agent's own, never an image's.
#[derive(Clone, Debug)]
pub struct Places {
    /// The virtio-fs root: one directory or file per share.
    pub shares: PathBuf,
    /// An empty directory on which each container's root is assembled, in a mount namespace of its own.
    pub stage: PathBuf,
    /// The root of the cgroup2 hierarchy.
    pub cgroup: PathBuf,
}
