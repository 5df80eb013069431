//! Where containers are kept: a directory for each below the root directory.
//!
//! A container's directory is made under a name of its own (`~PID.N`, which no id can be), filled, and renamed;
//! it is removed the other way round. So it is there whole or not at all. Who makes or removes one has it locked by
//! flock(2): a `~` directory that nobody has locked is what a killed process left, and is swept away.
//!
//! Nothing here follows a symbolic link or names a file by more than one path component, and no file is removed
//! that drupe does not make.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::id::ContainerId;
use super::lock::{self, Held, Lock};
use super::record::{self, Record, Stale};
use crate::cgroup;
use crate::resources::Resources;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
const LIMITS: &str = "limits.json";
const LIMITS_NEW: &str = "limits.json.new";
/// The name of the monitor's socket.
pub(crate) const CONTROL: &str = "control";

/// Every file that a container's directory can have.
const FILES: [&str; 8] = [STATE, STATE_NEW, LIMITS, LIMITS_NEW, "alive", "creating", "updating", CONTROL];

/// First character of the names of directories in the making or in removal.
const TEMPORARY: char = '~';

/// How often a temporary name is tried that somebody else takes at that moment.
const ATTEMPTS: usize = 100;

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
    #[error("{}: holds {name:?}, which is no file of drupe", path.display())]
    Foreign { path: PathBuf, name: String },
    #[error("container with given ID already exists")]
    Exists,
    #[error("container is still being created after {} s", .0.as_secs())]
    Creating(Duration),
    #[error("the container is being removed by another process")]
    Busy,
    #[error("state of the container")]
    State(#[from] serde_json::Error),
}

/// The directory of all containers.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    dir: OwnedFd,
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    path: PathBuf,
    root: OwnedFd,
    dir: OwnedFd,
}

/// Where the containers' state is when the command line does not say.
pub(crate) fn default_root() -> Result<PathBuf, StoreError> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let of_user = runtime_dir.map(|dir| PathBuf::from(dir).join("drupe"));
    if !rustix::process::geteuid().is_root() {
        return of_user.ok_or(StoreError::NoRoot);
    }
    // As for runc: who is root of a user namespace alone, as rootless podman makes it, is a user like others.
    let is_user = cgroup::in_user_namespace() && std::env::var_os("USER").is_none_or(|name| name != "root");
    Ok(of_user.filter(|_| is_user).unwrap_or_else(|| PathBuf::from("/run/drupe")))
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Store {
    /// Opens the directory, and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // Without trailing slashes, behind which a symbolic link would be followed.
        let path: PathBuf = path.components().collect();
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => {}
            // What is there, and is not a directory, is told apart below.
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::File { path, source }),
        }
        Self::opened(path)
    }

    /// Opens the directory; `None` if it is missing, so that there are no containers.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, StoreError> {
        match Self::opened(path.components().collect()) {
            Ok(store) => Ok(Some(store)),
            Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn opened(path: PathBuf) -> Result<Self, StoreError> {
        let dir = open_directory(rustix::fs::CWD, &path, &path)?;
        check_owner(&dir, &path)?;
        Ok(Self { path, dir })
    }

    /// Makes the directory of a container with its record in it, locked as being created.
    pub(crate) fn create(&self, id: &ContainerId, record: &Record) -> Result<(Entry, Held), StoreError> {
        self.sweep();
        let (temporary, entry) = self.temporary()?;
        let made = entry.hold(Lock::Creating).and_then(|held| {
            entry.write(record)?;
            let renamed = rustix::fs::renameat_with(
                &self.dir,
                temporary.as_str(),
                &self.dir,
                id.as_str(),
                RenameFlags::NOREPLACE,
            );
            match renamed {
                Ok(()) => Ok(held),
                Err(Errno::EXIST) => Err(StoreError::Exists),
                Err(errno) => Err(entry.error(errno)),
            }
        });
        let held = match made {
            Ok(held) => held,
            Err(error) => {
                entry.discard()?;
                return Err(error);
            }
        };
        rustix::fs::flock(&entry.dir, FlockOperation::Unlock).map_err(|errno| entry.error(errno))?;
        let path = self.path.join(id.as_str());
        Ok((Entry { name: id.to_string(), path, ..entry }, held))
    }

    /// The directory of a container, if there is one.
    pub(crate) fn entry(&self, id: &ContainerId) -> Result<Option<Entry>, StoreError> {
        self.named(id.as_str())
    }

    fn named(&self, name: &str) -> Result<Option<Entry>, StoreError> {
        let path = self.path.join(name);
        let dir = match open_directory(&self.dir, Path::new(name), &path) {
            Ok(dir) => dir,
            Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        check_owner(&dir, &path)?;
        let root = self.dir.try_clone().map_err(|source| StoreError::File { path: path.clone(), source })?;
        Ok(Some(Entry { name: name.to_owned(), path, root, dir }))
    }

    /// The ids of all containers, sorted. What has another kind of name is no container.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, StoreError> {
        let mut ids: Vec<ContainerId> = self.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let error = |errno: Errno| StoreError::File { path: self.path.clone(), source: errno.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(error)? {
            let entry = entry.map_err(error)?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Makes a directory under a temporary name, locked by flock(2).
    fn temporary(&self) -> Result<(String, Entry), StoreError> {
        for _ in 0..ATTEMPTS {
            let name = temporary_name();
            match rustix::fs::mkdirat(&self.dir, name.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => {
                    return Err(StoreError::File { path: self.path.join(name), source: errno.into() });
                }
            }
            // Who sweeps may have been faster.
            if let Some(entry) = self.named(&name)?
                && entry.claim()?
            {
                return Ok((name, entry));
            }
        }
        Err(StoreError::Busy)
    }

    /// Removes what processes left that were killed while they made or removed a container's directory.
    pub(crate) fn sweep(&self) {
        for name in self.names().unwrap_or_default() {
            if name.starts_with(TEMPORARY)
                && let Ok(Some(entry)) = self.named(&name)
                && let Ok(true) = entry.claim()
                && let Err(error) = entry.discard()
            {
                log::warn!("{}", crate::text::chain(&error));
            }
        }
    }
}

impl Entry {
    /// Another one of the same directory.
    pub(crate) fn try_clone(&self) -> Result<Self, StoreError> {
        let clone = |fd: &OwnedFd| fd.try_clone().map_err(|source| self.io_error(source));
        let (root, dir) = (clone(&self.root)?, clone(&self.dir)?);
        Ok(Self { name: self.name.clone(), path: self.path.clone(), root, dir })
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The container's id.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who owns the directory.
    pub(crate) fn owner(&self) -> Result<u32, StoreError> {
        Ok(rustix::fs::fstat(&self.dir).map_err(|errno| self.error(errno))?.st_uid)
    }

    /// When the directory was last changed, to the second.
    pub(crate) fn changed(&self) -> Result<SystemTime, StoreError> {
        let stat = rustix::fs::fstat(&self.dir).map_err(|errno| self.error(errno))?;
        let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Whether the directory still has its name.
    pub(crate) fn is_named(&self) -> Result<bool, StoreError> {
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let own = rustix::fs::fstat(&self.dir).map_err(|errno| self.error(errno))?;
        match rustix::fs::statat(&self.root, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok(same(&named, &own)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error(errno)),
        }
    }

    /// Takes a lock.
    pub(crate) fn hold(&self, which: Lock) -> Result<Held, StoreError> {
        let file = self.lock_file(which, OFlags::CREATE).map_err(|errno| self.error(errno))?;
        Held::take(file).map_err(|source| self.io_error(source))?.ok_or(StoreError::Busy)
    }

    /// Takes a lock, after waiting for whoever has it.
    pub(crate) fn hold_in_turn(&self, which: Lock) -> Result<Held, StoreError> {
        let file = self.lock_file(which, OFlags::CREATE).map_err(|errno| self.error(errno))?;
        Held::take_in_turn(file).map_err(|source| self.io_error(source))
    }

    /// Whether somebody holds a lock.
    pub(crate) fn is_locked(&self, which: Lock) -> Result<bool, StoreError> {
        match self.lock_file(which, OFlags::empty()) {
            Ok(file) => lock::is_held(&file).map_err(|source| self.io_error(source)),
            // What is no file cannot be locked.
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Ok(false),
            Err(errno) => Err(self.error(errno)),
        }
    }

    /// Waits until nobody holds a lock, for so long at most. `false`: somebody still does.
    pub(crate) fn wait_for(&self, which: Lock, limit: Duration) -> Result<bool, StoreError> {
        match self.lock_file(which, OFlags::empty()) {
            Ok(file) => lock::wait(&file, limit).map_err(|source| self.io_error(source)),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(self.error(errno)),
        }
    }

    fn lock_file(&self, which: Lock, create: OFlags) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | create;
        rustix::fs::openat(&self.dir, which.file(), flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Reads the record.
    pub(crate) fn read(&self) -> Result<Record, Stale> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, STATE, flags, Mode::empty()).map_err(io::Error::from)?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        let unfit = |why: &str| Stale::Unreadable(io::Error::other(why));
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unfit("not a regular file"));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(unfit("belongs to another user"));
        }
        let mut json = Vec::new();
        File::from(file).take(record::LONGEST).read_to_end(&mut json)?;
        Record::parse(&json, &self.name)
    }

    /// Writes the record, whole or not at all. It is not synced to disk: after a crash of the host no
    /// container runs, and the boot id in the file says so.
    pub(crate) fn write(&self, record: &Record) -> Result<(), StoreError> {
        self.replace(STATE, STATE_NEW, &serde_json::to_vec(record)?)
    }

    /// Limits that were changed since the container was made, which only `update` writes; `None`: they were not.
    pub(crate) fn read_limits(&self) -> Option<Resources> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, LIMITS, flags, Mode::empty()).ok()?;
        let mut json = Vec::new();
        File::from(file).take(record::LONGEST).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Keeps limits that were changed.
    pub(crate) fn write_limits(&self, limits: &Resources) -> Result<(), StoreError> {
        self.replace(LIMITS, LIMITS_NEW, &serde_json::to_vec(limits)?)
    }

    fn replace(&self, name: &str, new: &str, json: &[u8]) -> Result<(), StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let replaced = || -> io::Result<()> {
            let file = rustix::fs::openat(&self.dir, new, flags, Mode::RUSR | Mode::WUSR)?;
            File::from(file).write_all(json)?;
            Ok(rustix::fs::renameat(&self.dir, new, &self.dir, name)?)
        };
        replaced().map_err(|source| StoreError::File { path: self.path.join(name), source })
    }

    /// Waits until nobody else removes the container, and keeps others from it as long as this value or a clone of it
    /// lives. `false`: another process has removed it.
    pub(crate) fn claim_removal(&self) -> Result<bool, StoreError> {
        self.check_files()?;
        loop {
            match rustix::fs::flock(&self.dir, FlockOperation::LockExclusive) {
                Ok(()) => return self.is_named(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(errno)),
            }
        }
    }

    /// Removes the directory, after [`Entry::claim_removal`]. The caller knows that the container is over.
    pub(crate) fn remove(mut self) -> Result<(), StoreError> {
        self.rename(std::iter::repeat_with(temporary_name).take(ATTEMPTS))?;
        self.discard()
    }

    /// Takes the first of these names that is free: of a process that had the same id and was killed there may be one
    /// that is not, with files in it that nothing here removes.
    fn rename(&mut self, names: impl Iterator<Item = String>) -> Result<(), StoreError> {
        for new in names {
            let (root, flags) = (&self.root, RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(root, self.name.as_str(), root, new.as_str(), flags) {
                Ok(()) => {
                    self.name = new;
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error(errno)),
            }
        }
        Err(StoreError::Busy)
    }

    /// Locks the directory by flock(2); `false` if another process has, or it has lost its name.
    fn claim(&self) -> Result<bool, StoreError> {
        match rustix::fs::flock(&self.dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.is_named(),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(self.error(errno)),
        }
    }

    /// Removes a directory that the caller has claimed.
    fn discard(&self) -> Result<(), StoreError> {
        self.check_files()?;
        for name in FILES {
            match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.error(errno)),
            }
        }
        rustix::fs::unlinkat(&self.root, self.name.as_str(), AtFlags::REMOVEDIR)
            .map_err(|errno| self.error(errno))
    }

    /// A directory with something else in it was put there by somebody else: none of it is removed.
    fn check_files(&self) -> Result<(), StoreError> {
        for entry in Dir::read_from(&self.dir).map_err(|errno| self.error(errno))? {
            let entry = entry.map_err(|errno| self.error(errno))?;
            let name = entry.file_name();
            let is = |file: &str| name.to_bytes() == file.as_bytes();
            if !is(".") && !is("..") && !FILES.iter().any(|file| is(file)) {
                return Err(StoreError::Foreign { path: self.path.clone(), name: text(name) });
            }
        }
        Ok(())
    }

    fn error(&self, errno: Errno) -> StoreError {
        self.io_error(errno.into())
    }

    fn io_error(&self, source: io::Error) -> StoreError {
        StoreError::File { path: self.path.clone(), source }
    }
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

fn temporary_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{TEMPORARY}{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn check_owner(dir: &OwnedFd, path: &Path) -> Result<(), StoreError> {
    let stat = rustix::fs::fstat(dir)
        .map_err(|errno| StoreError::File { path: path.into(), source: errno.into() })?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(StoreError::NotOurs(path.into()));
    }
    Ok(())
}

fn open_directory(at: impl AsFd, name: &Path, path: &Path) -> Result<OwnedFd, StoreError> {
    rustix::fs::openat(at, name, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => StoreError::NotADirectory(path.into()),
        errno => StoreError::File { path: path.into(), source: errno.into() },
    })
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
