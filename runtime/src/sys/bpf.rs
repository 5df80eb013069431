//! bpf(2), as far as programs that decide about the devices of a cgroup need it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACH: u32 = 6;

/// The attributes for loading a program, as far as they are used.
#[repr(C)]
struct Load {
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

/// The attributes for attaching a program.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program, each `struct bpf_insn` as one little-endian integer.
pub(crate) fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    const COMMAND: libc::c_int = 5;
    let instructions: Vec<u64> = program.iter().map(|instruction| instruction.to_le()).collect();
    let attributes = Load {
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
    // SAFETY: the kernel reads as many bytes of the attributes as are given, and from them a C string and as many
    // instructions as there are. It keeps none of them.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, COMMAND, ptr::from_ref(&attributes), size_of_val(&attributes))
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a program decide about devices in a cgroup, beside those that are attached already.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const COMMAND: libc::c_int = 8;
    const ALLOW_MULTI: u32 = 2;
    let attributes = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads as many bytes of the attributes as are given.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, COMMAND, ptr::from_ref(&attributes), size_of_val(&attributes))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
