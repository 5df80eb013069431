//! The container's root filesystem: assembled on a staging directory in the mount namespace of the child that
//! calls, then made its root by pivot_root, with everything of the agent detached.
//!
//! The kernel cannot pivot away from the initramfs itself; in a guest the agent therefore lives on a tmpfs over
//! it ([`crate::boot`]), and this code is the same in a guest and in a test.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use drupe_protocol::{GuestConfig, Layer};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::Places;
use crate::devices::Nodes;
use crate::failure::{Named, Result, setup};
use crate::layer::{self, Below};
use crate::mounts::{self, Origins};
use crate::resolve::{self, Leaf};
use crate::sources::Sources;
use crate::terminal::Terminal;
use crate::{devices, masks};

/// What lies over a read-only root in which mount points are missing, for these alone.
const MOUNT_POINTS: Layer = Layer::Tmpfs { bytes: 1 << 20 };

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
    let given = sources.as_mut().map(Sources::take).transpose()?;
    let (root, layer) = attach_root(config, places, given)?;
    let origins = Origins { shares: &places.shares, layer: layer.as_ref().map(AsFd::as_fd) };
    let mut late = Vec::new();
    devices::mount_default(root.as_fd(), config)?;
    for mount in &config.mounts {
        let given = sources.as_mut().map(|sources| sources.take_for(&mount.source)).transpose()?;
        late.extend(mounts::mount(root.as_fd(), origins, mount, given.flatten())?);
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

/// Puts the root filesystem on the stage; gives it, and the layer that is over its share.
///
/// In a user namespace the agent has joined both: its root has no right to the disk of a layer.
fn attach_root(
    config: &GuestConfig,
    places: &Places,
    given: Option<OwnedFd>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let what = || format!("share {:?}", config.root.share);
    let is_joined = given.is_some() && config.root.layer.is_some();
    let share = match given {
        Some(share) => share,
        None => mounts::open_share(&places.shares, &config.root.share, true).named("root.path", what())?,
    };
    let is_layered = if config.root.readonly && lacks_mount_point(share.as_fd(), config) {
        layer::put(&MOUNT_POINTS, &places.stage)?;
        true
    } else {
        config.root.layer.is_some() && !is_joined
    };
    let below = is_layered.then(|| Below::new(&share, &places.stage)).transpose()?;
    let (root, layer) = match below {
        None => (share, None),
        Some(below) => (below.tree(config.root.layer.is_some())?, Some(below.into_layer())),
    };
    let stage = layer::open_stage(&places.stage).named("root.path", format_args!("{:?}", places.stage))?;
    mounts::attach(root.as_fd(), stage.as_fd()).named("root.path", what())?;
    Ok((root, layer))
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
