//! System calls that have no sound wrapper in rustix.
#![allow(unsafe_code, reason = "system calls without a sound wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Makes a child like this process. Returns whether this is the child.
pub(crate) fn fork() -> io::Result<bool> {
    // SAFETY: the process has one thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid == 0),
    }
}

/// Maps a part of a file, shared, writes `bytes` at its beginning, and unmaps it. The offset is a page's, and the file
/// is at least that long afterwards too: nobody else shortens it meanwhile.
pub(crate) fn write_mapped(fd: BorrowedFd<'_>, offset: u64, bytes: &[u8], sync: bool) -> Result<(), Errno> {
    let (any, length) = (ptr::null_mut(), bytes.len());
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
    let memory = unsafe {
        mmap(any, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd.as_fd(), offset)
    }?;
    // SAFETY: `memory` is writable for `length` bytes and was mapped now, so `bytes` is elsewhere.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast::<u8>(), length) };
    let synced = if sync {
        // SAFETY: the range is mapped.
        unsafe { msync(memory, length, MsyncFlags::SYNC) }
    } else {
        Ok(())
    };
    // SAFETY: the range was mapped here and no reference into it is left.
    unsafe { munmap(memory, length) }?;
    synced
}

/// A record lock by fcntl(2): `command` is one of `F_SETLK`, `F_GETLK` and their `F_OFD_` forms.
pub(crate) fn record_lock(fd: BorrowedFd<'_>, command: i32, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: `lock` is a whole struct flock that the kernel reads and, for F_GETLK, writes.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, ptr::from_mut(lock)) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// truncate(2).
pub(crate) fn truncate(path: &[u8], size: u64) -> Result<(), Errno> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let size = libc::off_t::try_from(size).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` is a C string.
    match unsafe { libc::truncate(path.as_ptr(), size) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
