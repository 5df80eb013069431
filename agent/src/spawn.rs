//! Makes the processes of a container, with their streams, in their cgroup and namespaces.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use drupe_protocol::{GuestConfig, IdMode};
use rustix::process::{PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::dial::Dial;
use crate::failure::{self, Named, Result};
use crate::setup::{self, Child};
use crate::sys::Process;
use crate::task::Task;
use crate::{Places, cgroup, confinement, mounts, streams, sys, time_namespace};

const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A container's processes, while the first of them is still being prepared.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The process that becomes the workload.
    pub(crate) main: Task,
    /// The first process of its pid namespace, when that is another one.
    pub(crate) init: Option<Process>,
}

/// Starts to prepare a container. On failure nothing of it is left.
pub(crate) fn spawn(
    config: &GuestConfig,
    places: &Places,
    dial: &dyn Dial,
    configured_us: u64,
) -> Result<Spawned> {
    if mounts::share_path(Path::new("/"), &config.id).is_none() {
        return Err(failure::setup("id", format_args!("{:?}: not a name", config.id)));
    }
    let (streams, ends) = streams::connect(&config.process, dial)?;
    let (ours, theirs) = UnixStream::pair().named("process", "report socket")?;
    let cgroup = cgroup::create(&places.cgroup, &config.id)
        .named("linux.cgroupsPath", format_args!("cgroup of {:?}", config.id))?;
    let child = Child { config, places, ends: &ends, report: theirs.as_fd(), configured_us };
    let prepared = confinement::confine(config, &places.cgroup, &cgroup);
    let offsets = config.namespaces.time.as_ref();
    match prepared.and_then(|()| time_namespace::with_offsets(offsets, || processes(&child, &cgroup))) {
        Ok((main, init)) => Ok(Spawned { main: Task::new(main, ours.into(), streams), init }),
        Err(failure) => {
            cgroup::remove(&places.cgroup, &config.id);
            Err(failure)
        }
    }
}

fn processes(child: &Child<'_>, cgroup: &OwnedFd) -> Result<(Process, Option<Process>)> {
    match child.config.namespaces.pid {
        IdMode::Init => {
            let main = sys::clone_process(NAMESPACES | libc::CLONE_NEWPID, Some(cgroup.as_fd()))
                .named("process", "clone")?;
            let Some(main) = main else { child.run() };
            Ok((main, None))
        }
        IdMode::BehindInit => {
            let init = spawn_init(child.places, cgroup)?;
            let main = match clone_in_namespace_of(&init, NAMESPACES, cgroup) {
                Ok(Some(main)) => main,
                Ok(None) => child.run(),
                Err(error) => {
                    sys::kill(&init);
                    let _ = waitpid(Some(init.pid), WaitOptions::empty());
                    return Err(error).named("process", "clone");
                }
            };
            Ok((main, Some(init)))
        }
    }
}

/// Makes the small init, and waits until it has let go of everything that is the agent's.
fn spawn_init(places: &Places, cgroup: &OwnedFd) -> Result<Process> {
    const FIELD: &str = "linux.namespaces";
    let (mut ours, theirs) = UnixStream::pair().named(FIELD, "pid")?;
    let init = sys::clone_process(libc::CLONE_NEWNS | libc::CLONE_NEWPID, Some(cgroup.as_fd()))
        .named(FIELD, "pid: clone")?;
    let Some(init) = init else { setup::run_init(places) };
    drop(theirs);
    let _ = ours.read(&mut [0]);
    Ok(init)
}

/// Makes a child of the agent in another process's pid namespace: as its parent the agent gets its exact status.
pub(crate) fn clone_in_namespace_of(
    other: &Process,
    namespaces: i32,
    cgroup: &OwnedFd,
) -> io::Result<Option<Process>> {
    let pid_namespace = ThreadNameSpaceType::PROCESS_ID;
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    move_into_thread_name_spaces(other.pidfd.as_fd(), pid_namespace)?;
    let child = sys::clone_process(namespaces, Some(cgroup.as_fd()));
    if !matches!(child, Ok(None)) {
        move_into_thread_name_spaces(own.as_fd(), pid_namespace)?;
    }
    child
}
