//! The locks of a container: files that a process holds locked as long as it lives, and no longer.
//!
//! They are open file description locks (fcntl(2), `F_OFD_SETLK`): others can ask for them without taking them, and
//! they end with the last descriptor, however its process ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sys;

/// How often a lock is looked at that is waited for: fcntl(2) has no wait with a limit.
const INTERVAL: Duration = Duration::from_millis(5);

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The monitor's: the container is not over.
    Alive,
    /// `create`'s: it has not returned.
    Creating,
    /// `update`'s: the limits are being changed.
    Updating,
}

impl Lock {
    /// The name of its file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Creating => "creating",
            Self::Updating => "updating",
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

impl Held {
    /// Takes the lock of an open file; `None` when somebody else has it.
    pub(crate) fn take(file: File) -> io::Result<Option<Self>> {
        match sys::lock(file.as_fd(), sys::Locking::Exclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes it when whoever else has it lets go.
    pub(crate) fn take_in_turn(file: File) -> io::Result<Self> {
        sys::lock(file.as_fd(), sys::Locking::WaitExclusive)?;
        Ok(Self { _file: file })
    }
}

/// Whether somebody holds the lock of this file.
pub(crate) fn is_held(file: &File) -> io::Result<bool> {
    sys::is_locked(file.as_fd())
}

/// Waits until nobody holds it, for so long at most. `false`: somebody still does.
pub(crate) fn wait(file: &File, limit: Duration) -> io::Result<bool> {
    let begin = Instant::now();
    while is_held(file)? {
        if begin.elapsed() >= limit {
            return Ok(false);
        }
        sleep(INTERVAL);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_and_asking_does_not_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alive");
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        assert!(!is_held(&open()).unwrap());
        let held = Held::take(open()).unwrap().unwrap();
        assert!(is_held(&open()).unwrap() && is_held(&open()).unwrap());
        assert!(Held::take(open()).unwrap().is_none());
        assert!(!wait(&open(), Duration::from_millis(20)).unwrap(), "it is still held");
        let waiter = open();
        let waits = std::thread::spawn(move || wait(&waiter, Duration::MAX).unwrap());
        drop(held);
        assert!(waits.join().unwrap());
        assert!(!is_held(&open()).unwrap());
    }

    #[test]
    fn who_takes_it_in_turn_has_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updating");
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let count = dir.path().join("count");
        std::fs::write(&count, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _held = Held::take_in_turn(open()).unwrap();
                        let known: u32 = std::fs::read_to_string(&count).unwrap().parse().unwrap();
                        std::fs::write(&count, (known + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&count).unwrap(), "200");
    }
}
