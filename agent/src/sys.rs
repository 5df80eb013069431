//! Every system call that has no sound wrapper in rustix: the one unsafe module of the agent (`arch` has none today).
//!
//! The agent has one thread. [`clone_process`] and everything that changes the calling thread rely on it.
#![allow(unsafe_code, reason = "system calls without a sound wrapper")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

mod policy;

pub(crate) use policy::{
    SchedAttr, attach_device_program, load_device_program, load_filter, set_io_priority, set_personality,
    set_scheduler,
};

/// A child process: its id, and a descriptor that stays its own when the id is used again.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// Makes a child like fork does, in new namespaces (`CLONE_NEW*` flags) and in a cgroup.
///
/// The child is born in its cgroup: moving a process takes a lock that waits for an RCU grace period.
/// Returns `None` in the child.
pub(crate) fn clone_process(
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Option<Process>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is the kernel's "not given".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from(namespaces.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = ptr::from_mut(&mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let size = size_of_val(&args);
    // SAFETY: without CLONE_VM the child has its own copy of the address space and goes on from here, as
    // after fork; the process has one thread, so no lock is held by a thread that the child lacks.
    let made = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size) };
    let pid = match check(made) {
        // The filter of a process does not let it: such filters cannot look into the arguments, and allow clone(2).
        Err(error) if cgroup.is_none() && is_denied(&error) => {
            let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
            let none = ptr::null_mut::<c_int>();
            // SAFETY: as above; the child goes on on its copy of the stack, and the kernel stores the descriptor.
            let made = unsafe {
                libc::syscall(libc::SYS_clone, c_long::from(flags), none, &raw mut pidfd, none, none)
            };
            check(made)?
        }
        made => made?,
    };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Process { pid, pidfd }))
}

/// Whether a filter may be the reason.
fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Enters a new cgroup namespace, whose root is the caller's cgroup.
pub(crate) fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: takes an integer; of the cgroup namespace nothing else in this process depends.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// Enters new namespaces that belong to the caller's user namespace: mount, ipc and uts.
pub(crate) fn unshare_namespaces() -> io::Result<()> {
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: takes an integer; the caller, a child with one thread, keeps its root and working directory.
    check(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Makes a new time namespace, into which the next children of the caller are born.
pub(crate) fn unshare_time() -> io::Result<()> {
    // SAFETY: takes an integer; the caller itself stays where it is.
    check(unsafe { libc::unshare(libc::CLONE_NEWTIME) }.into()).map(drop)
}

/// mount_setattr(2) on the mount that a descriptor refers to; `recursive` includes the mounts below it.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` is readable for the size that is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags.cast_unsigned(),
            ptr::from_ref(&attr),
            size_of_val(&attr),
        )
    })
    .map(drop)
}

/// Sends any signal, real-time ones included, to the process of a pidfd.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: takes integers, and a null pointer where the kernel then makes the siginfo itself.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0 as c_uint)
    })
    .map(drop)
}

/// Ends a process, if it still exists.
pub(crate) fn kill(process: &Process) {
    let _ = send_signal(process.pidfd.as_fd(), libc::SIGKILL);
}

/// Blocks every signal but those that report a fault of the program itself.
pub(crate) fn block_signals() -> io::Result<()> {
    let mut set = empty_signal_set();
    // SAFETY: `set` is a sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    for fault in [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGTRAP, libc::SIGSYS] {
        // SAFETY: `set` is an initialised set and the signal numbers are valid.
        unsafe { libc::sigdelset(&raw mut set, fault) };
    }
    set_signal_mask(&set)
}

/// A descriptor that becomes readable when a child changed its state.
pub(crate) fn child_signalfd() -> io::Result<OwnedFd> {
    let mut set = empty_signal_set();
    // SAFETY: `set` is initialised and the signal number is valid.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd =
        check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into())?;
    owned(fd)
}

/// Gives every signal its default disposition and unblocks it, for the program that is executed next.
pub(crate) fn reset_signals() -> io::Result<()> {
    // The kernel's struct sigaction, all zero: default action, no flags. libc's own function refuses 32 and 33.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        let (no_old, set_size): (*const u64, usize) = (ptr::null(), size_of::<u64>());
        // SAFETY: the kernel reads one sigaction (32 bytes), which installs no handler. SIGKILL and SIGSTOP
        // are refused: they are as they should be.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), no_old, set_size) };
    }
    set_signal_mask(&empty_signal_set())
}

/// Lets the kernel reap children, those adopted included, without telling.
pub(crate) fn ignore_children() {
    // SAFETY: sets a disposition, installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

fn empty_signal_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain bits, all zero is the empty set.
    unsafe { mem::zeroed() }
}

fn set_signal_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, ptr::null_mut()) }.into()).map(drop)
}

/// Moves the given streams to descriptors 0, 1 and 2, others to the numbers that they are to have, `behind` behind
/// them (close-on-exec), and closes everything else.
///
/// A container that waits for its start must not keep pipes of other containers open. The caller never
/// returns to code that owns one of the descriptors closed here: it ends in exec or [`exit`].
pub(crate) fn keep_only<const N: usize>(
    streams: [BorrowedFd<'_>; 3],
    others: &[(RawFd, BorrowedFd<'_>)],
    behind: [BorrowedFd<'_>; N],
) -> io::Result<[OwnedFd; N]> {
    let mut kept: Vec<(RawFd, BorrowedFd<'_>)> = (0..).zip(streams).chain(others.iter().copied()).collect();
    kept.sort_by_key(|(number, _)| *number);
    let first_behind = kept.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    let end = first_behind + RawFd::try_from(N).map_err(io::Error::other)?;
    // Moved up first, so that no target number is still in use as a source.
    let high = |fd: BorrowedFd<'_>| -> io::Result<RawFd> {
        // SAFETY: duplicates a descriptor; touches no memory.
        let fd = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, end) }.into())?;
        c_int::try_from(fd).map_err(io::Error::other)
    };
    let moved: Vec<(RawFd, RawFd)> =
        kept.iter().map(|(number, fd)| Ok((high(*fd)?, *number))).collect::<io::Result<_>>()?;
    let behind: Vec<RawFd> = behind.into_iter().map(high).collect::<io::Result<_>>()?;
    let mut free = 0;
    for (from, to) in moved {
        close_range(free, to - 1)?;
        free = to + 1;
        // SAFETY: replaces a descriptor of the agent that this process, a child, never uses again.
        check(unsafe { libc::dup2(from, to) }.into())?;
    }
    close_range(free, first_behind - 1)?;
    for (from, to) in behind.into_iter().zip(first_behind..) {
        // SAFETY: as above, for those behind.
        check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }.into())?;
    }
    close_from(end)?;
    let behind: Vec<OwnedFd> = (first_behind..end).map(|fd| owned(fd.into())).collect::<io::Result<_>>()?;
    behind.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Closes the descriptors from `first` to `last`, if there is any, like [`close_from`].
fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: by contract nothing in this process uses or drops these descriptors any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0 as c_uint) }).map(drop)
}

/// Closes every descriptor from `first` on, in a child that never uses one of them again.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: by contract nothing in this process uses or drops these descriptors any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first.cast_unsigned(), c_uint::MAX, 0 as c_uint) })
        .map(drop)
}

/// execve(2); returns only when it failed.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in null and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process without running anything of the parent whose copy it is.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Brings a network interface up.
pub(crate) fn interface_up(name: &CStr) -> io::Result<()> {
    // SAFETY: makes a descriptor; touches no memory.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = owned(check(socket.into())?)?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed() as c_char;
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: the kernel reads a whole ifreq, whose name ends in zero, for this request.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())
        .map(drop)
}

/// Starts to connect a non-blocking vsock stream.
pub(crate) fn dial_vsock(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a descriptor; touches no memory.
    let socket = owned(check(unsafe { libc::socket(libc::AF_VSOCK, kind, 0) }.into())?)?;
    // SAFETY: sockaddr_vm is plain integers for which zero is valid.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(io::Error::other)?;
    address.svm_cid = cid;
    address.svm_port = port;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is readable for the length that is given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    match check(result.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A vsock listener of this machine itself (the kernel's loopback transport).
#[cfg(test)]
pub(crate) fn listen_vsock_loopback(port: u32) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor; touches no memory.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    let socket = owned(check(socket.into())?)?;
    // SAFETY: sockaddr_vm is plain integers for which zero is valid.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(io::Error::other)?;
    address.svm_cid = libc::VMADDR_CID_LOCAL;
    address.svm_port = port;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is readable for the length that is given.
    check(unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) }.into())?;
    // SAFETY: takes integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 1) }.into())?;
    Ok(socket)
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: callers pass a descriptor that a system call has just made for them alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

const _: () = assert!(size_of::<c_ulong>() == size_of::<i64>(), "system calls return 64 bits");
