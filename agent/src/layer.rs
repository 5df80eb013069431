//! What lies over the share of a root filesystem, so that the share is never written: a filesystem of the guest's own,
//! joined with the share by overlayfs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use drupe_protocol::Layer;
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use crate::copy_up;
use crate::failure::{Named, Result, setup};
use crate::mounts;

const FIELD: &str = "root.path";
const WHAT: &str = "writable layer";

/// A layer on the agent's own stage, until this is dropped: children that are born meanwhile have it on theirs.
///
/// The container's processes cannot mount it: its cgroup has no right to the disk.
#[derive(Debug)]
pub(crate) struct Staged<'a>(&'a Path);

impl<'a> Staged<'a> {
    /// Mounts it.
    pub(crate) fn new(layer: &Layer, stage: &'a Path) -> Result<Self> {
        put(layer, stage)?;
        Ok(Self(stage))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0, UnmountFlags::DETACH) {
            crate::log::note(format_args!("{WHAT}: {error}"));
        }
    }
}

/// Mounts a layer on the stage.
pub(crate) fn put(layer: &Layer, stage: &Path) -> Result<()> {
    let layer = filesystem(layer).map_err(|(_, text)| setup(FIELD, format_args!("{WHAT}: {text}")))?;
    open_stage(stage).and_then(|stage| mounts::attach(layer.as_fd(), stage.as_fd())).named(FIELD, WHAT)
}

/// A layer and a share, one over the other on the stage: overlayfs takes only what is mounted somewhere.
#[derive(Debug)]
pub(crate) struct Below<'a> {
    share: &'a OwnedFd,
    layer: OwnedFd,
}

impl<'a> Below<'a> {
    /// Mounts the share; the layer is there.
    pub(crate) fn new(share: &'a OwnedFd, stage: &Path) -> Result<Self> {
        let layer = open_stage(stage).named(FIELD, WHAT)?;
        mounts::attach(share.as_fd(), layer.as_fd()).named(FIELD, WHAT)?;
        Ok(Self { share, layer })
    }

    /// The root of the layer.
    pub(crate) fn layer(&self) -> BorrowedFd<'_> {
        self.layer.as_fd()
    }

    /// Both as one tree, which lies nowhere yet. It looks like the share, and its root has the share's owner and mode.
    ///
    /// With `renames`, which the root of a user namespace cannot have, directories of the share can be renamed.
    pub(crate) fn tree(&self, renames: bool) -> Result<OwnedFd> {
        for name in ["upper", "work"] {
            mkdirat(&self.layer, name, Mode::from_raw_mode(0o755)).named(FIELD, WHAT)?;
        }
        let root = fstat(self.share).named(FIELD, WHAT)?;
        copy_up::give(self.layer.as_fd(), c"upper", &root).named(FIELD, WHAT)?;
        // By descriptor: the name of a share may hold what overlayfs takes for a separator.
        let lower = format!("lowerdir=/proc/self/fd/{}", self.share.as_raw_fd());
        let upper = format!("upperdir=/proc/self/fd/{}/upper", self.layer.as_raw_fd());
        let work = format!("workdir=/proc/self/fd/{}/work", self.layer.as_raw_fd());
        let options = [lower.as_str(), &upper, &work].into_iter().chain(renames.then_some("redirect_dir=on"));
        mounts::filesystem("overlay", "overlay", options, 0, 0)
            .map_err(|(_, text)| setup(FIELD, format_args!("{WHAT}: {text}")))
    }

    /// The layer, for those who mount parts of it.
    pub(crate) fn into_layer(self) -> OwnedFd {
        self.layer
    }

    /// Takes the share off the stage again.
    pub(crate) fn take_away(self, stage: &Path) -> Result<()> {
        unmount(stage, UnmountFlags::DETACH).named(FIELD, WHAT)
    }
}

/// A directory of a layer, as a mount of its own.
pub(crate) fn directory(layer: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    mkdirat(layer, name, Mode::from_raw_mode(0o755))?;
    open_tree(layer, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// The place where roots are assembled: what is mounted there last.
pub(crate) fn open_stage(stage: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn filesystem(layer: &Layer) -> Result<OwnedFd, (&'static str, String)> {
    match layer {
        Layer::Tmpfs { bytes } => {
            let size = format!("size={bytes}");
            mounts::filesystem("tmpfs", "tmpfs", ["mode=755", &size].into_iter(), 0, 0)
        }
        // What the container removes takes no place on the host any more.
        Layer::Ext4 { device } => mounts::filesystem("ext4", device, ["discard"].into_iter(), 0, 0),
    }
}
