//! The processes of a container, from the agent's own /proc.
//!
//! Reading a command line reads the memory of the process, which can keep the reader waiting as long as it likes
//! (a page of a filesystem that it serves itself): only [`crate::question`]'s children make a list.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use drupe_protocol::GuestProcess;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup;

/// Listed at most: with [`MAX_COMMANDS`] the answer fits a frame, whatever the processes are called.
const MAX_PROCESSES: usize = 8192;
/// Bytes of one command line.
const MAX_COMMAND: usize = 4096;
/// Bytes of all command lines; those after it are names alone.
const MAX_COMMANDS: usize = 256 << 10;
/// Ticks in a second in the files of /proc, the same on every Linux.
const USER_HZ: u64 = 100;

/// The processes in the cgroup of a container but `except`, in the order of their ids.
pub(crate) fn list(root: &Path, id: &str, except: Option<Pid>) -> io::Result<Vec<GuestProcess>> {
    let mut pids = cgroup::processes(root, id);
    pids.retain(|pid| Some(*pid) != except.map(Pid::as_raw_pid));
    if pids.len() > MAX_PROCESSES {
        return Err(io::Error::other(format!("{} processes, over {MAX_PROCESSES}", pids.len())));
    }
    let mut left = MAX_COMMANDS;
    Ok(pids.into_iter().filter_map(|pid| describe(pid, &mut left)).collect())
}

/// The state letter of a process. Unlike a command line, nobody can delay it.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read(Path::new("/proc").join(pid.as_raw_pid().to_string()).join("stat")).ok()?;
    Some(Stat::parse(&String::from_utf8_lossy(&stat))?.state)
}

/// `None` when the process has ended meanwhile.
fn describe(pid: i32, left: &mut usize) -> Option<GuestProcess> {
    let directory = Path::new("/proc").join(pid.to_string());
    let status = fs::read(directory.join("status")).ok()?;
    let status = Status::parse(&String::from_utf8_lossy(&status))?;
    let stat = fs::read(directory.join("stat")).ok()?;
    let stat = Stat::parse(&String::from_utf8_lossy(&stat))?;
    let command = command(&directory, &stat.name, *left);
    *left = left.saturating_sub(command.len());
    Some(GuestProcess {
        pid,
        container_pid: status.container_pid,
        parent: stat.parent,
        uid: status.uid,
        state: stat.state,
        cpu_ms: stat.cpu_ticks.saturating_mul(1000 / USER_HZ),
        age_ms: now_ms().saturating_sub(stat.start_ticks.saturating_mul(1000 / USER_HZ)),
        rss: status.rss,
        vsize: status.vsize,
        tty: stat.tty,
        command,
    })
}

fn command(directory: &Path, name: &str, left: usize) -> String {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_COMMAND.min(left)).unwrap_or(0);
    let read = File::open(directory.join("cmdline")).and_then(|file| file.take(most).read_to_end(&mut bytes));
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    match words.join(" ").trim_end() {
        "" => format!("[{name}]"),
        _ if read.is_err() => format!("[{name}]"),
        words => words.to_owned(),
    }
}

fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(nanoseconds.unwrap_or(0) / 1_000_000)
}

/// /proc/PID/status.
struct Status {
    uid: u32,
    container_pid: i32,
    rss: u64,
    vsize: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let values = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace()
        };
        let bytes = |name: &str| -> u64 {
            values(name).next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
        };
        Some(Self {
            uid: values("Uid:").next()?.parse().ok()?,
            // The agent's namespace comes first, then the container's, then those that the container made.
            container_pid: values("NSpid:").take(2).last()?.parse().ok()?,
            rss: bytes("VmRSS:"),
            vsize: bytes("VmSize:"),
        })
    }
}

/// /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: i32,
    tty: Option<String>,
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Stat {
    /// The name may hold anything, parentheses too: the last one ends it.
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc_pid_stat(5) counts from 1, and the state is its third.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Self {
            name: name.to_owned(),
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            tty: terminal(field(7)?.parse().ok()?),
            cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
            start_ticks: ticks(22)?,
        })
    }
}

/// The terminal of a device number; 0 is none.
fn terminal(device: i32) -> Option<String> {
    const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
    let device = device.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (major, minor) {
        (0, 0) => None,
        (major, minor) if PTS_MAJORS.contains(&major) => {
            Some(format!("pts/{}", (major - PTS_MAJORS.start()) * 256 + minor))
        }
        (5, 1) => Some("console".into()),
        (4, minor) => Some(format!("tty{minor}")),
        (major, minor) => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_fields() {
        let stat = Stat::parse(
            "42 (a) S 1 (b) Z 7 42 42 34816 42 4194304 1 2 3 4 50 60 0 0 20 0 1 0 777 8192 1 2 3\n",
        );
        let expected = Stat {
            name: "a) S 1 (b".into(),
            state: 'Z',
            parent: 7,
            tty: Some("pts/0".into()),
            cpu_ticks: 110,
            start_ticks: 777,
        };
        assert_eq!(stat, Some(expected));
        assert_eq!(Stat::parse("42 (a) S"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn terminals_have_names() {
        let number = |major: i32, minor: i32| (major << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
        assert_eq!(terminal(0), None);
        assert_eq!(terminal(number(136, 3)).as_deref(), Some("pts/3"));
        assert_eq!(terminal(number(137, 1)).as_deref(), Some("pts/257"));
        assert_eq!(terminal(number(136, 1000)).as_deref(), Some("pts/1000"));
        assert_eq!(terminal(number(5, 1)).as_deref(), Some("console"));
        assert_eq!(terminal(number(4, 1)).as_deref(), Some("tty1"));
    }

    #[test]
    fn this_process_is_described() {
        let own = describe(std::process::id().cast_signed(), &mut MAX_COMMANDS.clone()).unwrap();
        assert!(own.rss > 0 && own.vsize >= own.rss, "{own:?}");
        assert!(own.command.contains("drupe_agent"), "{own:?}");
        assert!(own.age_ms < 3_600_000, "{own:?}");
        let name_only = describe(std::process::id().cast_signed(), &mut 0).unwrap();
        assert!(name_only.command.starts_with("[drupe_agent"), "{name_only:?}");
    }
}
