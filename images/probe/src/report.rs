//! The report: everything that a process can see of itself and of the container around it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value, json};

const RLIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
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

/// The whole report.
pub(crate) fn report() -> Value {
    let status = colon_table("/proc/self/status");
    let field = |name: &str| status.get(name).map_or(Value::Null, |text| json!(text));
    json!({
        "args": env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "env": env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), json!(value.to_string_lossy())))
            .collect::<Map<_, _>>(),
        "cwd": env::current_dir().ok(),
        "uid": ids(&status, "Uid"),
        "gid": ids(&status, "Gid"),
        "groups": status.get("Groups").map(|text| numbers(text)),
        "umask": field("Umask"),
        "caps": {
            "inheritable": field("CapInh"),
            "permitted": field("CapPrm"),
            "effective": field("CapEff"),
            "bounding": field("CapBnd"),
            "ambient": field("CapAmb"),
        },
        "no_new_privs": field("NoNewPrivs"),
        "seccomp": field("Seccomp"),
        "signals": { "blocked": field("SigBlk"), "ignored": field("SigIgn"), "caught": field("SigCgt") },
        "rlimits": rlimits(),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "sid": rustix::process::getsid(None).ok().map(rustix::process::Pid::as_raw_pid),
        "fds": descriptors(),
        "tty": [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()],
        "mounts": mounts(),
        "namespaces": namespaces(),
        "cgroup": text("/proc/self/cgroup"),
        "pids": pids(),
        "dev": devices("/dev"),
        "machine": machine(),
    })
}

fn machine() -> Value {
    let uname = rustix::system::uname();
    let cpus = rustix::thread::sched_getaffinity(None).ok().map(|set| set.count());
    let memory = colon_table("/proc/meminfo");
    let total = memory.get("MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    json!({
        "cpus": cpus,
        "memory_kib": total,
        "hostname": uname.nodename().to_string_lossy(),
        "domainname": uname.domainname().to_string_lossy(),
        "release": uname.release().to_string_lossy(),
    })
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The lines `Name:   value` of a file.
fn colon_table(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Real, effective, saved and filesystem id.
fn ids(status: &BTreeMap<String, String>, name: &str) -> Value {
    match status.get(name).map(|text| numbers(text)).as_deref() {
        Some(&[real, effective, saved, filesystem]) => {
            json!({ "real": real, "effective": effective, "saved": saved, "filesystem": filesystem })
        }
        _ => Value::Null,
    }
}

/// Soft and hard limits; `null` is infinity.
fn rlimits() -> Map<String, Value> {
    let both = |resource| {
        let limit = getrlimit(resource);
        json!({ "soft": limit.current, "hard": limit.maximum })
    };
    RLIMITS.into_iter().map(|(name, resource)| (name.to_owned(), both(resource))).collect()
}

/// Names of a directory's entries, in order. The directory is open while it is read.
fn names(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Open descriptors and what they lead to, without the one that lists them: it is closed by the time that its
/// link is read.
fn descriptors() -> Map<String, Value> {
    let link = |name: String| {
        let target = fs::read_link(Path::new("/proc/self/fd").join(&name)).ok()?;
        Some((name, json!(target.to_string_lossy())))
    };
    names("/proc/self/fd").into_iter().filter_map(link).collect()
}

fn namespaces() -> Map<String, Value> {
    let link = |name: String| {
        let target = fs::read_link(Path::new("/proc/self/ns").join(&name)).ok()?;
        Some((name, json!(target.to_string_lossy())))
    };
    names("/proc/self/ns").into_iter().filter_map(link).collect()
}

/// Every process that is visible: pid and command line.
fn pids() -> Map<String, Value> {
    let processes = names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    let command = |pid: String| {
        let line = fs::read(Path::new("/proc").join(&pid).join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (pid, json!(line.trim_end()))
    };
    processes.map(command).collect()
}

/// /proc/self/mountinfo, in its order (proc_pid_mountinfo(5)).
fn mounts() -> Vec<Value> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Value> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let (&[_, _, _, root, destination, options], propagation) = left.split_first_chunk::<6>()?;
    let right: Vec<&str> = right.split(' ').collect();
    let &[fstype, source, superblock] = right.as_slice() else { return None };
    Some(json!({
        "destination": destination,
        "root": root,
        "type": fstype,
        "source": source,
        "options": options.split(',').collect::<Vec<_>>(),
        "super_options": superblock.split(',').collect::<Vec<_>>(),
        "propagation": propagation,
    }))
}

/// The entries of a directory: what they are, their mode, and where a link leads or what a node stands for.
fn devices(path: &str) -> Map<String, Value> {
    let entry = |name: String| {
        let path = Path::new(path).join(&name);
        let metadata = fs::symlink_metadata(&path).ok()?;
        let kind = metadata.file_type();
        let target = fs::read_link(&path).ok();
        let device = (kind.is_char_device() || kind.is_block_device()).then(|| {
            let rdev = metadata.rdev();
            format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev))
        });
        let what = match () {
            () if kind.is_symlink() => "link",
            () if kind.is_dir() => "directory",
            () if kind.is_char_device() => "character device",
            () if kind.is_block_device() => "block device",
            () => "other",
        };
        let mode = format!("{:04o}", metadata.mode() & 0o7777);
        Some((name, json!({ "type": what, "mode": mode, "device": device, "target": target })))
    };
    names(path).into_iter().filter_map(entry).collect()
}
