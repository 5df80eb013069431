//! The cgroups of containers, `<root>/drupe/<id>`. The agent itself stays in the root cgroup.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys;

const PARENT: &str = "drupe";

/// The cgroup of a container.
pub(crate) fn path(root: &Path, id: &str) -> PathBuf {
    root.join(PARENT).join(id)
}

/// Makes every controller of the kernel available to containers.
pub(crate) fn enable_controllers(root: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    make(root, PARENT)?;
    if all.is_empty() {
        return Ok(());
    }
    for directory in [root.to_owned(), root.join(PARENT)] {
        fs::write(directory.join("cgroup.subtree_control"), all.join(" "))?;
    }
    Ok(())
}

/// Makes the cgroup of a container and opens it for [`crate::sys::clone_process`].
pub(crate) fn create(root: &Path, id: &str) -> Result<OwnedFd, Errno> {
    make(&root.join(PARENT), id)?;
    open(root, id)
}

/// Opens the cgroup of a container.
pub(crate) fn open(root: &Path, id: &str) -> Result<OwnedFd, Errno> {
    open_directory(&path(root, id))
}

/// Opens the cgroup that a process of a container is in: the container's own, or one below it.
pub(crate) fn open_of_process(root: &Path, id: &str, pid: Pid) -> io::Result<OwnedFd> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()))?;
    let own = format!("/{PARENT}/{id}/");
    let below =
        text.lines().find_map(|line| line.strip_prefix("0::")?.split_once(&own)).map(|(_, path)| path);
    let below = below.filter(|path| !path.split('/').any(|name| name == "..")).unwrap_or_default();
    Ok(open_directory(&path(root, id).join(below))?)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The processes of a container, in the order of their ids: those in its cgroup and in the ones below it.
pub(crate) fn processes(root: &Path, id: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for directory in tree(path(root, id)) {
        // A cgroup that is gone has none, and those of a threaded one are in the file of its parent.
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A cgroup and those below it, parents first.
fn tree(top: PathBuf) -> Vec<PathBuf> {
    let mut found = vec![top];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let entries = fs::read_dir(directory).into_iter().flatten().filter_map(io::Result::ok);
        let below: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next += 1;
    }
    found
}

/// Delivers a signal to every process of a container but one, the agent's own.
pub(crate) fn signal(root: &Path, id: &str, except: Option<Pid>, signal: i32) {
    /// Processes that are made meanwhile are found by another look; a container that never stops is not waited for.
    const MAX_LOOKS: usize = 8;
    if signal == libc::SIGKILL && except.is_none() {
        return kill(root, id);
    }
    let except = except.map(Pid::as_raw_pid);
    let mut done = Vec::new();
    for _ in 0..MAX_LOOKS {
        let new: Vec<i32> = processes(root, id)
            .into_iter()
            .filter(|pid| Some(*pid) != except && !done.contains(pid))
            .collect();
        if new.is_empty() {
            break;
        }
        let open = |pid: &i32| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?));
        let pidfds: Vec<(i32, OwnedFd)> = new.iter().filter_map(open).collect();
        // An id that was used again meanwhile is one of the container's only if it is still listed.
        let still = processes(root, id);
        for (pid, pidfd) in pidfds.into_iter().filter(|(pid, _)| still.contains(pid)) {
            if let Err(error) = sys::send_signal(pidfd.as_fd(), signal)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                crate::log::note(format_args!("process {pid}: signal {signal}: {error}"));
            }
        }
        done.extend(new);
    }
}

/// Kills what is left in a container's cgroup, whatever namespace it is in.
pub(crate) fn kill(root: &Path, id: &str) {
    let _ = fs::write(path(root, id).join("cgroup.kill"), "1");
}

/// Removes a container's cgroup, and those that it made, after its last process. One that is busy is left: its name may be used again.
pub(crate) fn remove(root: &Path, id: &str) {
    for directory in tree(path(root, id)).iter().rev() {
        let _ = unlinkat(CWD, directory, AtFlags::REMOVEDIR);
    }
}

fn make(parent: &Path, name: &str) -> Result<(), Errno> {
    match mkdirat(CWD, parent.join(name), Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
