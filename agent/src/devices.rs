//! The default devices and links of /dev (OCI runtime specification: Default Devices, Dev symbolic links).
//!
//! Nodes are made only in a filesystem of the guest's kernel, never on a share.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use drupe_protocol::{GuestConfig, MountSource};
use rustix::fs::{FileType, Mode, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use crate::failure::{Named, Result, setup};
use crate::mounts;
use crate::resolve::{self, Leaf};

const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Whether nothing of the configuration is mounted on /dev.
pub(crate) fn is_default(config: &GuestConfig) -> bool {
    !config.mounts.iter().any(|mount| mounts::is_dev(&mount.destination))
}

/// Mounts a tmpfs on /dev when the configuration mounts nothing there; before other mounts, which may be below it.
pub(crate) fn mount_default(root: BorrowedFd<'_>, config: &GuestConfig) -> Result<()> {
    if !is_default(config) {
        return Ok(());
    }
    let (target, _) =
        resolve::open_or_make(root, Path::new("/dev"), Leaf::Directory).named("mounts", "\"/dev\"")?;
    let nosuid = u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_NOSUID.bits());
    let tree = mounts::filesystem("tmpfs", "tmpfs", ["mode=755", "size=65536k"].into_iter(), 0, nosuid)
        .map_err(|(_, text)| setup("mounts", format_args!("\"/dev\": {text}")))?;
    mounts::attach(tree.as_fd(), target.as_fd()).named("mounts", "\"/dev\": cannot be mounted on")
}

/// Fills /dev, unless it is a bind mount: then it is the user's own. The caller's umask is 0.
pub(crate) fn make_defaults(root: BorrowedFd<'_>, config: &GuestConfig) -> Result<()> {
    let bound = config
        .mounts
        .iter()
        .any(|mount| mounts::is_dev(&mount.destination) && matches!(mount.source, MountSource::Share { .. }));
    if bound {
        return Ok(());
    }
    let dev = resolve::open(root, Path::new("/dev")).named("mounts", "\"/dev\"")?;
    for (name, major, minor) in DEVICES {
        make_device(&dev, name, major, minor)
            .named("mounts", format_args!("\"/dev/{name}\": cannot be made"))?;
    }
    for (name, target) in LINKS {
        present(symlinkat(target, &dev, name))
            .named("mounts", format_args!("\"/dev/{name}\": cannot be made"))?;
    }
    Ok(())
}

/// Makes one node. Its owner is its maker, 0:0.
fn make_device(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    present(mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor)))
}

/// A mount of the configuration (devtmpfs, or a bind mount of one device) may have brought it.
fn present(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}
