//! What the agent applies to one container: plain data, made by the runtime's plan, never by the image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that one container needs in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// The container's id; names its cgroup and its directory in the agent's file system.
    pub id: String,
    /// The root filesystem.
    pub root: RootConfig,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<MountConfig>,
    /// Host name in the container's uts namespace.
    pub hostname: Option<String>,
    /// NIS domain name in the container's uts namespace.
    pub domainname: Option<String>,
    /// Which namespaces differ from the default (all new, but for net).
    pub namespaces: Namespaces,
    /// `linux.sysctl`, written below /proc/sys.
    pub sysctl: BTreeMap<String, String>,
    /// `linux.maskedPaths`: unreadable in the container.
    pub masked_paths: Vec<String>,
    /// `linux.readonlyPaths`: read-only in the container.
    pub readonly_paths: Vec<String>,
    /// The process to run.
    pub process: Process,
}

/// The container's root filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootConfig {
    /// Name of its share in the virtio-fs root.
    pub share: String,
    /// Mounted read-only. The host enforces it for the share; the agent does for what it adds on top.
    pub readonly: bool,
}

/// One mount of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountConfig {
    /// The field of config.json that it comes from, for messages (`mounts[3]`).
    pub field: String,
    /// Absolute path in the container; resolved inside the container's root, made if it is missing.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// `MS_*` flags of mount(2) that the options ask for, without propagation flags and `MS_BIND`.
    pub flags: u64,
    /// Propagation flags (`MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, each perhaps with `MS_REC`).
    pub propagation: Vec<u64>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MountSource {
    /// A bind mount of a host path, reached as a share in the virtio-fs root.
    Share {
        /// The share's name.
        name: String,
        /// The host path is a file, not a directory.
        file: bool,
    },
    /// A filesystem of the guest's kernel.
    Filesystem {
        /// Its type (`proc`, `tmpfs`, `cgroup2` ...).
        fstype: String,
        /// The source string of mount(2).
        source: String,
        /// Options that are not flags, comma-separated as mount(2) takes them.
        data: String,
    },
}

/// Whether a namespace is made for the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdMode {
    /// The workload is the first process of its namespace.
    #[default]
    Init,
    /// The workload is an ordinary process behind a small init of the agent's: signals that it does not
    /// handle end it, as they do for a process in the host's pid namespace.
    BehindInit,
}

/// The namespaces of the container, as far as they can be chosen. The workload always has mount, pid, ipc,
/// uts and cgroup namespaces apart from the agent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// The workload's place in its pid namespace.
    pub pid: IdMode,
}

/// A process of the container (`process` in config.json).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Where its streams go.
    pub stdio: StdioPorts,
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
/// Data flows in one direction on each; `None` is /dev/null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdioPorts {
    /// Host to guest.
    pub stdin: Option<u32>,
    /// Guest to host.
    pub stdout: Option<u32>,
    /// Guest to host.
    pub stderr: Option<u32>,
}
