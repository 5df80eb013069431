//! What the verbs ask of a running monitor, over the socket `control` in the container's directory.
//!
//! The frames are those of the protocol ([`drupe_protocol::frame`]). A client sends one [`Request`], with
//! descriptors if it has some to hand over, and gets one [`Reply`]; after [`Reply::ExecStarted`] another one when
//! the process has ended. Both ends are this program, run by the same user.

mod client;
mod listener;
mod passing;
mod session;

use std::collections::BTreeMap;

use drupe_protocol::{Answer, CgroupSetting, ExitStatus, Process, WindowSize};
use drupe_vmm::FsCounts;
use serde::{Deserialize, Serialize};

pub(crate) use client::{Client, ClientError};
pub(crate) use listener::Listener;
pub(crate) use session::{Received, Session};

/// What a verb asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Execute the program. Answered when it has been executed, which hooks in the container come before: only their
    /// own timeouts bound it.
    Start,
    /// Deliver a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// To every process of the container.
        all: bool,
    },
    /// Run another process. Its standard streams, or its terminal, and the descriptors that it has besides come along.
    Exec {
        /// The process; the monitor decides about its ports.
        process: Box<Process>,
    },
    /// Deliver a signal to the process that this client has started. Not answered.
    SignalExec {
        /// Its number.
        signal: i32,
    },
    /// Change the size of the terminal of the process that this client has started. Not answered.
    ResizeExec {
        /// The new size.
        size: WindowSize,
    },
    /// List the processes.
    Processes,
    /// Freeze the processes, and stop the machine's processors.
    Pause,
    /// Let all go on.
    Resume,
    /// Tell what the container uses.
    Statistics,
    /// Tell what the shared filesystem has done for it. The guest is not asked.
    Filesystem,
    /// Change limits.
    Update {
        /// The files of the guest's cgroup that change.
        settings: Vec<CgroupSetting>,
    },
}

/// What the monitor replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// It is not done.
    Failed {
        /// What to tell the user.
        message: String,
        /// The exit status that goes with it.
        status: u8,
    },
    /// The process runs. Its end is told later.
    ExecStarted {
        /// Its number.
        exec: u32,
    },
    /// The process has ended.
    ExecExited {
        /// How.
        status: ExitStatus,
    },
    /// What the agent answered.
    Answer(Answer),
    /// What the shared filesystem has done.
    Filesystem(FilesystemCounts),
}

/// What the shared filesystem has done so far, and holds for the guest now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilesystemCounts {
    /// Requests by their opcodes, as linux/fuse.h calls them.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Requests with an opcode that is not served.
    pub(crate) unknown: u64,
    /// Requests that were answered with an error.
    pub(crate) errors: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    /// Files that the guest knows of.
    pub(crate) nodes: u64,
    /// Descriptors of files that may be closed at any time.
    pub(crate) cached_fds: u64,
    /// Descriptors of files without a name, and of the shares.
    pub(crate) pinned_fds: u64,
    /// Files and directories that the guest has open.
    pub(crate) open_files: u64,
}

impl From<FsCounts> for FilesystemCounts {
    fn from(counts: FsCounts) -> Self {
        Self {
            requests: counts.requests.into_iter().map(|(opcode, count)| (opcode.to_owned(), count)).collect(),
            unknown: counts.unknown,
            errors: counts.errors,
            read_bytes: counts.read_bytes,
            written_bytes: counts.written_bytes,
            nodes: counts.nodes,
            cached_fds: counts.cached_fds,
            pinned_fds: counts.pinned_fds,
            open_files: counts.open_files,
        }
    }
}

impl Reply {
    /// A failure that means exit status 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), status: 1 }
    }
}

#[cfg(test)]
mod tests;
