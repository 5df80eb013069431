//! Where containers are kept: a directory for each below the root directory, locked while it is in use.
//!
//! The lock is flock(2) on the container's directory itself, so it ends with its holder, however that ends. A
//! directory that nobody has locked was left by a holder that was killed, and whoever locks it next has it.
//! Nothing here follows a symbolic link or names a file by more than one path component.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::id::ContainerId;
use crate::state::State;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";

/// How often locking is tried again because a holder removed the directory at that moment.
const ATTEMPTS: u32 = 100;

/// Why a container's directory cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("XDG_RUNTIME_DIR is not set: name a directory for the containers' state with --root")]
    NoRoot,
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: must be a directory, and not a symbolic link", .0.display())]
    NotADirectory(PathBuf),
    #[error("{}: belongs to another user or can be written by others", .0.display())]
    NotOurs(PathBuf),
    #[error("container {0}: an id in use")]
    InUse(ContainerId),
    #[error("state of the container")]
    State(#[from] serde_json::Error),
}

/// The directory of all containers.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    dir: OwnedFd,
}

/// The directory of one container. It is removed with this value.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    path: PathBuf,
    root: OwnedFd,
    dir: OwnedFd,
}

/// Where the containers' state is when the command line does not say.
pub(crate) fn default_root() -> Result<PathBuf, StoreError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/drupe"));
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    runtime_dir.map(|dir| PathBuf::from(dir).join("drupe")).ok_or(StoreError::NoRoot)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Store {
    /// Opens the directory, and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |source| StoreError::File { path: path.into(), source };
        // Without trailing slashes, behind which a symbolic link would be followed.
        let path: PathBuf = path.components().collect();
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => {}
            // What is there, and is not a directory, is told apart below.
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
            Err(problem) => return Err(error(problem)),
        }
        let dir = open_directory(rustix::fs::CWD, &path, &path)?;
        let stat = rustix::fs::fstat(&dir).map_err(|errno| error(errno.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err(StoreError::NotOurs(path));
        }
        Ok(Self { path, dir })
    }

    /// Makes the directory of a container, locked. One that nobody has locked is taken over and emptied.
    pub(crate) fn create(&self, id: &ContainerId) -> Result<Entry, StoreError> {
        let path = self.path.join(id.as_str());
        let error = |errno: Errno| StoreError::File { path: path.clone(), source: errno.into() };
        for _ in 0..ATTEMPTS {
            match rustix::fs::mkdirat(&self.dir, id.as_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(error(errno)),
            }
            let dir = match open_directory(&self.dir, Path::new(id.as_str()), &path) {
                Ok(dir) => dir,
                // Removed by its holder between the two calls.
                Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse(id.clone())),
                Err(errno) => return Err(error(errno)),
            }
            // A holder may have removed it after we opened it: then the lock is on nothing.
            if !self.has(id, &dir).map_err(error)? {
                continue;
            }
            clear(&dir).map_err(error)?;
            let root =
                self.dir.try_clone().map_err(|source| StoreError::File { path: path.clone(), source })?;
            return Ok(Entry { name: id.to_string(), path, root, dir });
        }
        Err(StoreError::InUse(id.clone()))
    }

    fn has(&self, id: &ContainerId, dir: &OwnedFd) -> Result<bool, Errno> {
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        match rustix::fs::statat(&self.dir, id.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok(same(&named, &rustix::fs::fstat(dir)?)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl Entry {
    /// Writes state.json, whole or not at all. It is not synced to disk: after a crash of the host no
    /// container runs, and the boot id in the file says so.
    pub(crate) fn write(&self, state: &State) -> Result<(), StoreError> {
        let json = serde_json::to_vec(state)?;
        self.replace(&json).map_err(|source| StoreError::File { path: self.path.join(STATE), source })
    }

    fn replace(&self, json: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, STATE_NEW, flags, Mode::RUSR | Mode::WUSR)?;
        std::fs::File::from(file).write_all(json)?;
        rustix::fs::renameat(&self.dir, STATE_NEW, &self.dir, STATE)?;
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let removed = clear(&self.dir)
            .and_then(|()| rustix::fs::unlinkat(&self.root, self.name.as_str(), AtFlags::REMOVEDIR));
        if let Err(errno) = removed {
            log::warn!("{}: cannot be removed: {errno}", self.path.display());
        }
    }
}

fn open_directory(at: impl std::os::fd::AsFd, name: &Path, path: &Path) -> Result<OwnedFd, StoreError> {
    rustix::fs::openat(at, name, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => StoreError::NotADirectory(path.into()),
        errno => StoreError::File { path: path.into(), source: errno.into() },
    })
}

/// Removes the files in a directory. There are no directories in it; one that was put there stays, and is
/// an error.
fn clear(dir: &OwnedFd) -> Result<(), Errno> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn id(id: &str) -> ContainerId {
        id.parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("a/b")).unwrap();
        (dir, store)
    }

    #[test]
    fn directories_are_private_and_are_removed() {
        let (_dir, store) = store();
        let entry = store.create(&id("x")).unwrap();
        for path in [&store.path, &entry.path] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
        entry.replace(b"one").unwrap();
        entry.replace(b"two").unwrap();
        assert_eq!(fs::read(entry.path.join(STATE)).unwrap(), b"two");
        assert_eq!(fs::read_dir(&entry.path).unwrap().count(), 1);
        drop(entry);
        assert_eq!(fs::read_dir(&store.path).unwrap().count(), 0);
    }

    #[test]
    fn an_id_is_in_use_until_its_holder_ends() {
        let (_dir, store) = store();
        let entry = store.create(&id("x")).unwrap();
        let error = store.create(&id("x")).unwrap_err();
        assert_eq!(error.to_string(), "container x: an id in use");
        assert!(entry.path.exists());
        store.create(&id("y")).unwrap();
        drop(entry);
        store.create(&id("x")).unwrap();
    }

    #[test]
    fn a_directory_without_a_holder_is_taken_over() {
        let (_dir, store) = store();
        let left = store.path.join("x");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(STATE), "stale").unwrap();
        symlink("/etc/passwd", left.join(STATE_NEW)).unwrap();
        let entry = store.create(&id("x")).unwrap();
        assert_eq!(fs::read_dir(&left).unwrap().count(), 0);
        drop(entry);
        assert!(!left.exists());
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, store) = store();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("keep"), "").unwrap();
        symlink(&elsewhere, store.path.join("x")).unwrap();
        assert!(matches!(store.create(&id("x")), Err(StoreError::NotADirectory(_))));
        symlink(&elsewhere, dir.path().join("root")).unwrap();
        for name in ["root", "root/", "elsewhere/keep"] {
            let error = Store::open(&dir.path().join(name)).unwrap_err();
            assert!(matches!(error, StoreError::NotADirectory(_)), "{name}: {error}");
        }
        assert!(elsewhere.join("keep").exists());
    }

    #[test]
    fn a_root_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(Store::open(&root), Err(StoreError::NotOurs(_))));
    }

    #[test]
    fn of_many_that_want_an_id_one_at_a_time_has_it() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let (_dir, store) = store();
        let (holders, had) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(entry) = store.create(&id("x")) {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            entry.replace(b"{}").unwrap();
                            had.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(had.into_inner() > 0);
        assert_eq!(fs::read_dir(&store.path).unwrap().count(), 0);
    }
}
