//! One more process in a container that runs: born in its cgroup and pid namespace, then joined to the others.
//!
//! The container's processes can see the child from its birth. It is a copy of the agent until its exec, so the
//! agent is not dumpable ([`crate::Agent::new`]), nor is any copy: nobody without `CAP_SYS_PTRACE` over the guest
//! looks into it. It uses the agent's /proc before it joins, and none afterwards: the container's is not trusted.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use drupe_protocol::{Namespaces, Process};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::setsid;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::dial::Dial;
use crate::failure::{Named, Result};
use crate::process::{self, Program};
use crate::report::Report;
use crate::streams::Ends;
use crate::task::Task;
use crate::terminal::Terminal;
use crate::{Places, cgroup, clock, rlimits, scheduling, spawn, streams, sys, user_namespace};

/// The container that an exec is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) id: &'a str,
    /// Its main process, whose namespaces are joined.
    pub(crate) main: &'a sys::Process,
    pub(crate) namespaces: &'a Namespaces,
}

/// Starts to prepare a process. On failure nothing of it is left.
pub(crate) fn spawn(home: Home<'_>, process: &Process, places: &Places, dial: &dyn Dial) -> Result<Task> {
    let asked_us = clock::now_us();
    let (streams, ends) = streams::connect(process, dial)?;
    let (ours, theirs) = UnixStream::pair().named("process", "report socket")?;
    let child = birth(home, places)?;
    let Some(child) = child else { run(home, process, &ends, theirs.as_fd(), asked_us) };
    Ok(Task::new(child, ours.into(), streams))
}

/// Makes the child where the container's processes may be. `None` in the child.
fn birth(home: Home<'_>, places: &Places) -> Result<Option<sys::Process>> {
    const FIELD: &str = "linux.cgroupsPath";
    let what = format!("cgroup of {:?}", home.id);
    let own = cgroup::open(&places.cgroup, home.id).named(FIELD, &what)?;
    let mut child = spawn::clone_in_namespace_of(home.main, 0, &own);
    if child.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
        // With controllers for the cgroups that the container made below it, it can hold no process itself.
        let inner = cgroup::open_of_process(&places.cgroup, home.id, home.main.pid).named(FIELD, &what)?;
        child = spawn::clone_in_namespace_of(home.main, 0, &inner);
    }
    child.named("process", format_args!("clone in the container {:?}", home.id))
}

/// The child's life: joins the container, reports, executes the program.
fn run(home: Home<'_>, process: &Process, ends: &Ends, report: BorrowedFd<'_>, asked_us: u64) -> ! {
    if let Some(user) = &home.namespaces.user {
        user_namespace::give_streams(user, process, ends);
    }
    // First of all: who may trace it in the container may take its descriptors.
    let kept = sys::keep_only(ends.standard(), &ends.others(), [report, home.main.pidfd.as_fd()]);
    let Ok([report, main]) = kept else { sys::exit(1) };
    let report = Report::new(report, home.id);
    let failure = match join(home.namespaces, main, process).and_then(|()| become_process(process, &report)) {
        Ok(program) => {
            report.ready(asked_us, clock::now_us());
            process::execute(&program)
        }
        Err(failure) => failure,
    };
    report.failed(failure)
}

fn become_process(process: &Process, report: &Report) -> Result<Program> {
    if process.terminal.is_some() {
        let root =
            open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).named("process.terminal", "\"/\"")?;
        if let Some(terminal) = Terminal::for_process(root.as_fd(), process)? {
            report.hand_over(&terminal.take(process.user.uid)?);
        }
    }
    process::become_process(process)
}

/// Joins the namespaces of the container, whose main process is given.
fn join(container: &Namespaces, main: OwnedFd, process: &Process) -> Result<()> {
    setsid().named("process", "new session")?;
    let score = process.oom_score_adj.unwrap_or(0);
    fs::write("/proc/self/oom_score_adj", score.to_string()).named("process.oomScoreAdj", score)?;
    scheduling::enter_on(&process.cpu_affinity)?;
    scheduling::set_priorities(process, None)?;
    if container.user.is_some() {
        rlimits::raise(&process.rlimits, None)?;
    }
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    namespaces.set(ThreadNameSpaceType::USER, container.user.is_some());
    namespaces.set(ThreadNameSpaceType::TIME, container.time.is_some());
    // The root and the working directory become the container's with its mount namespace.
    move_into_thread_name_spaces(main.as_fd(), namespaces)
        .named("linux.namespaces", "namespaces of the container")?;
    if container.user.is_some() { user_namespace::become_root() } else { Ok(()) }
}
