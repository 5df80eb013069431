//! `linux.devices`, and the default devices and links of /dev (OCI runtime specification: Default Devices, Dev
//! symbolic links).
//!
//! Nodes are made only in a filesystem of the guest's kernel, never on a share. Where the container's place for one is
//! no such, or the container has a user namespace, a node that was made elsewhere is bound there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use drupe_protocol::{GuestConfig, MountSource};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat,
    openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use crate::failure::{Named, Result, setup};
use crate::ids;
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

/// Fills /dev: the configuration's devices first, then what it leaves out of the default ones. The caller's umask is 0.
///
/// In a /dev that is a bind mount nothing is made by default: it is the user's own.
pub(crate) fn make(root: BorrowedFd<'_>, config: &GuestConfig, nodes: Nodes) -> Result<()> {
    let mut nodes = nodes.0.into_iter();
    for device in wanted(config) {
        let path = Path::new(&device.path);
        if device.bound {
            let node = nodes.next().ok_or_else(|| setup(&device.field, "no node was made for it"))?;
            bind(root, &device, &node)?;
        } else {
            let what = format!("{:?}: cannot be made", device.path);
            let parent = path.parent().unwrap_or(Path::new("/"));
            let (parent, _) =
                resolve::open_or_make(root, parent, Leaf::Directory).named(&device.field, &what)?;
            make_node(parent.as_fd(), path.file_name().unwrap_or_default(), &device)?;
        }
    }
    if is_bound(config) {
        return Ok(());
    }
    let dev = resolve::open(root, Path::new("/dev")).named("mounts", "\"/dev\"")?;
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Err(Errno::EXIST) => {}
            made => made.named("mounts", format_args!("\"/dev/{name}\": cannot be made"))?,
        }
    }
    Ok(())
}

/// Nodes that are bound into the container instead of being made in it, as attached mounts of their own, in the
/// order of the devices.
#[derive(Debug, Default)]
pub(crate) struct Nodes(pub(crate) Vec<OwnedFd>);

impl Nodes {
    /// How many there are for a configuration.
    pub(crate) fn count(config: &GuestConfig) -> usize {
        wanted(config).filter(|device| device.bound).count()
    }

    /// Makes them on a tmpfs that lies on `stage` meanwhile. Needs the guest's own rights.
    pub(crate) fn make(config: &GuestConfig, stage: &Path) -> Result<Self> {
        let bound: Vec<Device> = wanted(config).filter(|device| device.bound).collect();
        if bound.is_empty() {
            return Ok(Self::default());
        }
        const FIELD: &str = "linux.devices";
        let target = resolve_stage(stage).named(FIELD, "place for nodes")?;
        let tree = mounts::filesystem("tmpfs", "devices", ["mode=755"].into_iter(), 0, 0)
            .map_err(|(_, text)| setup(FIELD, text))?;
        mounts::attach(tree.as_fd(), target.as_fd()).named(FIELD, "place for nodes")?;
        let made = bound.iter().enumerate().map(|(index, device)| {
            let name = index.to_string();
            make_node(tree.as_fd(), name.as_ref(), device)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(&tree, &name, flags).named(&device.field, format_args!("{:?}: node", device.path))
        });
        let made: Result<Vec<OwnedFd>> = made.collect();
        unmount(stage, UnmountFlags::DETACH).named(FIELD, "place for nodes")?;
        made.map(Self)
    }
}

/// Where nodes are bound in the container.
pub(crate) fn bound_paths(config: &GuestConfig) -> impl Iterator<Item = String> {
    wanted(config).filter(|device| device.bound).map(|device| device.path)
}

fn resolve_stage(stage: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A device that the container is to have.
#[derive(Clone, Debug)]
struct Device {
    field: String,
    path: String,
    kind: FileType,
    device: (u32, u32),
    mode: u32,
    /// Ids in the guest.
    owner: (u32, u32),
    /// A default one: anything that is there already is right.
    default: bool,
    /// It is bound, not made: in a user namespace nobody makes devices, nor are there any on a share.
    bound: bool,
}

fn wanted(config: &GuestConfig) -> impl Iterator<Item = Device> {
    let user = config.namespaces.user.as_ref();
    let in_dev = !is_bound(config);
    let owner = move |uid, gid| {
        user.map_or((uid, gid), |user| {
            let known = |ranges, id| ids::outside(ranges, id).unwrap_or(id);
            (known(&user.uids, uid), known(&user.gids, gid))
        })
    };
    let configured =
        config.devices.iter().filter(|node| !mounts::same(&node.path, "/dev/ptmx")).map(move |node| Device {
            field: node.field.clone(),
            path: node.path.clone(),
            kind: FileType::from_raw_mode(node.kind),
            device: (node.major, node.minor),
            mode: node.mode,
            owner: owner(node.uid, node.gid),
            default: false,
            bound: user.is_some() || !(in_dev && Path::new(&node.path).starts_with("/dev")),
        });
    let default = DEVICES.into_iter().filter(move |_| in_dev).map(move |(name, major, minor)| Device {
        field: "mounts".to_owned(),
        path: format!("/dev/{name}"),
        kind: FileType::CharacterDevice,
        device: (major, minor),
        mode: 0o666,
        owner: owner(0, 0),
        default: true,
        bound: user.is_some(),
    });
    configured.chain(default)
}

/// Whether /dev is a directory of the host.
fn is_bound(config: &GuestConfig) -> bool {
    let mut mounts = config.mounts.iter();
    mounts
        .any(|mount| mounts::is_dev(&mount.destination) && matches!(mount.source, MountSource::Share { .. }))
}

/// Makes one node, with mode and owner. What is there already must be the same device.
fn make_node(parent: BorrowedFd<'_>, name: &OsStr, device: &Device) -> Result<()> {
    let what = format!("{:?}: cannot be made", device.path);
    let (major, minor) = device.device;
    let mode = Mode::from_raw_mode(device.mode);
    match mknodat(parent, name, device.kind, mode, makedev(major, minor)) {
        Err(Errno::EXIST) if device.default => Ok(()),
        Err(Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = openat(parent, name, flags, Mode::empty()).named(&device.field, &what)?;
            if is_same(there.as_fd(), device).named(&device.field, &what)? {
                return Ok(());
            }
            Err(setup(&device.field, format_args!("{:?}: exists, and is another file", device.path)))
        }
        made => {
            made.named(&device.field, &what)?;
            let owner = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
            chownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
                .named(&device.field, format_args!("{:?}: owner {:?}", device.path, device.owner))?;
            // Whatever the umask is.
            chmodat(parent, name, mode, AtFlags::empty())
                .named(&device.field, format_args!("{:?}: mode {:o}", device.path, device.mode))
        }
    }
}

/// Shows a node in the container. An empty file in its place is taken for a mount point that an earlier run made.
fn bind(root: BorrowedFd<'_>, device: &Device, node: &OwnedFd) -> Result<()> {
    let what = format!("{:?}: cannot be bound", device.path);
    let (target, existed) =
        resolve::open_or_make(root, Path::new(&device.path), Leaf::File).named(&device.field, &what)?;
    if existed {
        if device.default || is_same(target.as_fd(), device).named(&device.field, &what)? {
            return Ok(());
        }
        let stat = fstat(&target).named(&device.field, &what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
            return Err(setup(&device.field, format_args!("{:?}: exists, and is another file", device.path)));
        }
    }
    mounts::attach(node.as_fd(), target.as_fd()).named(&device.field, &what)
}

fn is_same(there: BorrowedFd<'_>, device: &Device) -> Result<bool, Errno> {
    let stat = fstat(there)?;
    let is_kind = FileType::from_raw_mode(stat.st_mode) == device.kind;
    let is_device = (major(stat.st_rdev), minor(stat.st_rdev)) == device.device;
    Ok(is_kind && (is_device || device.kind == FileType::Fifo))
}
