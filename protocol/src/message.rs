//! The messages of the control connection, one enum for each direction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::guest_config::{CgroupSetting, GuestConfig};
use crate::process::{Process, WindowSize};

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
        /// The state as JSON, for `hooks.startContainer`; empty when there are none.
        state: String,
    },
    /// Deliver a signal to a process. Not answered; a process that has ended ignores it.
    Signal {
        /// The container's id.
        container: String,
        /// To whom.
        target: SignalTarget,
        /// Linux signal number, 1 to 64.
        signal: i32,
    },
    /// Run one more process in a container whose program runs. Answered by `ExecStarted` or `ExecFailed`.
    Exec {
        /// The container's id.
        container: String,
        /// Names the process from here on; used once.
        exec: u32,
        /// The process.
        process: Box<Process>,
    },
    /// Change the size of a terminal. Not answered.
    Resize {
        /// The container's id.
        container: String,
        /// Whose terminal: an exec's, or the container's own.
        exec: Option<u32>,
        /// The new size.
        size: WindowSize,
    },
    /// A question about a container. Answered by `Answer`.
    Ask {
        /// The container's id.
        container: String,
        /// Names the question; used once.
        number: u32,
        /// The question.
        question: Question,
    },
    /// The host's time of day. Not answered; sent after `Hello` and whenever the guest has stood still.
    Clock {
        /// Nanoseconds since 1970, UTC.
        unix_ns: u64,
    },
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalTarget {
    /// The container's main process.
    Main,
    /// Every process of the container.
    All,
    /// The process of an exec.
    Exec(u32),
}

/// What can be asked about, or of, a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Its processes.
    Processes,
    /// The files of its cgroup that statistics are made of.
    Statistics,
    /// Whether these files of its cgroup can be written: changes its limits, all or none.
    Update(Vec<CgroupSetting>),
    /// That all its processes are frozen. When it is answered, signals that were sent before have had their effect:
    /// they wait for the thaw, or have ended their process.
    Freeze,
    /// That its processes go on.
    Thaw,
}

/// The answer to a [`Question`], of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The processes, in the order of their ids.
    Processes(Vec<GuestProcess>),
    /// Names and contents of files (`memory.current`, `cpu.stat` ...), each at most 64 KiB.
    Statistics(BTreeMap<String, String>),
    /// The limits were changed.
    Updated,
    /// None of its processes runs.
    Frozen,
    /// They go on.
    Thawed,
    /// It could not be answered; nothing was changed.
    Failed(Failure),
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestProcess {
    /// Its id in the guest.
    pub pid: i32,
    /// Its id in the container's pid namespace.
    pub container_pid: i32,
    /// Its parent's id in the guest.
    pub parent: i32,
    /// Its real user id.
    pub uid: u32,
    /// State letter of /proc/PID/stat.
    pub state: char,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Time since its start, in milliseconds.
    pub age_ms: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Virtual memory, in bytes.
    pub vsize: u64,
    /// Its terminal (`pts/0`), if it has one.
    pub tty: Option<String>,
    /// Its command line; its name in brackets when it has none.
    pub command: String,
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
    /// The program of an exec has been executed.
    ExecStarted {
        /// The container's id.
        container: String,
        /// The exec's number.
        exec: u32,
        /// Process id in the agent's pid namespace.
        pid: i32,
    },
    /// An exec could not be carried out; nothing of it is left.
    ExecFailed {
        /// The container's id.
        container: String,
        /// The exec's number.
        exec: u32,
        /// What went wrong.
        failure: Failure,
    },
    /// The process of an exec has ended, and its streams were drained into their connections.
    ExecExited {
        /// The container's id.
        container: String,
        /// The exec's number.
        exec: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The answer to a question.
    Answer {
        /// The container's id.
        container: String,
        /// The question's number.
        number: u32,
        /// The answer.
        answer: Answer,
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
