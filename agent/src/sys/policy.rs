//! How the kernel treats a process: scheduling, personality, filters, device programs.

use std::ffi::{c_int, c_long, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::process::Pid;

use super::{check, owned};

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

const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACH: u32 = 6;

/// The attributes of bpf(2) for loading a program, as far as they are used.
#[repr(C)]
struct BpfLoad {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The attributes of bpf(2) for attaching a program.
#[repr(C)]
struct BpfAttach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// bpf(2): loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub(crate) fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    const LOAD: c_int = 5;
    let instructions: Vec<u64> = program.iter().map(|instruction| instruction.to_le()).collect();
    let attributes = BpfLoad {
        kind: CGROUP_DEVICE_PROGRAM,
        length: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads as many bytes of the attributes as are given, and from them a C string and as
    // many instructions as there are.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, LOAD, ptr::from_ref(&attributes), size_of_val(&attributes))
    })?;
    owned(fd)
}

/// bpf(2): lets a program decide about devices in a cgroup, beside those that are attached already.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const ATTACH: c_int = 8;
    const ALLOW_MULTI: u32 = 2;
    let attributes = BpfAttach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads as many bytes of the attributes as are given.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, ATTACH, ptr::from_ref(&attributes), size_of_val(&attributes))
    })
    .map(drop)
}
