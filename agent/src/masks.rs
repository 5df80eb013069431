//! `linux.maskedPaths` and `linux.readonlyPaths`. Paths that do not exist are skipped, as the specification says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::failure::{Named, Result, setup};
use crate::mounts;
use crate::resolve;
use crate::sys;

/// Covers files with the agent's /dev/null and directories with an empty read-only tmpfs.
///
/// The null device is not the container's: an image could have put something else there.
pub(crate) fn mask(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for (index, path) in paths.iter().enumerate() {
        let field = format!("linux.maskedPaths[{index}]");
        let Some(target) = existing(root, path).named(&field, format_args!("{path:?}"))? else { continue };
        let mode = fstat(&target).named(&field, format_args!("{path:?}"))?.st_mode;
        let cover = if FileType::from_raw_mode(mode) != FileType::Directory {
            open_tree(CWD, c"/dev/null", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .named(&field, format_args!("{path:?}: \"/dev/null\""))?
        } else if let Some(empty) = &empty {
            clone(empty.as_fd(), false).named(&field, format_args!("{path:?}"))?
        } else {
            mounts::filesystem("tmpfs", "tmpfs", ["size=4k", "mode=755"].into_iter(), 0, mounts::RDONLY)
                .map_err(|(_, text)| setup(&field, text))?
        };
        mounts::attach(cover.as_fd(), target.as_fd())
            .named(&field, format_args!("{path:?}: cannot be masked"))?;
        if FileType::from_raw_mode(mode) == FileType::Directory && empty.is_none() {
            // Attached mounts can be cloned, detached ones cannot (before Linux 6.15).
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Puts a read-only view of each path over itself.
pub(crate) fn make_read_only(root: BorrowedFd<'_>, paths: &[String]) -> Result<()> {
    for (index, path) in paths.iter().enumerate() {
        let field = format!("linux.readonlyPaths[{index}]");
        let what = || format!("{path:?}: cannot be made read-only");
        let Some(target) = existing(root, path).named(&field, format_args!("{path:?}"))? else { continue };
        let view = clone(target.as_fd(), true).named(&field, what())?;
        sys::mount_setattr(view.as_fd(), true, mounts::RDONLY, 0, 0).named(&field, what())?;
        mounts::attach(view.as_fd(), target.as_fd()).named(&field, what())?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Errno> {
    match resolve::open(root, Path::new(path)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn clone(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags)
}
