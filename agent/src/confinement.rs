//! What a container's cgroup is given before the first process is born in it: limits, devices, an owner.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use drupe_protocol::{GuestConfig, MountSource};
use rustix::fs::{AtFlags, Uid, chownat};
use rustix::io::Errno;

use crate::failure::{Named, Result};
use crate::{ids, limits, mounts, sys};

/// Files that belong to whom a cgroup is delegated to: those that kernels name in /sys/kernel/cgroup/delegate, which
/// the agent does not have.
const DELEGATED: [&str; 5] =
    ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group", "memory.reclaim"];

/// Applies the container's `cgroup`.
pub(crate) fn confine(config: &GuestConfig, root: &Path, cgroup: &OwnedFd) -> Result<()> {
    limits::update(root, &config.id, &config.cgroup.settings)?;
    if !config.cgroup.device_program.is_empty() {
        const FIELD: &str = "linux.resources.devices";
        let program = sys::load_device_program(&config.cgroup.device_program)
            .named(FIELD, "program: cannot be loaded")?;
        sys::attach_device_program(cgroup.as_fd(), program.as_fd())
            .named(FIELD, "program: cannot be attached")?;
    }
    if is_writable(config) {
        delegate(config, cgroup).named("process.user.uid", "owner of the cgroup")?;
    }
    Ok(())
}

/// Whether the container gets its cgroup to write to.
fn is_writable(config: &GuestConfig) -> bool {
    config.mounts.iter().any(|mount| {
        let MountSource::Filesystem { fstype, .. } = &mount.source else { return false };
        matches!(fstype.as_str(), "cgroup" | "cgroup2")
            && mounts::same(&mount.destination, "/sys/fs/cgroup")
            && mount.flags & libc::MS_RDONLY == 0
    })
}

fn delegate(config: &GuestConfig, cgroup: &OwnedFd) -> Result<(), Errno> {
    let uid = config.process.user.uid;
    let owner = match &config.namespaces.user {
        Some(user) => ids::outside(&user.uids, uid),
        None => Some(uid),
    };
    // A user without a mapping is refused when it is to be taken on.
    let Some(owner) = owner.filter(|uid| *uid != u32::MAX).map(Uid::from_raw) else { return Ok(()) };
    for name in [""].into_iter().chain(DELEGATED) {
        match chownat(cgroup, name, Some(owner), None, AtFlags::EMPTY_PATH) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
