//! A cgroup has one container: its monitor has the directory locked by flock(2) for as long as it lives.
//!
//! That it is free is seen long before the monitor enters it, so that is looked at again behind the lock. Whoever
//! removes a container ends nothing in a cgroup that another one has by then.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{CgroupError, directory};

/// The locks of a container's cgroup. It is the container's until they are dropped.
#[derive(Debug, Default)]
pub(crate) struct Occupation(Vec<File>);

/// What became of a lock.
#[derive(Debug)]
enum Locking {
    Locked(File),
    Taken,
    /// There is no such directory.
    Missing,
}

impl Occupation {
    /// Puts a process into one more directory of the container, if nobody else is in it or below it.
    pub(super) fn enter(&mut self, path: &Path, pid: u32) -> Result<(), CgroupError> {
        match lock(path)? {
            Locking::Locked(file) => self.0.push(file),
            Locking::Taken => return Err(CgroupError::Occupied { path: path.into(), count: 1 }),
            Locking::Missing => {
                let source = io::ErrorKind::NotFound.into();
                return Err(CgroupError::File { path: path.into(), source });
            }
        }
        directory::check_free_but_for(path, pid)?;
        directory::enter(path, pid)
    }

    /// Keeps others from entering one more directory. `false`: another container has it.
    pub(super) fn claim(&mut self, path: &Path) -> Result<bool, CgroupError> {
        match lock(path)? {
            Locking::Locked(file) => self.0.push(file),
            Locking::Taken => return Ok(false),
            Locking::Missing => {}
        }
        Ok(true)
    }
}

fn lock(path: &Path) -> Result<Locking, CgroupError> {
    try_lock(path).or_else(|source| match source.kind() {
        io::ErrorKind::NotFound => Ok(Locking::Missing),
        _ => Err(CgroupError::File { path: path.into(), source }),
    })
}

fn try_lock(path: &Path) -> io::Result<Locking> {
    loop {
        let file = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Locking::Taken),
            Err(errno) => return Err(errno.into()),
        }
        // It may have been removed, and made anew, before it was locked.
        let (locked, named) = (file.metadata()?, fs::metadata(path)?);
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok(Locking::Locked(file));
        }
    }
}
