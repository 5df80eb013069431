//! What this process was started with: a program that it runs for somebody else gets back what it has changed for
//! itself, and a process of a container inherits limits from it.

use std::process::Command;
use std::sync::OnceLock;

use drupe_protocol::Process;
use rustix::process::{Resource, Rlimit, getrlimit};

use crate::sys;

/// The limit of descriptors. The mask of blocked signals is not here: whoever starts drupe with
/// blocked signals does not want its hooks to have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inherited {
    descriptors: Rlimit,
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Remembers it. To be called before there are threads.
pub(crate) fn remember() {
    INHERITED.get_or_init(|| Inherited { descriptors: getrlimit(Resource::Nofile) });
}

/// Has the program of `command` start with what this process was started with, and without blocked signals.
pub(crate) fn give_back(command: &mut Command) {
    let inherited = INHERITED.get().copied();
    sys::before_exec(command, move || {
        if let Some(Inherited { descriptors }) = inherited {
            // A hard limit that this process could raise it can lower.
            rustix::process::setrlimit(Resource::Nofile, descriptors)?;
        }
        sys::unblock_signals()
    });
}

/// Limits by the names that getrlimit(2) gives them. Not among them is that of core dumps: services mostly have none,
/// with a host that collects dumps in mind, and a guest writes them where the program is.
const LIMITS: &[(&str, Resource)] = &[
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Gives a process of a container the limits that nobody has set for it: those that it would have inherited here.
pub(crate) fn complete_limits(process: &mut Process) {
    for &(name, resource) in LIMITS {
        if process.rlimits.iter().any(|limit| limit.name == name) {
            continue;
        }
        let own = match (INHERITED.get(), resource) {
            (Some(inherited), Resource::Nofile) => inherited.descriptors,
            _ => getrlimit(resource),
        };
        let value = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let (soft, hard) = (value(own.current), value(own.maximum));
        process.rlimits.push(drupe_protocol::Rlimit { name: name.into(), soft, hard });
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// What a program that `command` describes says of itself.
    fn said(mut command: Command) -> String {
        let output = command.stdin(Stdio::null()).output().expect("grep");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn command() -> Command {
        let mut command = Command::new("grep");
        command.args(["-hE", "^(Umask|SigBlk|Max open files)", "/proc/self/status", "/proc/self/limits"]);
        command
    }

    #[test]
    fn limits_that_are_not_given_are_the_caller_s() {
        let given = drupe_protocol::Rlimit { name: "RLIMIT_STACK".into(), soft: 1, hard: 2 };
        let mut process = Process { rlimits: vec![given.clone()], ..Process::default() };
        complete_limits(&mut process);
        assert_eq!(process.rlimits.len(), LIMITS.len());
        assert_eq!(process.rlimits[0], given);
        let files = process.rlimits.iter().find(|limit| limit.name == "RLIMIT_NOFILE").unwrap();
        assert!(files.soft > 0 && files.soft <= files.hard, "{files:?}");
        assert!(process.rlimits.iter().all(|limit| limit.name != "RLIMIT_CORE"));
    }

    #[test]
    fn a_program_starts_with_what_was_there_and_no_blocked_signal() {
        remember();
        let before = said(command());
        let limit = getrlimit(Resource::Nofile);
        let lower = limit.current.map(|soft| soft - 1);
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: lower, ..limit }).unwrap();
        vmm_sys_util::signal::block_signal(libc::SIGTERM).unwrap();
        let mut restored = command();
        give_back(&mut restored);
        let (changed, restored) = (said(command()), said(restored));
        vmm_sys_util::signal::unblock_signal(libc::SIGTERM).unwrap();
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        assert_ne!(changed, before);
        assert!(changed.contains("0000000000004000"), "{changed}");
        assert_eq!(restored, before);
    }
}
