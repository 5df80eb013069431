//! The unsafe code of the file server: system calls that no safe wrapper has.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Capability that keeps set-user-ID and set-group-ID bits from being cleared (capabilities(7)).
const CAP_FSETID: u32 = 4;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(result)
    }
}

/// Gives this thread a working directory and an umask of its own.
pub(super) fn unshare_fs() -> Result<(), Errno> {
    // SAFETY: takes no pointers; the thread stops sharing its working directory, root and umask with others.
    check(unsafe { libc::unshare(libc::CLONE_FS) }.into()).map(drop)
}

/// Keeps this thread's capabilities when it changes the user that it acts on files as.
pub(super) fn keep_capabilities() -> Result<(), Errno> {
    // SAFETY: takes no pointers.
    let bits = check(unsafe { libc::prctl(libc::PR_GET_SECUREBITS) }.into())?;
    let bits = bits | libc::c_long::from(libc::SECBIT_NO_SETUID_FIXUP);
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }.into()).map(drop)
}

/// Blocks `SIGXFSZ` in this thread: beyond a limit of file size there is to be an errno, not the end of the process.
pub(super) fn block_sigxfsz() -> Result<(), Errno> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` has room for a signal set, which this fills in.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` was filled in above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: `set` is a valid signal set.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGXFSZ) };
    // SAFETY: `set` is a valid signal set, and the old one is not asked for.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(result)) }
}

/// Sets the user that this thread acts on files as; gives the one that it acts as now.
pub(super) fn set_fs_user(uid: u32) -> u32 {
    // SAFETY: takes no pointers. The raw call changes this thread alone.
    let set = |uid: u32| unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    set(uid);
    // An id that there cannot be changes nothing; both calls give the id before them.
    u32::try_from(set(u32::MAX)).unwrap_or(u32::MAX)
}

/// Sets the group that this thread acts on files as; gives the one that it acts as now.
pub(super) fn set_fs_group(gid: u32) -> u32 {
    // SAFETY: takes no pointers. The raw call changes this thread alone.
    let set = |gid: u32| unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    set(gid);
    u32::try_from(set(u32::MAX)).unwrap_or(u32::MAX)
}

/// Leaves this thread in no supplementary group.
pub(super) fn leave_groups() -> Result<(), Errno> {
    // SAFETY: of no groups nothing is read. The raw call changes this thread alone.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) }).map(drop)
}

/// Sets this thread's umask; [`unshare_fs`] has made it the thread's own.
pub(super) fn set_umask(mask: u32) {
    // SAFETY: takes no pointers.
    unsafe { libc::umask(mask & 0o777) };
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// A thread's capabilities, as capget(2) gives them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities([CapabilitySet; 2]);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Capabilities {
    /// Those of this thread.
    pub(super) fn current() -> Result<Self, Errno> {
        let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
        let mut sets = Self::default();
        // SAFETY: the header asks for two sets, and `sets` has room for two.
        check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) })?;
        Ok(sets)
    }

    /// The same without `CAP_FSETID`.
    pub(super) fn without_fsetid(mut self) -> Self {
        let [first, _] = &mut self.0;
        first.effective &= !(1 << CAP_FSETID);
        self
    }

    /// Makes them those of this thread.
    pub(super) fn set(&self) -> Result<(), Errno> {
        let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
        // SAFETY: the header says that there are two sets, which there are.
        check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const self.0) }).map(drop)
    }
}

/// Reads entries of a directory, as getdents64(2) does, into `buffer`. Gives the number of bytes; 0 is the end.
pub(super) fn read_entries(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bytes as `buffer` has.
    let done = unsafe {
        libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    check(done).map(|done| usize::try_from(done).unwrap_or(0))
}
