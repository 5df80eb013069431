//! What the runtime on the host and the agent in the guest say to each other.
//!
//! The guest dials: when its agent is up it connects to [`CONTROL_PORT`] of the host over vsock. That
//! connection carries frames ([`frame`]): JSON messages behind a length. Each standard stream of a process
//! is a vsock connection of its own, to a port that the configuration names; stream bytes never travel in
//! messages.
//!
//! ```text
//! agent                                  runtime
//!   | ---- connect CONTROL_PORT -----------> |
//!   | ---- Hello{version, build} ----------> |   a mismatch ends the conversation
//!   | <--- Configure{container} ------------ |   all that one container needs, in one message
//!   | ---- Ready{container} ---------------> |   everything is set up, one exec away
//!   | <--- Start{container} ---------------- |
//!   | ---- Started{container} -------------> |
//!   | <--- Signal, Resize, Clock ----------- |   any number of times, not answered
//!   | <--- Exec{container, exec, process} -- |   any number of times, beside each other
//!   | ---- ExecStarted, ExecExited --------> |   or ExecFailed
//!   | <--- Ask{container, number, ...} ----- |
//!   | ---- Answer{container, number, ...} -> |
//!   | ---- Exited{container, status} ------> |   after every byte of stdout and stderr was handed over
//! ```
//!
//! Instead of `Ready` or `Started` the agent answers `Failed{container, failure}` when the configuration
//! cannot be applied. Messages name the container, so that several can share one guest. Both ends come from
//! one build: a field that one side does not know is an error, never skipped.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod frame;
mod guest_config;
mod message;
mod process;

pub use guest_config::{
    CgroupConfig, CgroupSetting, DeviceNode, GuestConfig, IdMode, IdRange, Layer, MountConfig, MountSource,
    Namespaces, RecursiveAttributes, RootConfig, StartHook, TimeOffset, TimeOffsets, UserNamespace,
};
pub use message::{
    Answer, ExitStatus, Failure, FailureKind, GuestMessage, GuestProcess, HostMessage, Question, SignalTarget,
};
pub use process::{
    Capabilities, CpuAffinity, Descriptor, PosixUser, Process, Rlimit, Scheduler, SeccompFilter, StdioPorts,
    TerminalConfig, WindowSize,
};

/// Version of the conversation; changed whenever a message changes its meaning or shape.
pub const VERSION: u32 = 3;

/// Names one build of the workspace: package version, then what the build adds to it (`DRUPE_BUILD`).
pub const BUILD: &str = match option_env!("DRUPE_BUILD") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

/// Host vsock port of the control connection.
pub const CONTROL_PORT: u32 = 1024;

/// Tag of the one virtio-fs device; its root holds one directory (or file) per share.
pub const FS_TAG: &str = "drupe";
