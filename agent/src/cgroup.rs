//! The cgroups of containers, `<root>/drupe/<id>`. The agent itself stays in the root cgroup.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;

const PARENT: &str = "drupe";

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
    open_directory(&root.join(PARENT).join(id))
}

/// Opens the cgroup that a process of a container is in: the container's own, or one below it.
pub(crate) fn open_of_process(root: &Path, id: &str, pid: Pid) -> io::Result<OwnedFd> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()))?;
    let own = format!("/{PARENT}/{id}/");
    let below =
        text.lines().find_map(|line| line.strip_prefix("0::")?.split_once(&own)).map(|(_, path)| path);
    let below = below.filter(|path| !path.split('/').any(|name| name == "..")).unwrap_or_default();
    Ok(open_directory(&root.join(PARENT).join(id).join(below))?)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Kills what is left in a container's cgroup, whatever namespace it is in.
pub(crate) fn kill(root: &Path, id: &str) {
    let _ = fs::write(root.join(PARENT).join(id).join("cgroup.kill"), "1");
}

/// Removes a container's cgroup after its last process. One that is busy is left: its name may be used again.
pub(crate) fn remove(root: &Path, id: &str) {
    let _ = unlinkat(CWD, root.join(PARENT).join(id), AtFlags::REMOVEDIR);
}

fn make(parent: &Path, name: &str) -> Result<(), Errno> {
    match mkdirat(CWD, parent.join(name), Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
