//! How the kernel treats a process: scheduling, personality, filters.

use std::ffi::{c_int, c_long, c_uint, c_ulong};
use std::io;
use std::ptr;

use rustix::process::Pid;

use super::check;

/// The kernel's `struct sched_attr`, second version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

/// sched_setattr(2); `None` is the calling process.
pub(crate) fn set_scheduler(pid: Option<Pid>, attr: SchedAttr) -> io::Result<()> {
    let attr = SchedAttr { size: u32::try_from(size_of_val(&attr)).map_err(io::Error::other)?, ..attr };
    // SAFETY: the kernel reads as many bytes of `attr` as its size says.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setattr, Pid::as_raw(pid), ptr::from_ref(&attr), 0 as c_uint)
    })
    .map(drop)
}

/// ioprio_set(2) for one process; `None` is the calling one.
pub(crate) fn set_io_priority(pid: Option<Pid>, value: i32) -> io::Result<()> {
    const PROCESS: c_int = 1;
    // SAFETY: takes integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, Pid::as_raw(pid), value) }).map(drop)
}

/// personality(2) of the calling process.
pub(crate) fn set_personality(persona: u64) -> io::Result<()> {
    let persona: c_ulong = persona;
    // SAFETY: takes an integer; what it changes concerns programs that are executed afterwards.
    check(unsafe { libc::personality(persona) }.into()).map(drop)
}

/// seccomp(2): loads a filter for the calling process.
pub(crate) fn load_filter(program: &[libc::sock_filter], flags: u32) -> io::Result<()> {
    const SET_MODE_FILTER: c_uint = 1;
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `length` instructions from the slice, and writes to none.
    let result: c_long =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, ptr::from_ref(&program)) };
    check(result).map(drop)
}
