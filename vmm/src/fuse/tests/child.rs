//! Child processes: for what a test must not do to the process that all tests run in.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;

/// Seconds after which a child is ended.
const GIVE_UP: u32 = 120;

/// Runs `act` in a child; a panic there is one here.
pub(super) fn in_child(act: impl FnOnce()) {
    fork(|_| act());
}

/// Runs `act` in a child with a user and a mount namespace of its own, in which it has every capability. Root is root
/// there, and all users are themselves; another user is root alone.
pub(super) fn in_namespace(act: impl FnOnce()) {
    fork(|parent| {
        // SAFETY: takes no pointers; the child of a fork has one thread.
        let result = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
        assert_eq!(result, 0, "namespaces of one's own: {}", std::io::Error::last_os_error());
        parent.write_all(b"u").unwrap();
        parent.read_exact(&mut [0]).unwrap();
        act();
    });
}

/// Gives the child an empty root. It has nothing of the host but its descriptors, and is in a namespace of its own.
pub(super) fn leave_root() {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", propagation).unwrap();
    rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::create_dir("/tmp/old").unwrap();
    rustix::process::pivot_root("/tmp", "/tmp/old").unwrap();
    rustix::mount::unmount("/old", UnmountFlags::DETACH).unwrap();
    std::fs::remove_dir("/old").unwrap();
    assert_eq!(std::fs::read_dir("/").unwrap().count(), 0, "the new root is not empty");
}

fn fork(act: impl FnOnce(&mut UnixStream)) {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    // SAFETY: the child runs in a copy of this thread alone. The C library makes its allocator fit for that, and the
    // child uses no other lock of the test program but that of stderr, which an alarm gets it out of.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        drop(here);
        // SAFETY: takes no pointers.
        unsafe { libc::alarm(GIVE_UP) };
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| act(&mut there)));
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    drop(there);
    if here.read(&mut [0]).is_ok_and(|count| count == 1) {
        map_users(child);
        let _ = here.write_all(b"m");
    }
    let mut status = 0;
    // SAFETY: `status` has room for a status.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0), "the child failed: what it says is above");
}

fn map_users(child: i32) {
    let map = |kind: &str, own: u32| {
        let text = if rustix::process::geteuid().is_root() {
            "0 0 4294967295".to_owned()
        } else {
            format!("0 {own} 1")
        };
        std::fs::write(format!("/proc/{child}/{kind}"), text).unwrap();
    };
    if !rustix::process::geteuid().is_root() {
        std::fs::write(format!("/proc/{child}/setgroups"), "deny").unwrap();
    }
    map("uid_map", rustix::process::getuid().as_raw());
    map("gid_map", rustix::process::getgid().as_raw());
}
