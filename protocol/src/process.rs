//! A process of a container: what `process` of config.json, or of an exec, asks for. Plain data.

use serde::{Deserialize, Serialize};

/// A process of the container (`process` in config.json).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Arguments; the first names the program, looked up in the `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// `KEY=value` strings.
    pub env: Vec<String>,
    /// Absolute working directory in the container.
    pub cwd: String,
    /// Whom it runs as.
    pub user: PosixUser,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// /proc/self/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// Value of ioprio_set(2), class and level in one.
    pub io_priority: Option<i32>,
    /// Scheduling policy (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// CPUs that it may run on while it enters the container, and afterwards (`execCPUAffinity`, of execs alone).
    pub cpu_affinity: CpuAffinity,
    /// personality(2), when it is not the default.
    pub personality: Option<u64>,
    /// The filter that is loaded before its program is executed.
    pub seccomp: Option<SeccompFilter>,
    /// It has a terminal: `stdio.terminal` is its one stream then.
    pub terminal: Option<TerminalConfig>,
    /// Descriptors that it has beside its streams.
    pub descriptors: Vec<Descriptor>,
    /// Where its streams go.
    pub stdio: StdioPorts,
}

/// Scheduling policy and its parameters, as in `struct sched_attr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// CPUs of a process, by number; empty is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuAffinity {
    /// While it enters the container.
    pub initial: Vec<u32>,
    /// From its exec on.
    pub last: Vec<u32>,
}

/// A seccomp filter, compiled by the runtime for the guest's architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompFilter {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// `struct sock_filter`, each as one integer: code, jt, jf, k from the most significant byte on (16, 8, 8, 32
    /// bits).
    pub program: Vec<u64>,
}

/// A terminal of the guest, made for a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalConfig {
    /// Its size at first; the kernel's 0 x 0 when not given.
    pub size: Option<WindowSize>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A descriptor beside the streams, carried over a vsock connection of its own (`--preserve-fds`, `LISTEN_FDS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Its number in the process, 3 or more.
    pub fd: i32,
    /// Host vsock port.
    pub port: u32,
    /// The process can read from it.
    pub read: bool,
    /// The process can write to it.
    pub write: bool,
}

/// Identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PosixUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask; 0o022 when not given.
    pub umask: Option<u32>,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Name as in getrlimit(2), `RLIMIT_NOFILE`.
    pub name: String,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
}

/// The five capability sets, as names (`CAP_NET_RAW`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: Vec<String>,
    /// Effective set.
    pub effective: Vec<String>,
    /// Inheritable set.
    pub inheritable: Vec<String>,
    /// Permitted set.
    pub permitted: Vec<String>,
    /// Ambient set.
    pub ambient: Vec<String>,
}

/// Host vsock ports of a process's standard streams; the agent connects to each before the process starts.
/// Data flows in one direction on each of the three; `None` is /dev/null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdioPorts {
    /// Host to guest.
    pub stdin: Option<u32>,
    /// Guest to host.
    pub stdout: Option<u32>,
    /// Guest to host.
    pub stderr: Option<u32>,
    /// Both directions: the terminal, instead of the three streams.
    pub terminal: Option<u32>,
}
