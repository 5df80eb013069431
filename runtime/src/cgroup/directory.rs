//! The directories of cgroups: made, written to, entered, emptied and removed.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use drupe_protocol::CgroupSetting;
use rustix::fs::{Access, AtFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::CgroupError;

const PROCESSES: &str = "cgroup.procs";

/// How often what others are about to change is tried again; each time twice as long passes, from a millisecond on.
const ATTEMPTS: u32 = 10;

/// Refuses a cgroup that a machine cannot be put into: with processes in it or below it, or frozen. One that is not there is free.
pub(super) fn check_free(path: &Path) -> Result<(), CgroupError> {
    check_free_but_for(path, 0)
}

/// The same of one that a process may be in already.
pub(super) fn check_free_but_for(path: &Path, pid: u32) -> Result<(), CgroupError> {
    let count = count_processes(path, pid)?;
    if count > 0 {
        return Err(CgroupError::Occupied { path: path.into(), count });
    }
    for (file, frozen) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
        if fs::read_to_string(path.join(file)).is_ok_and(|state| state.trim() == frozen) {
            return Err(CgroupError::Frozen { path: path.into() });
        }
    }
    Ok(())
}

/// How many processes there are in a cgroup and below it, but for this one.
fn count_processes(path: &Path, own: u32) -> Result<usize, CgroupError> {
    let mut count = processes(path)?.into_iter().filter(|pid| pid.unsigned_abs() != own).count();
    for child in children(path) {
        count += count_processes(&child, own)?;
    }
    Ok(count)
}

fn processes(path: &Path) -> Result<Vec<i32>, CgroupError> {
    let file = path.join(PROCESSES);
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
        // It is not there, or goes away at this moment.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {
            Ok(Vec::new())
        }
        Err(source) => Err(CgroupError::File { path: file, source }),
    }
}

/// The cgroups right below one.
fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_directory).map(|entry| entry.path()).collect()
}

/// The directories below `mount` that `path` needs and that are not there, outermost first.
pub(super) fn missing(mount: &Path, path: &Path) -> Vec<PathBuf> {
    between(mount, path).into_iter().filter(|directory| !directory.exists()).collect()
}

/// The directories below `mount` down to `path`, outermost first.
fn between(mount: &Path, path: &Path) -> Vec<PathBuf> {
    let below = path.ancestors().take_while(|ancestor| *ancestor != mount && ancestor.starts_with(mount));
    let mut list: Vec<_> = below.map(Path::to_owned).collect();
    list.reverse();
    list
}

/// Whether this process may make what is missing of a cgroup, as far as modes tell.
pub(super) fn may_be_made(path: &Path) -> bool {
    let Some(there) = path.ancestors().find(|ancestor| ancestor.exists()) else { return false };
    rustix::fs::accessat(rustix::fs::CWD, there, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Makes a cgroup with all that is missing above it.
pub(super) fn make(mount: &Path, path: &Path, version: u8) -> Result<(), CgroupError> {
    let mut attempt = 0;
    loop {
        match make_once(mount, path, version) {
            // Another container that shared a cgroup above has just removed it.
            Err(CgroupError::File { source, .. })
                if source.kind() == ErrorKind::NotFound && attempt < ATTEMPTS && mount.exists() =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn make_once(mount: &Path, path: &Path, version: u8) -> Result<(), CgroupError> {
    let mut above = mount.to_owned();
    for directory in between(mount, path) {
        if version == 2 {
            enable_controllers(&above);
        }
        match fs::DirBuilder::new().mode(0o755).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CgroupError::File { path: directory, source }),
        }
        match version {
            1 => inherit_cpuset(&above, &directory)?,
            _ => check_type(&directory)?,
        }
        above = directory;
    }
    Ok(())
}

/// Makes every controller available below a cgroup. One that cannot be is missed when a limit needs it, and then named.
fn enable_controllers(path: &Path) {
    let file = path.join("cgroup.subtree_control");
    let available = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let wanted: Vec<_> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|enabled| enabled == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() || write(&file, &wanted.join(" ")).is_ok() {
        return;
    }
    for controller in wanted {
        if let Err(error) = write(&file, &controller) {
            log::debug!("{}: {controller}: {error}", file.display());
        }
    }
}

/// A cgroup whose parent has processes of its own cannot limit memory, and one of threads cannot hold a process.
fn check_type(path: &Path) -> Result<(), CgroupError> {
    let mode = fs::read_to_string(path.join("cgroup.type")).unwrap_or_default();
    match mode.trim() {
        "" | "domain" => Ok(()),
        mode => Err(CgroupError::Threaded { path: path.into(), mode: mode.into() }),
    }
}

/// In version 1 nothing can be put into a cgroup that has no processors or no memory nodes, as each has at first.
fn inherit_cpuset(above: &Path, path: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = path.join(name);
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if text.trim().is_empty() {
            let inherited = fs::read_to_string(above.join(name)).unwrap_or_default();
            write(&file, inherited.trim()).map_err(|source| CgroupError::File { path: file, source })?;
        }
    }
    Ok(())
}

/// Writes settings, each to its file in a directory.
///
/// Some values are only valid once another one is set (a quota in a longer period, memory below memory and swap), which
/// the kernel answers with `EINVAL`: those are tried again after the rest.
pub(super) fn write_all(settings: Vec<(PathBuf, CgroupSetting)>) -> Result<(), CgroupError> {
    let mut again = Vec::new();
    for (directory, setting) in settings {
        match write(&directory.join(&setting.file), &setting.value) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => again.push((directory, setting)),
            Err(error) => failed(&directory, setting, error)?,
        }
    }
    for (directory, setting) in again {
        if let Err(error) = write(&directory.join(&setting.file), &setting.value) {
            failed(&directory, setting, error)?;
        }
    }
    Ok(())
}

fn failed(directory: &Path, setting: CgroupSetting, source: io::Error) -> Result<(), CgroupError> {
    if source.kind() == ErrorKind::NotFound {
        if is_optional(&setting) {
            return Ok(());
        }
        let controller = setting.file.split('.').next().unwrap_or_default();
        let known = fs::read_to_string(directory.join("cgroup.controllers"));
        if known.is_ok_and(|known| !known.split_whitespace().any(|name| name == controller)) {
            let (controller, place) = (controller.to_owned(), directory.display().to_string());
            return Err(CgroupError::NoController { field: setting.field, controller, place });
        }
    }
    let CgroupSetting { field, file, value } = setting;
    Err(CgroupError::Setting { field, value, path: directory.join(file), source })
}

/// A kernel without the file does what is asked for anyway: it has no swap, or no reservations of huge pages.
fn is_optional(setting: &CgroupSetting) -> bool {
    match setting.file.as_str() {
        "memory.swap.max" => matches!(setting.value.as_str(), "0" | "max"),
        "memory.memsw.limit_in_bytes" => setting.value == "-1",
        file => file.contains(".rsvd."),
    }
}

/// One write, as cgroups want it, to a file that is there.
fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::File::options().write(true).truncate(true).open(file)?.write_all(text.as_bytes())
}

/// Puts a process into a cgroup.
pub(super) fn enter(path: &Path, pid: u32) -> Result<(), CgroupError> {
    let file = path.join(PROCESSES);
    let result =
        patiently(|| write(&file, &pid.to_string()), |error| error.raw_os_error() == Some(libc::EINVAL));
    result.map_err(|source| CgroupError::File { path: file, source })
}

/// Ends the processes of a cgroup, unless this is one of them. Those below it are others'.
pub(super) fn kill(path: &Path) {
    let own = std::process::id().cast_signed();
    // What they start meanwhile is found by another look.
    for _ in 0..ATTEMPTS {
        let found = processes(path).unwrap_or_default();
        if found.is_empty() || found.contains(&own) {
            return;
        }
        for pid in found.into_iter().filter_map(Pid::from_raw) {
            kill_member(path, pid);
        }
    }
}

/// By a descriptor: the id may have become another process's, which is in another cgroup.
fn kill_member(path: &Path, pid: Pid) {
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    if processes(path).is_ok_and(|now| now.contains(&pid.as_raw_pid())) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// Removes a cgroup with all below it, as far as it is empty. What still has processes is waited for, a second at most.
pub(super) fn remove(path: &Path) -> Result<(), CgroupError> {
    // Where nothing may be written, even this is refused (EROFS) instead of having nothing to do.
    if !path.exists() {
        return Ok(());
    }
    for child in children(path) {
        remove(&child)?;
    }
    let result = patiently(
        || match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        },
        |error| error.kind() == ErrorKind::ResourceBusy,
    );
    result.map_err(|source| CgroupError::File { path: path.into(), source })
}

/// Removes those of these directories that nobody uses, the last one first.
pub(super) fn remove_empty(directories: &[PathBuf]) {
    for directory in directories.iter().rev() {
        let _ = fs::remove_dir(directory);
    }
}

fn patiently(
    mut attempt: impl FnMut() -> io::Result<()>,
    passes: impl Fn(&io::Error) -> bool,
) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if passes(&error) => sleep(pause),
            result => return result,
        }
        pause *= 2;
    }
    attempt()
}
