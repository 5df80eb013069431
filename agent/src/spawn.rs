//! Makes the processes of a container, with their streams, in their cgroup and namespaces.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use drupe_protocol::{GuestConfig, IdMode, UserNamespace};
use rustix::process::{PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::dial::Dial;
use crate::failure::{self, Named, Result};
use crate::layer::Staged;
use crate::setup::{self, Child};
use crate::sources::Sources;
use crate::sys::Process;
use crate::sysctls::{self, Part};
use crate::task::Task;
use crate::{Places, cgroup, confinement, mounts, report, streams, sys, time_namespace, user_namespace};

const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A user namespace, and the network that its root has rights over. Without one the network is the guest's.
const OF_USER: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;

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
    let child = Child { config, places, ends: &ends, report: theirs.as_fd(), configured_us, init: None };
    match prepare_and_clone(&child, &cgroup, &ours) {
        Ok((main, init)) => Ok(Spawned { main: Task::new(main, ours.into(), streams), init }),
        Err(failure) => {
            cgroup::remove(&places.cgroup, &config.id);
            Err(failure)
        }
    }
}

fn prepare_and_clone(
    child: &Child<'_>,
    cgroup: &OwnedFd,
    report: &UnixStream,
) -> Result<(Process, Option<Process>)> {
    let Child { config, places, .. } = child;
    confinement::confine(config, &places.cgroup, cgroup)?;
    let (user, time) = (config.namespaces.user.as_ref(), config.namespaces.time.as_ref());
    if let Some(user) = user {
        user_namespace::give_streams(user, &config.process, child.ends);
    }
    let layer = config.root.layer.as_ref();
    let _on_the_stage = layer.map(|layer| Staged::new(layer, &places.stage)).transpose()?;
    let (main, init) = time_namespace::with_offsets(time, || processes(child, cgroup))?;
    let Some(user) = user else { return Ok((main, init)) };
    let first = init.as_ref().unwrap_or(&main);
    let mapped = if init.is_none() { user_namespace::map(user, first.pid) } else { Ok(()) };
    let given = mapped.and_then(|()| user_namespace::grant(&config.process, main.pid)).and_then(|()| {
        user_namespace::in_network_of(first, || {
            sysctls::write(config, Part::Guest)?;
            // A sysfs shows the network of who mounts it.
            Sources::make(config, places)
        })
    });
    match given {
        // A child that is gone says so by its end.
        Ok(sources) => drop(report::send_descriptors(report.as_fd(), sources.descriptors())),
        Err(failure) => {
            // The first process of a namespace does not end before all others of it are reaped.
            [&main].into_iter().chain(&init).for_each(end);
            return Err(failure);
        }
    }
    Ok((main, init))
}

fn processes(child: &Child<'_>, cgroup: &OwnedFd) -> Result<(Process, Option<Process>)> {
    let user = child.config.namespaces.user.as_ref();
    match child.config.namespaces.pid {
        IdMode::Init => {
            let namespaces = NAMESPACES | libc::CLONE_NEWPID | user.map_or(0, |_| OF_USER);
            let main = sys::clone_process(namespaces, Some(cgroup.as_fd())).named("process", "clone")?;
            let Some(main) = main else { child.run() };
            Ok((main, None))
        }
        IdMode::BehindInit => {
            let init = spawn_init(child.places, cgroup, user)?;
            // In a user namespace the child makes its own, once it has joined that.
            let namespaces = if user.is_some() { 0 } else { NAMESPACES };
            let main = match clone_in_namespace_of(&init, namespaces, cgroup) {
                Ok(Some(main)) => main,
                Ok(None) => Child { init: user.map(|_| init.pidfd.as_fd()), ..*child }.run(),
                Err(error) => {
                    end(&init);
                    return Err(error).named("process", "clone");
                }
            };
            Ok((main, Some(init)))
        }
    }
}

/// Makes the small init, and waits until it has let go of everything that is the agent's.
fn spawn_init(places: &Places, cgroup: &OwnedFd, user: Option<&UserNamespace>) -> Result<Process> {
    const FIELD: &str = "linux.namespaces";
    let (mut ours, mut theirs) = UnixStream::pair().named(FIELD, "pid")?;
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | user.map_or(0, |_| OF_USER);
    let init = sys::clone_process(namespaces, Some(cgroup.as_fd())).named(FIELD, "pid: clone")?;
    let Some(init) = init else {
        drop(ours);
        if user.is_some() && !matches!(theirs.read(&mut [0]), Ok(1)) {
            sys::exit(1);
        }
        setup::run_init(places, user.is_some())
    };
    drop(theirs);
    if let Some(user) = user {
        if let Err(failure) = user_namespace::map(user, init.pid) {
            end(&init);
            return Err(failure);
        }
        let _ = ours.write(&[1]);
    }
    let _ = ours.read(&mut [0]);
    Ok(init)
}

/// Ends a child that has not become anybody's yet.
fn end(child: &Process) {
    sys::kill(child);
    let _ = waitpid(Some(child.pid), WaitOptions::empty());
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
