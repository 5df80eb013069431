//! What the probe does on request: faults, signals, writes, floods.

use std::fs;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant, SystemTime};

use rustix::mount::{MountFlags, mount_remount};

use crate::{arch, pattern};

/// Status that says that a request should have ended the process and did not.
const NO_EFFECT: u8 = 70;

const PIECE: usize = 64 << 10;

/// Signals that have a name here.
const SIGNALS: [(&str, libc::c_int); 8] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("WINCH", libc::SIGWINCH),
];

/// Ends the process by a real fault, which ends even a PID 1 (a signal sent with kill would not).
pub(crate) fn fault(kind: &str) -> io::Result<u8> {
    match kind {
        "segv" => segv(),
        "bus" => bus()?,
        "fpe" => arch::fpe(),
        "ill" => arch::ill(),
        "trap" => arch::trap(),
        "abrt" => std::process::abort(),
        "sys" => sys()?,
        _ => return Err(io::Error::other("unknown fault")),
    }
    Ok(NO_EFFECT)
}

fn segv() {
    let unmapped = ptr::without_provenance_mut::<u8>(16);
    // SAFETY: the first page is never mapped, so nothing is written; the fault is the purpose.
    unsafe { unmapped.write_volatile(1) };
}

/// Reads a page of a file behind the file's end.
fn bus() -> io::Result<()> {
    let empty = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC)?;
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
    let page = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            4096,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::SHARED,
            &empty,
            0,
        )
    }?;
    // SAFETY: the page is mapped; that reading it faults is the purpose.
    unsafe { page.cast::<u8>().read_volatile() };
    Ok(())
}

/// Forbids every system call, then makes one.
fn sys() -> io::Result<()> {
    let mut trap_all = [libc::sock_filter {
        code: 0x06, // BPF_RET | BPF_K
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_TRAP,
    }];
    let filter = libc::sock_fprog { len: 1, filter: trap_all.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: `filter` and the instruction that it points to live through the call; the kernel copies both.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends this process a signal, whose action is made the default one: Rust ignores SIGPIPE and handles SIGSEGV.
pub(crate) fn kill_self(signal: i32) -> io::Result<u8> {
    // SAFETY: SIG_DFL installs no handler. That it fails for SIGKILL is as well.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let own = rustix::process::getpid().as_raw_pid();
    // SAFETY: kill only takes numbers.
    match unsafe { libc::kill(own, signal) } {
        0 => Ok(0),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for signals and says the name of each, until the last of `names` has come.
pub(crate) fn wait_signals(names: &[&str], say: impl Fn(&str) -> io::Result<u8>) -> io::Result<u8> {
    let numbers: Vec<_> = names.iter().map(|name| signal_number(name)).collect::<io::Result<_>>()?;
    let last = *numbers.last().ok_or_else(|| io::Error::other("needs a signal"))?;
    let set = block(&numbers)?;
    say("ready")?;
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are to initialized values of this frame.
        let error = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let name = SIGNALS.iter().find(|entry| entry.1 == signal).map_or("?", |entry| entry.0);
        say(name)?;
        if signal == last {
            return Ok(0);
        }
    }
}

fn signal_number(name: &str) -> io::Result<libc::c_int> {
    let entry = SIGNALS.iter().find(|entry| entry.0 == name);
    entry.map(|entry| entry.1).ok_or_else(|| io::Error::other(format!("{name}: unknown signal")))
}

/// Blocks signals, so that they wait for sigwait; a blocked signal is kept even by a PID 1.
fn block(signals: &[libc::c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to a set of this frame, which need not be initialized.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialized the whole set.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialized.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: the set is initialized, and null means that the old mask is not wanted.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until it has stood still, makes a file, and says what time it was just before and how long that took.
pub(crate) fn resumed(path: &str, say: impl Fn(&str) -> io::Result<u8>) -> io::Result<u8> {
    say("ready")?;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_secs(1) {
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
    }
    let (time, begin) = (SystemTime::now(), Instant::now());
    fs::File::create_new(path)?;
    let took = begin.elapsed().as_nanos();
    let time = time.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?.as_nanos();
    say(&format!("{time} {took}"))
}

/// Writes a file and says the errno, 0 for none.
pub(crate) fn write(path: &str, text: &str) -> i32 {
    errno(fs::write(path, text))
}

/// Makes a mount read-write, as a root that does not accept read-only would: first the mount alone, then its
/// superblock. The two errnos.
pub(crate) fn remount_rw(path: &str) -> (i32, i32) {
    let mount = mount_remount(path, MountFlags::BIND, "").map_err(io::Error::from);
    let superblock = mount_remount(path, MountFlags::empty(), "").map_err(io::Error::from);
    (errno(mount), errno(superblock))
}

fn errno(result: io::Result<()>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
}

/// Writes `bytes` bytes of the pattern to a descriptor and ends with `status`.
pub(crate) fn flood(bytes: u64, fd: RawFd, status: u8) -> io::Result<u8> {
    // SAFETY: whoever gave the number meant an open descriptor; if it is none, writing says EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut out = fs::File::from(rustix::io::dup(borrowed)?);
    let mut piece = vec![0; PIECE];
    let mut position = 0;
    while position < bytes {
        let count = usize::try_from(bytes - position).unwrap_or(PIECE).min(PIECE);
        pattern::fill(position, &mut piece[..count]);
        out.write_all(&piece[..count])?;
        position += count as u64;
    }
    Ok(status)
}
