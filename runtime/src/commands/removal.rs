//! How a container comes to its end, and goes away.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::cgroup::CgroupError;
use crate::container::{Container, Entry, Lock, ProcessId, Status, StoreError};
use crate::control::{Client, ClientError, Request};
use crate::hooks::{HookError, HookKind};
use crate::text;

/// How long the end of a container may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a monitor may take to end its container before it is ended itself.
const KILL_PATIENCE: Duration = Duration::from_secs(6);
/// How often it is looked whether something has ended that has no descriptor to wait for.
const INTERVAL: Duration = Duration::from_millis(5);

/// Why a container did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error("container {0}: still running {s} s after SIGKILL", s = PATIENCE.as_secs())]
    StillRunning(String),
    #[error("container {0}: held by a process that neither its state nor its socket tells")]
    Unknown(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("config.json")]
    Hook(#[from] HookError),
}

/// Ends a container with SIGKILL, and returns when it is over.
pub(super) fn end(container: &Container) -> Result<(), EndError> {
    let entry = &container.entry;
    let deadline = Instant::now() + PATIENCE;
    let request = Request::Signal { signal: libc::SIGKILL, all: false };
    loop {
        let asked =
            Client::connect(entry).and_then(|mut client| client.ask(&request, &[], Some(KILL_PATIENCE)));
        let gone = matches!(asked, Err(ClientError::Gone));
        if asked.is_err() && !gone && !kill_monitor(entry)? {
            return Err(EndError::Unknown(entry.name().to_owned()));
        }
        // Where nobody listens its monitor is about to go, or to come.
        let patience = if gone { INTERVAL } else { PATIENCE };
        if wait_until_over(entry, patience)? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(EndError::StillRunning(entry.name().to_owned()));
        }
    }
}

/// Ends the monitor itself, which does not answer. `false`: nothing tells which process it is.
fn kill_monitor(entry: &Entry) -> Result<bool, StoreError> {
    let Some(container) = Container::look(entry.try_clone()?)? else { return Ok(true) };
    match container.monitor() {
        Some(monitor) => {
            // One that has ended meanwhile is what is wanted.
            let _ = monitor.kill();
            Ok(true)
        }
        None => Ok(!entry.is_locked(Lock::Alive)?),
    }
}

/// Waits until neither a monitor nor a creator is there.
fn wait_until_over(entry: &Entry, patience: Duration) -> Result<bool, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        if !entry.is_locked(Lock::Creating)? && !entry.is_locked(Lock::Alive)? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(INTERVAL);
    }
}

/// Removes a container that is over: when its monitor has gone, which is waited for. `false`: somebody else has
/// removed it.
pub(super) fn remove(container: Container) -> Result<bool, EndError> {
    if let Ok(record) = &container.record
        && let Some(monitor) = record.drupe.monitor
        && monitor != ProcessId::own()
    {
        see_off(monitor);
    }
    if !container.entry.claim_removal()? {
        return Ok(false);
    }
    if let Ok(record) = &container.record {
        record.drupe.cgroup.remove()?;
        record.run_hooks(HookKind::Poststop)?;
    }
    container.entry.remove()?;
    Ok(true)
}

/// Waits for the end of a monitor whose container is over, and ends it if that takes too long.
fn see_off(monitor: ProcessId) {
    let Some(process) = monitor.open() else { return };
    if !has_ended(&process, PATIENCE) {
        // What it does now is for nobody.
        let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        has_ended(&process, PATIENCE);
    }
}

fn has_ended(process: &OwnedFd, patience: Duration) -> bool {
    let limit = Timespec::try_from(patience).ok();
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, limit.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Takes back what was made of a container that came to nothing, or that nobody is to find after its end. The caller
/// has something else to say: what fails here is a warning.
pub(super) fn clean_up(entry: &Entry) {
    let removed = entry.try_clone().and_then(Container::look).map_err(EndError::from).and_then(|found| {
        let Some(container) = found else { return Ok(true) };
        if container.status == Status::Stopped {
            return remove(container);
        }
        end(&container)?;
        Container::look(container.entry)?.map_or(Ok(true), remove)
    });
    if let Err(error) = removed {
        log::warn!("{}", text::chain(&error));
    }
}
