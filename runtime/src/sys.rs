//! The system calls that neither std nor rustix has: the only unsafe code of this crate.
#![allow(
    unsafe_code,
    reason = "mount_setattr(2), clone(2), signalfd(2), sigprocmask(2), fork(2), bpf(2) and fcntl(2)'s locks have no safe \
              wrapper in our dependencies"
)]

pub(crate) mod bpf;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// What mount_setattr(2) changes about a mount.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountChange<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_*` of propagation.
    pub(crate) propagation: u64,
    /// The user namespace whose mappings its files' owners get.
    pub(crate) owners: Option<BorrowedFd<'a>>,
    /// For all mounts below it too.
    pub(crate) recursive: bool,
}

/// Changes a mount that a descriptor refers to.
pub(crate) fn change_mount(mount: impl AsFd, change: MountChange<'_>) -> io::Result<()> {
    let owners = change.owners.map(|namespace| namespace.as_raw_fd());
    let attributes = libc::mount_attr {
        attr_set: change.set | if owners.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: owners.and_then(|fd| u64::try_from(fd).ok()).unwrap_or(0),
    };
    // SAFETY: the path is an empty C string and the attributes are a live struct of the size that is passed;
    // the kernel reads both and keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts a process in a user namespace of its own that waits until nobody holds the writing end of a pipe, and ends.
/// It signals nobody, and `reap_namespace` waits for it.
pub(crate) fn hold_namespace(reading: OwnedFd, writing: OwnedFd) -> io::Result<(libc::pid_t, OwnedFd)> {
    // SAFETY: without a stack or CLONE_VM this is fork(2). The child makes only system calls, which are safe in a
    // process that was forked from one with threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            drop(writing);
            let mut byte = 0_u8;
            // SAFETY: the descriptor is open and the buffer is a live byte.
            unsafe { libc::read(reading.as_raw_fd(), (&raw mut byte).cast(), 1) };
            // SAFETY: _exit(2) runs no destructor of the parent's.
            unsafe { libc::_exit(0) }
        }
        pid => Ok((libc::pid_t::try_from(pid).unwrap_or(0), writing)),
    }
}

/// Waits for the end of a process of `hold_namespace`.
pub(crate) fn reap_namespace(pid: libc::pid_t) {
    // SAFETY: waitpid(2) may be called with a null status, and the process is a child of ours that nobody else waits for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
}

/// Has the child of `command` do this just before it executes its program. `action` makes system calls and nothing else:
/// the child of a process with threads may neither allocate nor take a lock.
pub(crate) fn before_exec(
    command: &mut std::process::Command,
    action: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the caller's action keeps to what is said above.
    unsafe { command.pre_exec(action) };
}

/// Lets every signal come to this thread again.
pub(crate) fn unblock_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) writes the whole set that it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set is initialised; the null pointer says that the mask before is of no interest.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
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

/// Closes what this process was started with but its three streams: it would keep open for others what is theirs.
pub(crate) fn close_inherited() -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for number in numbers.into_iter().filter(|&number| number > libc::STDERR_FILENO && is_inherited(number)) {
        // SAFETY: nothing in this process owns a descriptor that it did not open, and what it opens is closed on exec.
        unsafe { libc::close(number) };
    }
    Ok(())
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
    /// For this descriptor alone, after waiting for whoever has it.
    WaitExclusive,
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
        Locking::WaitExclusive => (libc::F_OFD_SETLKW, libc::F_WRLCK),
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
