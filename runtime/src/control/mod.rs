//! What the verbs ask of a running monitor, over the socket `control` in the container's directory.
//!
//! The frames are those of the protocol ([`drupe_protocol::frame`]). A client sends one [`Request`], with
//! descriptors if it has some to hand over, and gets one [`Reply`]; after [`Reply::ExecStarted`] another one when
//! the process has ended. Both ends are this program, run by the same user.

mod client;
mod listener;
mod passing;
mod session;

use drupe_protocol::{Answer, CgroupSetting, ExitStatus, Process, WindowSize};
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
}

impl Reply {
    /// A failure that means exit status 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), status: 1 }
    }
}

#[cfg(test)]
mod tests;
