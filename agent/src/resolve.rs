//! Paths inside a container's root: opened, and made when missing, without ever leaving it.
//!
//! The image chooses every symbolic link on the way. `openat2` with `RESOLVE_IN_ROOT` keeps the kernel's walk
//! below the root; what is missing is made one component at a time in a directory that was opened that way.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

/// What a missing last component becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    Directory,
    File,
}

/// As many as Linux follows.
const MAX_LINKS: usize = 40;
/// `openat2` asks to be called again when something was renamed during its walk.
const MAX_TRIES: usize = 128;

/// Opens (`O_PATH`) what a path in the container names, last symbolic link followed.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open_with(root, path, OFlags::empty(), ResolveFlags::empty())
}

/// Opens a path that must have no symbolic link in it.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open_with(root, path, OFlags::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Opens what a path names, after making what is missing of it. The flag tells whether it was there before.
pub(crate) fn open_or_make(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> Result<(OwnedFd, bool)> {
    match open(root, path) {
        Err(Errno::NOENT) => make(root, path, leaf).map(|fd| (fd, false)),
        other => other.map(|fd| (fd, true)),
    }
}

fn make(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> Result<OwnedFd> {
    let mut left = Vec::new();
    push_components(&mut left, path);
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        match open_with(root, &next, OFlags::NOFOLLOW, ResolveFlags::empty()) {
            Ok(fd) if is_symlink(fd.as_fd())? => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target =
                    PathBuf::from(OsString::from_vec(readlinkat(&fd, c"", Vec::new())?.into_bytes()));
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                push_components(&mut left, &target);
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let leaf = if left.is_empty() { leaf } else { Leaf::Directory };
                make_one(root, &done, &name, leaf)?;
            }
            Err(error) => return Err(error),
        }
        done = next;
    }
    open_plain(root, &done)
}

fn make_one(root: BorrowedFd<'_>, parent: &Path, name: &OsStr, leaf: Leaf) -> Result<()> {
    let parent = open_with(root, parent, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?;
    let mode = Mode::from_raw_mode(0o755);
    let made = match leaf {
        Leaf::Directory => mkdirat(parent, name, mode),
        Leaf::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, mode).map(drop)
        }
    };
    // Another container of the pod may have made it; the next step looks at what it is.
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}

fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        tries += 1;
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < MAX_TRIES => {}
            other => return other,
        }
    }
}

fn is_symlink(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Symlink)
}

/// Pushes the components of a path, last one first.
fn push_components(left: &mut Vec<OsString>, path: &Path) {
    left.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Tree {
        dir: tempfile::TempDir,
    }

    impl Tree {
        /// `root/` is the container's root, `canary/` beside it must stay empty.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("root")).unwrap();
            fs::create_dir(dir.path().join("canary")).unwrap();
            Self { dir }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("root")
        }

        fn canary(&self) -> PathBuf {
            self.dir.path().join("canary")
        }

        fn make(&self, path: &str, leaf: Leaf) -> Result<(OwnedFd, bool)> {
            let root = fs::File::open(self.root()).unwrap();
            open_or_make(root.as_fd(), Path::new(path), leaf)
        }

        fn assert_canary_untouched(&self) {
            assert_eq!(fs::read_dir(self.canary()).unwrap().count(), 0);
            assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let tree = Tree::new();
        assert!(!tree.make("/a/b/c", Leaf::Directory).unwrap().1);
        assert!(tree.make("/a/b/c", Leaf::Directory).unwrap().1);
        assert!(!tree.make("/a/d/file", Leaf::File).unwrap().1);
        assert!(tree.root().join("a/b/c").is_dir());
        assert!(tree.root().join("a/d/file").is_file());
    }

    #[test]
    fn links_lead_inside_the_root_or_nowhere() {
        let tree = Tree::new();
        let canary = tree.canary();
        let outside = canary.to_str().unwrap();
        symlink(outside, tree.root().join("dev")).unwrap();
        symlink("../../../../../canary", tree.root().join("up")).unwrap();
        symlink("dev/../../canary/x", tree.root().join("through")).unwrap();
        for path in ["/dev", "/dev/pts", "/up", "/up/a", "/through", "/../canary/y", "/up/../../canary/z"] {
            tree.make(path, Leaf::Directory).unwrap();
            tree.assert_canary_untouched();
        }
        assert!(tree.root().join(outside.trim_start_matches('/')).join("pts").is_dir());
        assert!(tree.root().join("canary/y").is_dir());
        assert!(tree.make("/up/new", Leaf::File).is_ok());
        tree.assert_canary_untouched();
    }

    #[test]
    fn dangling_links_are_followed_when_making() {
        let tree = Tree::new();
        fs::create_dir(tree.root().join("var")).unwrap();
        symlink("/run", tree.root().join("var/run")).unwrap();
        tree.make("/var/run/secrets/token", Leaf::File).unwrap();
        assert!(tree.root().join("run/secrets/token").is_file());
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let tree = Tree::new();
        symlink("loop", tree.root().join("loop")).unwrap();
        fs::write(tree.root().join("file"), "").unwrap();
        assert_eq!(tree.make("/loop", Leaf::Directory).unwrap_err(), Errno::LOOP);
        assert_eq!(tree.make("/loop/a", Leaf::Directory).unwrap_err(), Errno::LOOP);
        assert_eq!(tree.make("/file/a", Leaf::Directory).unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn plain_paths_refuse_links() {
        let tree = Tree::new();
        symlink("tmp", tree.root().join("proc")).unwrap();
        fs::create_dir(tree.root().join("tmp")).unwrap();
        let root = fs::File::open(tree.root()).unwrap();
        assert_eq!(open_plain(root.as_fd(), Path::new("/proc")).unwrap_err(), Errno::LOOP);
        assert!(open_plain(root.as_fd(), Path::new("/tmp")).is_ok());
    }
}
