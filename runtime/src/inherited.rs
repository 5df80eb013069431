//! What this process was started with and changes for itself: a program that it runs for somebody else gets it back.

use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, umask};

use crate::sys;

/// File mode creation mask and limit of descriptors. The mask of blocked signals is not here: whoever starts drupe with
/// blocked signals does not want its hooks to have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inherited {
    umask: Mode,
    descriptors: Rlimit,
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Remembers it. To be called before there are threads.
pub(crate) fn remember() {
    INHERITED.get_or_init(|| {
        let mask = umask(Mode::empty());
        umask(mask);
        Inherited { umask: mask, descriptors: getrlimit(Resource::Nofile) }
    });
}

/// Has the program of `command` start with what this process was started with, and without blocked signals.
pub(crate) fn give_back(command: &mut Command) {
    let inherited = INHERITED.get().copied();
    sys::before_exec(command, move || {
        if let Some(Inherited { umask: mask, descriptors }) = inherited {
            umask(mask);
            // A hard limit that this process could raise it can lower.
            rustix::process::setrlimit(Resource::Nofile, descriptors)?;
        }
        sys::unblock_signals()
    });
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
