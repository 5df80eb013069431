//! Makes the processes of a container, with their streams, in their cgroup and namespaces.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use drupe_protocol::{GuestConfig, IdMode};
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::dial::Dial;
use crate::failure::{self, Named, Result};
use crate::setup::{self, Child};
use crate::stdio::{Direction, Relay};
use crate::sys::Process;
use crate::{Places, cgroup, mounts, sys};

const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A container's processes, while the first of them is still being prepared.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The process that becomes the workload.
    pub(crate) main: Process,
    /// The first process of its pid namespace, when that is another one.
    pub(crate) init: Option<Process>,
    /// Where the main process says how far it is (see [`setup`]).
    pub(crate) report: OwnedFd,
    /// Its streams.
    pub(crate) relays: Vec<Relay>,
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
    let (relays, streams) = connect_streams(config, dial)?;
    let (ours, theirs) = UnixStream::pair().named("process", "report socket")?;
    let cgroup = cgroup::create(&places.cgroup, &config.id)
        .named("linux.cgroupsPath", format_args!("cgroup of {:?}", config.id))?;
    let [stdin, stdout, stderr] = &streams;
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let child = Child { config, places, streams, report: theirs.as_fd(), configured_us };
    match processes(&child, &cgroup) {
        Ok((main, init)) => Ok(Spawned { main, init, report: ours.into(), relays }),
        Err(failure) => {
            cgroup::remove(&places.cgroup, &config.id);
            Err(failure)
        }
    }
}

fn connect_streams(config: &GuestConfig, dial: &dyn Dial) -> Result<(Vec<Relay>, [OwnedFd; 3])> {
    let ports = config.process.stdio;
    let mut relays = Vec::new();
    let mut stream = |name: &str, port: Option<u32>, direction| {
        let field = format!("process.stdio.{name}");
        let Some(port) = port else {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            return rustix::fs::open(c"/dev/null", flags, Mode::empty()).named(field, "\"/dev/null\"");
        };
        let socket = dial.dial(port).named(&field, format_args!("port {port}"))?;
        let (relay, theirs) = Relay::new(direction, socket).named(&field, format_args!("port {port}"))?;
        relays.push(relay);
        Ok(theirs)
    };
    let streams = [
        stream("stdin", ports.stdin, Direction::ToWorkload)?,
        stream("stdout", ports.stdout, Direction::ToHost)?,
        stream("stderr", ports.stderr, Direction::ToHost)?,
    ];
    Ok((relays, streams))
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
            let main = match clone_in_namespace_of(&init, cgroup) {
                Ok(Some(main)) => main,
                Ok(None) => child.run(),
                Err(failure) => {
                    end(&init);
                    return Err(failure);
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
fn clone_in_namespace_of(init: &Process, cgroup: &OwnedFd) -> Result<Option<Process>> {
    const FIELD: &str = "linux.namespaces";
    let pid_namespace = ThreadNameSpaceType::PROCESS_ID;
    let own = pidfd_open(getpid(), PidfdFlags::empty()).named(FIELD, "pid")?;
    move_into_thread_name_spaces(init.pidfd.as_fd(), pid_namespace).named(FIELD, "pid: enter")?;
    let main = sys::clone_process(NAMESPACES, Some(cgroup.as_fd()));
    if !matches!(main, Ok(None)) {
        move_into_thread_name_spaces(own.as_fd(), pid_namespace).named(FIELD, "pid: leave")?;
    }
    main.named("process", "clone")
}

fn end(process: &Process) {
    let _ = sys::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
    let _ = rustix::process::waitpid(Some(process.pid), rustix::process::WaitOptions::empty());
}
