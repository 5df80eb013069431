//! The first steps of PID 1, in the order in which later ones need them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use drupe_protocol::{CONTROL_PORT, FS_TAG};
use rustix::fs::{CWD, Mode, OFlags, chmod, mkdirat, open};
use rustix::mount::{MountFlags, MoveMountFlags, mount, move_mount};
use rustix::process::{chroot, fchdir};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::{RebootCommand, reboot};

use crate::dial::{self, Dial, VsockHost};
use crate::{Places, arch, mounts, rlimits, sys};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct BootError {
    step: &'static str,
    source: io::Error,
}

type Result<T = (), E = BootError> = std::result::Result<T, E>;

fn during<T, E: Into<io::Error>>(step: &'static str, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| BootError { step, source: error.into() })
}

/// Where things are in a guest, once [`leave_initramfs`] was called.
#[must_use]
pub fn places() -> Places {
    let place = |name: &str| PathBuf::from("/run/drupe").join(name);
    Places { shares: place("fs"), stage: place("root"), cgroup: place("cgroup") }
}

/// Blocks signals before any can arrive.
///
/// # Errors
/// The kernel refused.
pub fn block_signals() -> Result {
    during("signals", sys::block_signals())
}

/// Makes the agent's program one that nobody can execute.
///
/// A process that is about to be executed in a container is a copy of the agent until then, so that `/proc/self/exe`
/// is the agent for whatever it executes: a program, or the interpreter of a script.
///
/// # Errors
/// The kernel refused.
pub fn protect_program() -> Result {
    during("/init", chmod(c"/init", Mode::empty()))
}

/// Moves to a tmpfs over the initramfs, with /dev in it: the kernel refuses to pivot away from the initramfs
/// itself, which is what every container does.
///
/// # Errors
/// A mount failed.
pub fn leave_initramfs() -> Result {
    let tree = mounts::filesystem("tmpfs", "drupe", ["mode=755"].into_iter(), 0, 0)
        .map_err(|(_, text)| BootError { step: "root", source: io::Error::other(text) })?;
    let directories =
        ["dev", "proc", "run", "run/drupe", "run/drupe/fs", "run/drupe/root", "run/drupe/cgroup"];
    for name in directories {
        during("root", mkdirat(&tree, name, Mode::from_raw_mode(0o755)))?;
    }
    during("root", move_mount(&tree, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))?;
    during("root", fchdir(tree.as_fd()))?;
    during("root", chroot(c"."))?;
    during("/dev", mount(c"devtmpfs", c"/dev", c"devtmpfs", MountFlags::empty(), None))
}

/// Opens /dev/null as standard input and output and the kernel's log as standard error.
///
/// Without a console the kernel starts PID 1 with these closed, and the next descriptors would take their place.
///
/// # Errors
/// There is no /dev/null.
pub fn open_standard_streams() -> Result {
    let null = loop {
        let fd = during("/dev/null", open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
        if fd.as_raw_fd() > 2 {
            break fd;
        }
        // It fills a gap, and is replaced below.
        std::mem::forget(fd);
    };
    let log = open(c"/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    during("/dev/null", dup2_stdin(&null))?;
    during("/dev/null", dup2_stdout(&null))?;
    during("/dev/null", dup2_stderr(log.as_ref().unwrap_or(&null)))
}

/// Starts to connect to the host.
///
/// # Errors
/// There is no vsock device.
pub fn dial_host() -> Result<OwnedFd> {
    during("connection to the host", VsockHost.dial(CONTROL_PORT))
}

/// Waits until the host has taken the connection.
///
/// # Errors
/// It refused or did not answer.
pub fn await_host(control: &OwnedFd) -> Result {
    during("connection to the host", dial::established(control.as_fd()))
}

/// Mounts what the agent itself reads and writes.
///
/// # Errors
/// A mount failed.
pub fn mount_kernel_filesystems() -> Result {
    during("/proc", mount(c"proc", c"/proc", c"proc", MountFlags::empty(), None))?;
    let cgroup = places().cgroup;
    let options = Some(c"nsdelegate,memory_recursiveprot");
    during("cgroup2", mount(c"cgroup2", &cgroup, c"cgroup2", MountFlags::empty(), options))
}

/// Lifts the kernel's own bounds on what a process may have: the limits of processes are the host's to set.
pub fn lift_limits() {
    // The most that the kernel takes for each: `sysctl_nr_open_max`, and LONG_MAX.
    for (name, most) in [("nr_open", "2147483584"), ("file-max", "9223372036854775807")] {
        if let Err(error) = std::fs::write(format!("/proc/sys/fs/{name}"), most) {
            crate::log::note(format_args!("fs.{name}: {error}"));
        }
    }
    if let Err(error) = rlimits::lift() {
        crate::log::note(format_args!("limits: {error}"));
    }
}

/// Keeps the agent from being the one that dies when memory is short.
///
/// # Errors
/// /proc refused.
pub fn protect_from_oom() -> Result {
    during("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "-1000"))
}

/// Brings the loopback interface up. Without one, containers do without.
pub fn loopback_up() {
    if let Err(error) = sys::interface_up(c"lo") {
        crate::log::note(format_args!("interface lo: {error}"));
    }
}

/// Mounts the host's shares.
///
/// # Errors
/// The mount failed.
pub fn mount_shares() -> Result {
    during("virtiofs", mount(FS_TAG, &places().shares, c"virtiofs", MountFlags::empty(), None))
}

/// Says why the agent stops, one cause after the other.
pub fn explain(error: &(dyn std::error::Error + 'static)) {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    crate::log::note(format_args!("{text}"));
}

/// Writes back what is dirty and powers the guest off, whatever it takes.
pub fn power_off() -> ! {
    rustix::fs::sync();
    arch::power_off();
    // Not RebootCommand::PowerOff: a kernel that knows no way to do it halts instead, for ever.
    let _ = reboot(RebootCommand::Restart);
    loop {
        rustix::event::pause();
    }
}
