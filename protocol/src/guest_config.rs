//! What the agent applies to one container: plain data, made by the runtime's plan, never by the image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::process::Process;

/// Everything that one container needs in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `linux.rootfsPropagation`, as `MS_*` flags of mount(2).
    pub rootfs_propagation: Option<u64>,
    /// `linux.devices`: nodes beside those that every container has.
    pub devices: Vec<DeviceNode>,
    /// The container's cgroup in the guest.
    pub cgroup: CgroupConfig,
    /// `hooks.startContainer`, run in the container before its program.
    pub start_hooks: Vec<StartHook>,
    /// The process to run.
    pub process: Process,
}

/// A device node below the container's /dev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNode {
    /// The field of config.json that it comes from, for messages (`linux.devices[0]`).
    pub field: String,
    /// Absolute path in the container.
    pub path: String,
    /// File type bits of mknod(2): `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The cgroup (version 2) of a container in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupConfig {
    /// Files to write, in this order.
    pub settings: Vec<CgroupSetting>,
    /// A program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, each `struct bpf_insn` as one little-endian integer;
    /// empty: every device is allowed.
    pub device_program: Vec<u64>,
}

/// One file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupSetting {
    /// The field of config.json that it comes from, for messages.
    pub field: String,
    /// Name of the file (`memory.max`).
    pub file: String,
    /// What is written to it.
    pub value: String,
}

/// A hook that runs in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartHook {
    /// The field of config.json that it comes from, for messages (`hooks.startContainer[0]`).
    pub field: String,
    /// Absolute path in the container.
    pub path: String,
    /// Arguments with the name in front; empty: the path alone.
    pub args: Vec<String>,
    /// `KEY=value` strings.
    pub env: Vec<String>,
    /// Seconds until it is killed, which is a failure.
    pub timeout: Option<u32>,
}

/// The container's root filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootConfig {
    /// Name of its share in the virtio-fs root.
    pub share: String,
    /// Mounted read-only. The host enforces it for the share; the agent does for what it adds on top.
    pub readonly: bool,
    /// What is written goes here; the share stays as it is.
    pub layer: Option<Layer>,
}

/// A filesystem of the guest's own, over the root filesystem's share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// In the guest's memory.
    Tmpfs {
        /// The most that it holds.
        bytes: u64,
    },
    /// On a disk, which has an ext4 filesystem already.
    Ext4 {
        /// The disk's path in the agent's /dev.
        device: String,
    },
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
    /// Attributes for the mount and all below it (`rro`, `rnosuid` ...).
    pub recursive: RecursiveAttributes,
    /// The tmpfs gets a copy of what the image has in its place (`tmpcopyup`).
    pub copy_up: bool,
}

/// What mount_setattr(2) with `AT_RECURSIVE` changes: `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecursiveAttributes {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
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
    /// A directory of the root filesystem's [`Layer`], at first as what it is mounted on.
    Layer {
        /// The directory's name in the layer.
        name: String,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// The workload's place in its pid namespace.
    pub pid: IdMode,
    /// A user namespace with these mappings.
    pub user: Option<UserNamespace>,
    /// A time namespace with these offsets.
    pub time: Option<TimeOffsets>,
}

/// The mappings of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNamespace {
    /// `linux.uidMappings`.
    pub uids: Vec<IdRange>,
    /// `linux.gidMappings`.
    pub gids: Vec<IdRange>,
}

/// A range of ids, as in /proc/PID/uid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id outside of it: in the guest, which is that of the shared files.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Offsets of a time namespace; `None` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeOffsets {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Option<TimeOffset>,
    /// `CLOCK_BOOTTIME`.
    pub boottime: Option<TimeOffset>,
}

/// Offset of a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeOffset {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanoseconds: u32,
}
