//! The system calls that neither std nor rustix has: the only unsafe code of this crate.
#![allow(
    unsafe_code,
    reason = "mount_setattr(2), signalfd(2), fork(2) and fcntl(2)'s locks have no safe wrapper in our dependencies"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Makes a detached mount tree private and takes device nodes away from it, and writing if `readonly`: for
/// every mount in the tree, so that none below the first escapes.
pub(crate) fn restrict_mount(mount: impl AsFd, readonly: bool) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NODEV | if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string and the attributes are a live struct of the size that is passed;
    // the kernel reads both and keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A nonblocking signalfd(2) for these signals, which the caller has blocked.
pub(crate) fn signalfd(signals: &libc::sigset_t) -> io::Result<File> {
    // SAFETY: the set is a live, initialised sigset_t that the kernel only reads.
    let fd = unsafe { libc::signalfd(-1, signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new file descriptor that nothing else owns.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether this process was started with a descriptor of this number: those that it opened are closed on exec.
pub(crate) fn is_inherited(number: RawFd) -> bool {
    // SAFETY: fcntl(2) with F_GETFD touches no memory, and fails for a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Another descriptor for the same, closed on exec and none of the first few.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    const ABOVE: RawFd = 10;
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC touches no memory, and fails for a number that is not open.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, ABOVE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new file descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    /// For this descriptor alone, or `WouldBlock`.
    Exclusive,
    /// With others who do the same, after waiting for one who has it alone.
    WaitShared,
}

fn whole_file(kind: libc::c_int) -> io::Result<libc::flock> {
    let too_wide = |_| io::Error::from(io::ErrorKind::InvalidInput);
    Ok(libc::flock {
        l_type: kind.try_into().map_err(too_wide)?,
        l_whence: libc::SEEK_SET.try_into().map_err(too_wide)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

/// Takes a lock of an open file description: it ends with the last descriptor of it.
pub(crate) fn lock(file: BorrowedFd<'_>, locking: Locking) -> io::Result<()> {
    let (command, kind) = match locking {
        Locking::Exclusive => (libc::F_OFD_SETLK, libc::F_WRLCK),
        Locking::WaitShared => (libc::F_OFD_SETLKW, libc::F_RDLCK),
    };
    let lock = whole_file(kind)?;
    loop {
        // SAFETY: the descriptor is open, and the kernel only reads the live struct.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether another open file description has an exclusive lock of this file.
pub(crate) fn is_locked(file: BorrowedFd<'_>) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_RDLCK)?;
    // SAFETY: the descriptor is open, and the kernel writes to nothing but the live struct.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// Which of the two processes after [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The old one, and the id of the new one.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Makes a second process of this one, which must have a single thread.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: with a single thread no lock can be held by a thread that the child does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid).map_or(Forked::Child, Forked::Parent)),
    }
}

#[cfg(test)]
mod tests {
    use crate::monitor::Signals;

    #[test]
    fn a_blocked_signal_is_read() {
        let mut signals = Signals::block().unwrap();
        assert_eq!(signals.next(), None);
        // SAFETY: raise(3) has no precondition; the signal is blocked in this thread, to which it is sent.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        assert_eq!(signals.next(), Some(libc::SIGUSR2));
        assert_eq!(signals.next(), None);
    }
}
