//! The mounts of a container: made detached, given their attributes, then moved to a resolved destination.
//!
//! A destination is a descriptor from [`resolve`], so no path of the image is walked twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use drupe_protocol::{Failure, MountConfig, MountSource, RecursiveAttributes};
use rustix::fs::{CWD, FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::failure::{Named, Result, cause, setup};
use crate::resolve::{self, Leaf};
use crate::{copy_up, layer, sys};

pub(crate) const RDONLY: u64 = MountAttrFlags::MOUNT_ATTR_RDONLY.bits() as u64;

/// Where mounts come from that are not filesystems of the guest's kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins<'a> {
    /// The virtio-fs root.
    pub(crate) shares: &'a Path,
    /// The layer over the root filesystem's share.
    pub(crate) layer: Option<BorrowedFd<'a>>,
}

/// Makes one mount, of `given` if the agent has made that. Returns it when it must become read-only only after others
/// were made below it.
pub(crate) fn mount(
    root: BorrowedFd<'_>,
    origins: Origins<'_>,
    config: &MountConfig,
    given: Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let leaf = match &config.source {
        MountSource::Share { file: true, .. } => Leaf::File,
        _ => Leaf::Directory,
    };
    // A share that is missing leaves no mount point behind.
    let early = match &config.source {
        MountSource::Share { .. } if given.is_none() => Some(make(origins, config, None)?),
        _ => given,
    };
    let (target, existed) = destination(root, config, leaf)?;
    let fstype = fstype(config);
    if matches!(fstype, Some("proc" | "sysfs")) {
        // What the image calls /proc must be /proc, or the agent's promises about it are void.
        resolve::open_plain(root, Path::new(&config.destination))
            .named(field(config), format_args!("{:?}: not an ordinary directory", config.destination))?;
    }
    let tree = match early {
        Some(tree) => tree,
        None => make(origins, config, (existed && fstype == Some("tmpfs")).then(|| target.as_fd()))?,
    };
    if config.copy_up && existed {
        copy_up::copy(target.as_fd(), tree.as_fd()).named(
            format!("{}.options", config.field),
            format_args!("\"tmpcopyup\": {:?}", config.destination),
        )?;
    }
    attach(tree.as_fd(), target.as_fd()).named(field(config), quoted(config))?;
    change(config, &tree)?;
    Ok(is_late(config).then_some(tree))
}

/// Makes a mount that lies nowhere yet, with its attributes. A tmpfs over a directory takes its mode.
pub(crate) fn make(
    origins: Origins<'_>,
    config: &MountConfig,
    over: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let options = format!("{}.options", config.field);
    if config.flags & libc::MS_REMOUNT != 0 {
        return Err(setup(options, "\"remount\": not supported"));
    }
    let attributes = attributes(config.flags);
    match &config.source {
        MountSource::Share { name, .. } => {
            let tree = share(origins.shares, name, config)?;
            set(tree.as_fd(), config.flags & libc::MS_REC != 0, attributes)
                .named(options, format_args!("{:?}", config.destination))?;
            Ok(tree)
        }
        MountSource::Layer { name } => {
            let layer = origins.layer.ok_or_else(|| setup(&config.field, "there is no writable layer"))?;
            layer::directory(layer, name).named(&config.field, format_args!("{name:?} on the layer"))
        }
        MountSource::Filesystem { source, data, .. } => {
            let mode = over.and_then(tmpfs_mode);
            let now = if is_late(config) { attributes & !RDONLY } else { attributes };
            let options = mode.iter().map(String::as_str).chain(data.split(',')).filter(|o| !o.is_empty());
            filesystem(fstype(config).unwrap_or_default(), source, options, config.flags, now)
                .map_err(|(what, text)| setup(format!("{}.{what}", config.field), text))
        }
    }
}

fn fstype(config: &MountConfig) -> Option<&str> {
    match &config.source {
        MountSource::Share { .. } | MountSource::Layer { .. } => None,
        MountSource::Filesystem { fstype, .. } if fstype == "cgroup" => Some("cgroup2"),
        MountSource::Filesystem { fstype, .. } => Some(fstype),
    }
}

/// Whether it becomes read-only after others were made below it.
fn is_late(config: &MountConfig) -> bool {
    let fills = |fstype| fstype == "tmpfs" || is_dev(&config.destination);
    config.flags & libc::MS_RDONLY != 0 && fstype(config).is_some_and(fills)
}

/// What is changed once the mount is in its place.
fn change(config: &MountConfig, tree: &OwnedFd) -> Result<()> {
    let options = format!("{}.options", config.field);
    if config.recursive != RecursiveAttributes::default() {
        let RecursiveAttributes { set, clear } = config.recursive;
        sys::mount_setattr(tree.as_fd(), true, set, clear, 0)
            .named(&options, format_args!("{:?}: recursive attributes", config.destination))?;
    }
    for flags in &config.propagation {
        propagate(tree.as_fd(), *flags)
            .named(&options, format_args!("{:?}: propagation", config.destination))?;
    }
    Ok(())
}

/// Sets the propagation of a mount: `MS_SHARED` and its like, perhaps with `MS_REC`.
pub(crate) fn propagate(mount: BorrowedFd<'_>, flags: u64) -> std::io::Result<()> {
    sys::mount_setattr(mount, flags & libc::MS_REC != 0, 0, 0, flags & !libc::MS_REC)
}

/// A detached copy of a share's mount.
pub(crate) fn open_share(shares: &Path, name: &str, recursive: bool) -> Result<OwnedFd, Errno> {
    let path = share_path(shares, name).ok_or(Errno::INVAL)?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, &path, flags)
}

/// Where a share is; a name is one component.
pub(crate) fn share_path(shares: &Path, name: &str) -> Option<PathBuf> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Some(shares.join(name)),
        _ => None,
    }
}

/// A detached mount of a new filesystem. An error names the field at fault (`type` or `options`).
pub(crate) fn filesystem<'a>(
    fstype: &str,
    source: &str,
    options: impl Iterator<Item = &'a str>,
    flags: u64,
    attributes: u64,
) -> Result<OwnedFd, (&'static str, String)> {
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| ("type", format!("{fstype:?}: {}", cause(&error.into()))))?;
    let refused = |option: &str, error: Errno| {
        let why = kernel_message(context.as_fd()).unwrap_or_else(|| cause(&error.into()));
        ("options", format!("{option:?}: {why}"))
    };
    if !source.is_empty() {
        fsconfig_set_string(&context, "source", source).map_err(|error| refused(source, error))?;
    }
    for name in superblock_flags(fstype, flags) {
        fsconfig_set_flag(&context, name).map_err(|error| refused(name, error))?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option),
        }
        .map_err(|error| refused(option, error))?;
    }
    let failed = |error: Errno| {
        let why = kernel_message(context.as_fd()).unwrap_or_else(|| cause(&error.into()));
        ("type", format!("{fstype:?}: cannot be mounted: {why}"))
    };
    fsconfig_create(&context).map_err(failed)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)
}

/// Puts a detached mount on what `target` names.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// Sets attributes of a mount; a given kind of access time update replaces the one it has.
pub(crate) fn set(mount: BorrowedFd<'_>, recursive: bool, attributes: u64) -> std::io::Result<()> {
    if attributes == 0 {
        return Ok(());
    }
    let clear = if attributes & ATIME == 0 { 0 } else { ATIME };
    sys::mount_setattr(mount, recursive, attributes, clear, 0)
}

const ATIME: u64 = MountAttrFlags::MOUNT_ATTR__ATIME.bits() as u64;

fn share(shares: &Path, name: &str, config: &MountConfig) -> Result<OwnedFd> {
    open_share(shares, name, config.flags & libc::MS_REC != 0).named(
        format!("{}.source", config.field),
        format_args!("share {name:?} for {:?}", config.destination),
    )
}

fn destination(root: BorrowedFd<'_>, config: &MountConfig, leaf: Leaf) -> Result<(OwnedFd, bool)> {
    let failed = |error: Errno| -> Failure {
        setup(field(config), format_args!("{:?}: {}", config.destination, cause(&error.into())))
    };
    let (target, existed) =
        resolve::open_or_make(root, Path::new(&config.destination), leaf).map_err(failed)?;
    let (at, top) = (fstat(&target).map_err(failed)?, fstat(root).map_err(failed)?);
    if (at.st_dev, at.st_ino) == (top.st_dev, top.st_ino) {
        return Err(setup(field(config), format_args!("{:?}: is the container's root", config.destination)));
    }
    let is_directory = FileType::from_raw_mode(at.st_mode) == FileType::Directory;
    match (leaf, is_directory) {
        (Leaf::Directory, false) => return Err(failed(Errno::NOTDIR)),
        (Leaf::File, true) => return Err(failed(Errno::ISDIR)),
        _ => {}
    }
    Ok((target, existed))
}

fn field(config: &MountConfig) -> String {
    format!("{}.destination", config.field)
}

fn quoted(config: &MountConfig) -> String {
    format!("{:?}: cannot be mounted on", config.destination)
}

pub(crate) fn is_dev(destination: &str) -> bool {
    same(destination, "/dev")
}

/// Whether two paths are written alike, but for slashes.
pub(crate) fn same(one: &str, other: &str) -> bool {
    Path::new(one).components().eq(Path::new(other).components())
}

/// As runc does: a tmpfs over a directory has its mode, unless the options say otherwise.
fn tmpfs_mode(target: BorrowedFd<'_>) -> Option<String> {
    fstat(target).ok().map(|stat| format!("mode={:o}", stat.st_mode & 0o7777))
}

/// The `MS_*` flags that belong to a mount rather than to its superblock.
fn attributes(flags: u64) -> u64 {
    let pairs = [
        (libc::MS_RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (libc::MS_NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MS_NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let plain = pairs.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, attribute)| attribute);
    let atime = if flags & libc::MS_NOATIME != 0 {
        MountAttrFlags::MOUNT_ATTR_NOATIME
    } else if flags & libc::MS_STRICTATIME != 0 {
        MountAttrFlags::MOUNT_ATTR_STRICTATIME
    } else {
        MountAttrFlags::MOUNT_ATTR_RELATIME
    };
    plain.chain([atime]).fold(0, |all, one| all | u64::from(one.bits()))
}

const MS_NOSYMFOLLOW: u64 = 256;

/// The `MS_*` flags that belong to the superblock. Read-only is one only where writing it can be avoided by it:
/// the kernel's own filesystems are shared, and there it is an attribute of the mount alone.
fn superblock_flags(fstype: &str, flags: u64) -> impl Iterator<Item = &'static str> {
    let own = matches!(fstype, "proc" | "sysfs" | "cgroup2" | "tmpfs" | "devpts" | "mqueue" | "devtmpfs");
    let read_only = if own { 0 } else { libc::MS_RDONLY };
    [
        (read_only, "ro"),
        (libc::MS_SYNCHRONOUS, "sync"),
        (libc::MS_DIRSYNC, "dirsync"),
        (libc::MS_MANDLOCK, "mand"),
        (MS_LAZYTIME, "lazytime"),
    ]
    .into_iter()
    .filter_map(move |(flag, name)| (flags & flag != 0).then_some(name))
}

const MS_LAZYTIME: u64 = 1 << 25;

/// What the kernel has to say about a refused mount (`e tmpfs: Bad value for 'size'`), if anything.
fn kernel_message(context: BorrowedFd<'_>) -> Option<String> {
    let mut text = [0; 512];
    let length = rustix::io::read(context, &mut text).ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    Some(text.trim().trim_start_matches("e ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_component() {
        let shares = Path::new("/shares");
        assert_eq!(share_path(shares, "root"), Some("/shares/root".into()));
        for name in ["", ".", "..", "/", "a/b", "../a", "/a"] {
            assert_eq!(share_path(shares, name), None, "{name:?}");
        }
    }

    #[test]
    fn flags_are_split_between_mount_and_superblock() {
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NOATIME | libc::MS_SYNCHRONOUS;
        assert_eq!(attributes(flags), 1 | 2 | 0x10);
        assert_eq!(superblock_flags("ext4", flags).collect::<Vec<_>>(), ["ro", "sync"]);
        assert_eq!(superblock_flags("proc", flags).collect::<Vec<_>>(), ["sync"]);
    }
}
