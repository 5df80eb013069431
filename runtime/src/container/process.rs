//! A process that can be told from a later one with the same id.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process of this boot: its id, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// In clock ticks since boot (proc(5), field 22 of stat).
    start_time: u64,
}

impl ProcessId {
    /// This process.
    pub(crate) fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_pid();
        Self { pid, start_time: start_time(pid).unwrap_or(0) }
    }

    /// A descriptor of the process; `None` if it has ended, even when another one has its id by now.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.pid.max(0))?, PidfdFlags::empty()).ok()?;
        // Looked at behind the descriptor: what has the id now has kept it since.
        (start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }

    /// Ends the process, if it is still the one that was meant; gives its descriptor, to wait for its end.
    pub(crate) fn kill(self) -> Option<OwnedFd> {
        let pidfd = self.open()?;
        rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).ok()?;
        Some(pidfd)
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may have spaces and parentheses in it.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Names this boot of the host; empty without /proc, which nothing compares equal to.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_can_be_told_from_others() {
        assert_eq!(boot_id().len(), 36);
        let own = ProcessId::own();
        assert!(own.open().is_some());
        let recycled = ProcessId { start_time: own.start_time + 1, ..own };
        assert!(recycled.open().is_none());
        for pid in [0, -1, i32::MAX] {
            assert!(ProcessId { pid, ..own }.open().is_none());
        }
    }

    #[test]
    fn a_recycled_pid_is_not_killed() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = ProcessId { pid, start_time: start_time(pid).unwrap() };
        assert!(ProcessId { start_time: process.start_time - 1, ..process }.kill().is_none());
        assert!(child.try_wait().unwrap().is_none());
        assert!(process.kill().is_some());
        assert!(!child.wait().unwrap().success());
    }
}
