//! The messages of the control connection, one enum for each direction.

use serde::{Deserialize, Serialize};

use crate::guest_config::GuestConfig;

/// What the runtime tells the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum HostMessage {
    /// Prepare a container up to the point where one exec is missing. Answered by `Ready` or `Failed`.
    Configure {
        /// Everything the container needs.
        config: Box<GuestConfig>,
    },
    /// Run the prepared process. Answered by `Started` or `Failed`.
    Start {
        /// The container's id.
        container: String,
    },
    /// Deliver a signal to the container's process. Not answered; a process that has ended ignores it.
    Signal {
        /// The container's id.
        container: String,
        /// Linux signal number, 1 to 64.
        signal: i32,
    },
}

/// What the agent tells the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuestMessage {
    /// The first message. The runtime refuses another version or build than its own.
    Hello {
        /// [`crate::VERSION`] of the agent.
        version: u32,
        /// [`crate::BUILD`] of the agent.
        build: String,
        /// Microseconds between the guest kernel's clock start and the first instruction of PID 1.
        pid1_us: u64,
        /// Microseconds on the same clock when this message was written.
        now_us: u64,
    },
    /// The container is one exec away from running.
    Ready {
        /// The container's id.
        container: String,
        /// Guest clock (microseconds) when the `Configure` message had been read.
        configured_us: u64,
        /// Guest clock when the container's mounts were in place.
        mounted_us: u64,
        /// Guest clock when this message was written.
        now_us: u64,
    },
    /// The container's program has been executed.
    Started {
        /// The container's id.
        container: String,
        /// Process id in the agent's pid namespace.
        pid: i32,
        /// Guest clock in microseconds.
        now_us: u64,
    },
    /// The container's process has ended, and its streams were drained into their connections.
    Exited {
        /// The container's id.
        container: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A `Configure` or `Start` could not be carried out; nothing of the container is left in the guest.
    Failed {
        /// The container's id.
        container: String,
        /// What went wrong.
        failure: Failure,
    },
}

/// How a process ended (`waitid(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit with this status.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The status as a shell reports it: the exit code, or 128 + the signal's number.
    ///
    /// ```
    /// # use drupe_protocol::ExitStatus;
    /// assert_eq!(ExitStatus::Code(3).shell_status(), 3);
    /// assert_eq!(ExitStatus::Signal(9).shell_status(), 137);
    /// ```
    #[must_use]
    pub fn shell_status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

/// Why a container could not be set up or started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What kind of failure it is; decides the exit status of `drupe run`.
    pub kind: FailureKind,
    /// The field of config.json that asked for it, such as `process.cwd` or `mounts[2].destination`.
    pub field: String,
    /// The field's value and the cause, lower case, one line.
    pub message: String,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program does not exist: exit status 127.
    NotFound,
    /// The program exists and cannot be executed: exit status 126.
    NotExecutable,
    /// Anything else.
    Setup,
}
