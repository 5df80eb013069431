//! A process followed through the system calls by which it changes something outside itself, and ended before one of
//! them: what a user gets whose machine's out-of-memory killer chose that moment.
//!
//! The process is traced with ptrace(2), its main thread alone, and its children only where they are what is followed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::running;

/// Whose steps are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of the command itself.
    Command,
    /// Those of the first process that it forks.
    Child,
    /// Those of a process that is there already, as long as the command runs.
    Process(u32),
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The steps that it came to, the one included before which it was ended.
    pub(crate) steps: Vec<String>,
    /// It was ended before its last step.
    pub(crate) killed: bool,
}

/// Runs a command, and ends the process that is followed before the step of this number (from 1). A process that the
/// command leaves behind is ended when the command has ended, whether it came so far or not.
pub(crate) fn follow(command: &mut Command, whose: Whose, last: Option<usize>) -> Walk {
    let mut walk = Follower { walk: Walk { steps: Vec::new(), killed: false }, followed: None, last };
    if let Whose::Process(pid) = whose {
        let pid = Pid::from_raw(pid.cast_signed());
        ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)
            .expect("a process that runs");
        ptrace::interrupt(pid).expect("seized");
        walk.followed = Some(pid);
    } else {
        let traced = || ptrace::traceme().map_err(Into::into);
        // SAFETY: the closure makes one system call and allocates nothing, which is all that a forked child may do.
        unsafe { command.pre_exec(traced) };
    }
    let mut child = command.spawn().expect("the runtime");
    let _watched = running::watch(&child);
    let command = Pid::from_raw(child.id().cast_signed());
    if whose == Whose::Command {
        walk.followed = Some(command);
    }
    walk.watch(command, whose);
    // It has been waited for: this finds nobody.
    let _ = child.wait();
    walk.walk
}

struct Follower {
    walk: Walk,
    followed: Option<Pid>,
    last: Option<usize>,
}

impl Follower {
    fn watch(&mut self, command: Pid, whose: Whose) {
        let (mut runs, mut begun) = (true, false);
        while runs || self.followed.is_some() {
            // Children of this thread alone: others are other cases'.
            let stop = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).expect("a child");
            match stop {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => {
                    if pid == command {
                        runs = false;
                        if let Some(left) = self.followed.filter(|left| *left != command) {
                            let _ = kill(left, Signal::SIGKILL);
                        }
                    }
                    self.followed = self.followed.filter(|followed| *followed != pid);
                }
                WaitStatus::Stopped(pid, Signal::SIGTRAP) if pid == command && !begun => {
                    begun = true;
                    let forks =
                        if whose == Whose::Child { Options::PTRACE_O_TRACEFORK } else { Options::empty() };
                    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | forks;
                    ptrace::setoptions(pid, options).expect("it has stopped");
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_FORK) => {
                    ptrace::detach(pid, None).expect("it has stopped");
                }
                // The child of a process that is traced begins with it.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if pid != command && self.followed.is_none() => {
                    self.followed = Some(pid);
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceSyscall(pid) => self.step(pid),
                WaitStatus::PtraceEvent(pid, _, _) => self.go_on(pid, None),
                WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn step(&mut self, pid: Pid) {
        if self.followed == Some(pid)
            && let Some(step) = step(pid)
        {
            self.walk.steps.push(step);
            if self.last == Some(self.walk.steps.len()) {
                kill(pid, Signal::SIGKILL).expect("it has stopped");
                self.walk.killed = true;
                return;
            }
        }
        self.go_on(pid, None);
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        // Somebody else may have ended it.
        let _ =
            if self.followed == Some(pid) { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }
}

const KVM_CREATE_VM: u64 = 0xae01;
const KVM_CREATE_VCPU: u64 = 0xae41;
/// `O_CREAT`, as the system call has it.
const CREATE: u64 = 0o100;

/// The system call that a stopped process is about to make, if others can see that it has been made.
fn step(pid: Pid) -> Option<String> {
    let info = ptrace::syscall_info(pid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this is the field that the kernel has filled.
    let call = unsafe { info.u.entry };
    let [first, second, third, ..] = call.args;
    let file =
        |fd: u64| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default().display().to_string();
    let name = syscalls::Sysno::new(usize::try_from(call.nr).ok()?)?.name();
    match name {
        "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "rmdir"
        | "link" | "linkat" | "symlink" | "symlinkat" | "mount" | "open_tree" | "move_mount"
        | "mount_setattr" | "umount2" | "clone" | "clone3" | "fork" | "vfork" | "bind" | "listen"
        | "connect" | "flock" | "ftruncate" | "setsid" | "prctl" | "kill" | "pidfd_send_signal"
        | "sendmsg" | "sendto" | "shutdown" | "exit_group" => Some(name.into()),
        "open" if second & CREATE != 0 => Some("open".into()),
        "openat" if third & CREATE != 0 => Some("openat".into()),
        "fcntl" if matches!(i32::try_from(second), Ok(libc::F_OFD_SETLK | libc::F_OFD_SETLKW)) => {
            Some("lock".into())
        }
        "ioctl" if second == KVM_CREATE_VM => Some("KVM_CREATE_VM".into()),
        "ioctl" if second == KVM_CREATE_VCPU => Some("KVM_CREATE_VCPU".into()),
        // Counters of a process's own are nobody else's.
        "write" | "writev" => {
            Some(file(first)).filter(|file| !file.contains("[eventfd]")).map(|file| format!("write {file}"))
        }
        _ => None,
    }
}
