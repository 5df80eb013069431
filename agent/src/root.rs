//! The container's root filesystem: assembled on a staging directory in the mount namespace of the child that
//! calls, then made its root by pivot_root, with everything of the agent detached.
//!
//! The kernel cannot pivot away from the initramfs itself; in a guest the agent therefore lives on a tmpfs over
//! it ([`crate::boot`]), and this code is the same in a guest and in a test.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use drupe_protocol::GuestConfig;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::Places;
use crate::devices::Nodes;
use crate::failure::{Named, Result, setup};
use crate::resolve::{self, Leaf};
use crate::sources::Sources;
use crate::terminal::Terminal;
use crate::{devices, masks, mounts};

/// Builds the container's file tree and returns its root, and the terminal of its process, if it has one.
///
/// Nothing of it is seen outside this mount namespace. In a user namespace `sources` are what the agent has made.
pub(crate) fn assemble(
    config: &GuestConfig,
    places: &Places,
    mut sources: Option<Sources>,
) -> Result<(OwnedFd, Option<Terminal>)> {
    make_private().named("root", "mount propagation")?;
    let nodes = if sources.is_none() { Nodes::make(config, &places.stage)? } else { Nodes::default() };
    let root = attach_root(config, places, sources.as_mut().map(Sources::take).transpose()?)?;
    let mut late = Vec::new();
    devices::mount_default(root.as_fd(), config)?;
    for mount in &config.mounts {
        let given = sources.as_mut().map(|sources| sources.take_for(&mount.source)).transpose()?;
        late.extend(mounts::mount(root.as_fd(), &places.shares, mount, given.flatten())?);
    }
    devices::make(root.as_fd(), config, sources.map_or(nodes, Sources::into_nodes))?;
    let terminal = Terminal::for_process(root.as_fd(), &config.process)?;
    if let Some(terminal) = &terminal {
        terminal.bind_console(root.as_fd())?;
    }
    make_cwd(root.as_fd(), &config.process.cwd)?;
    masks::make_read_only(root.as_fd(), &config.readonly_paths)?;
    masks::mask(root.as_fd(), &config.masked_paths)?;
    for mount in late {
        mounts::set(mount.as_fd(), false, mounts::RDONLY).named("mounts", "\"ro\"")?;
    }
    if config.root.readonly {
        mounts::set(root.as_fd(), false, mounts::RDONLY).named("root.readonly", "true")?;
    }
    Ok((root, terminal))
}

/// Makes an assembled tree the root of this process, and lets go of the old one.
pub(crate) fn enter(root: &OwnedFd) -> Result<(), Errno> {
    fchdir(root)?;
    // pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one until it is unmounted.
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    chdir(c"/")
}

/// Stops mount events between this mount namespace and the agent's.
pub(crate) fn make_private() -> Result<(), Errno> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

fn attach_root(config: &GuestConfig, places: &Places, given: Option<OwnedFd>) -> Result<OwnedFd> {
    let what = || format!("share {:?}", config.root.share);
    let stage = openat(CWD, &places.stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .named("root.path", format_args!("{:?}", places.stage))?;
    let share = match given {
        Some(share) => share,
        None => mounts::open_share(&places.shares, &config.root.share, true).named("root.path", what())?,
    };
    mounts::attach(share.as_fd(), stage.as_fd()).named("root.path", what())?;
    if config.root.readonly && lacks_mount_point(share.as_fd(), config) {
        return overlay(share.as_fd(), places);
    }
    Ok(share)
}

/// Whether the configuration needs a directory or file that is not there and cannot be made in a read-only root.
///
/// What is missing below an earlier mount is made in that mount.
fn lacks_mount_point(root: BorrowedFd<'_>, config: &GuestConfig) -> bool {
    let dev = devices::is_default(config).then_some("/dev");
    let mounts = config.mounts.iter().map(|mount| mount.destination.clone());
    let paths = dev.map(str::to_owned).into_iter().chain(mounts);
    let paths = paths.chain(devices::bound_paths(config)).chain([config.process.cwd.clone()]);
    let mut earlier: Vec<PathBuf> = Vec::new();
    for path in paths {
        let path = normal(Path::new(&path));
        let below = earlier.iter().any(|mount| path.starts_with(mount));
        if !below && matches!(resolve::open(root, &path), Err(Errno::NOENT)) {
            return true;
        }
        earlier.push(path);
    }
    false
}

/// A writable layer of the guest's memory over the read-only share, for mount points only.
fn overlay(share: BorrowedFd<'_>, places: &Places) -> Result<OwnedFd> {
    const FIELD: &str = "root.readonly";
    const WHY: &str = "true: layer for missing mount points";
    let layer = mounts::filesystem("tmpfs", "tmpfs", ["size=1m", "mode=755"].into_iter(), 0, 0)
        .map_err(|(_, text)| setup(FIELD, format_args!("{WHY}: {text}")))?;
    mounts::attach(layer.as_fd(), share).named(FIELD, WHY)?;
    for name in ["upper", "work"] {
        mkdirat(&layer, name, Mode::from_raw_mode(0o755)).named(FIELD, WHY)?;
    }
    // By descriptor: the name of a share may hold what overlayfs takes for a separator.
    let lower = format!("lowerdir=/proc/self/fd/{}", share.as_raw_fd());
    let upper = format!("upperdir=/proc/self/fd/{}/upper", layer.as_raw_fd());
    let work = format!("workdir=/proc/self/fd/{}/work", layer.as_raw_fd());
    let options = [lower.as_str(), &upper, &work];
    let tree = mounts::filesystem("overlay", "overlay", options.into_iter(), 0, 0)
        .map_err(|(_, text)| setup(FIELD, format_args!("{WHY}: {text}")))?;
    let stage = openat(CWD, &places.stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .named(FIELD, WHY)?;
    mounts::attach(tree.as_fd(), stage.as_fd()).named(FIELD, WHY)?;
    Ok(tree)
}

/// As runc does: a working directory that does not exist is made.
fn make_cwd(root: BorrowedFd<'_>, cwd: &str) -> Result<()> {
    if !cwd.starts_with('/') {
        return Err(setup("process.cwd", format_args!("{cwd:?}: not an absolute path")));
    }
    resolve::open_or_make(root, Path::new(cwd), Leaf::Directory)
        .map(drop)
        .named("process.cwd", format_args!("{cwd:?}: cannot be made"))
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}
