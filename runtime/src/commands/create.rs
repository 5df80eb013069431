//! `drupe create`: leaves a monitor behind, whose container is one exec away.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::preparation::{Place, Preparation};
use super::{Failure, removal};
use crate::cli::{CreateArgs, GlobalArgs, HandoverArgs};
use crate::container::Entry;
use crate::monitor::{Report, Reports, Signals, report_channel};
use crate::stage::Stages;
use crate::sys::{self, Forked};
use crate::{files, handover, launch};

#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error("the container's monitor")]
    Monitor(#[source] io::Error),
    #[error("the container's monitor ended before the container was created{}", how(.0.as_ref()))]
    Ended(Option<i32>),
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    #[error("{0}")]
    Reported(String),
}

fn how(signal: Option<&i32>) -> String {
    signal.map(|signal| format!(", by signal {signal}")).unwrap_or_default()
}

pub(crate) fn create(global: &GlobalArgs, args: &CreateArgs, stages: &mut Stages) -> Result<u8, Failure> {
    let preparation = Preparation::new(global, args, true, stages)?;
    let place = preparation.place(global, stages)?;
    detach(global, args, preparation, place, stages)?;
    Ok(0)
}

/// Leaves a monitor behind. What fails leaves nothing.
pub(super) fn detach(
    global: &GlobalArgs,
    args: &CreateArgs,
    preparation: Preparation,
    place: Place,
    stages: &mut Stages,
) -> Result<Rc<Entry>, Failure> {
    let entry = Rc::clone(&place.entry);
    match make(global, args, preparation, place, stages) {
        Ok(()) => Ok(entry),
        Err(failure) => {
            removal::clean_up(&entry);
            Err(failure)
        }
    }
}

fn make(
    global: &GlobalArgs,
    args: &CreateArgs,
    preparation: Preparation,
    place: Place,
    stages: &mut Stages,
) -> Result<(), Failure> {
    let machine = &args.machine;
    let files = files::open(&preparation.plan.host, machine.kernel.as_deref(), machine.initramfs.as_deref())?;
    stages.mark("files");
    let Preparation { mut plan, record, handover, .. } = preparation;
    let handed = handover.open()?;
    handed.set_size(&mut plan.guest.process);
    let Place { entry, creating, mut signals } = place;
    let (reporter, reports) = report_channel().map_err(CreateError::Monitor)?;
    let creator = rustix::process::getpid();
    match sys::fork().map_err(CreateError::Monitor)? {
        Forked::Child => {
            // The creator's to hold.
            drop((creating, reports));
            let launch = launch::Launch {
                plan,
                record,
                entry,
                files,
                streams: handed.streams,
                signals,
                debug: global.debug,
            };
            let status = launch.detached(reporter, creator, handed.slave.as_ref(), stages);
            std::process::exit(i32::from(status))
        }
        Forked::Parent(monitor) => {
            drop((reporter, handed));
            let made = attend(monitor, reports, &mut signals, &args.handover);
            drop(creating);
            made
        }
    }
}

/// Waits until the container is created, and tells of its monitor; one that comes to nothing is ended. It is signalled
/// and waited for by a descriptor: its id may be another process's as soon as it has been waited for.
fn attend(
    monitor: Pid,
    reports: Reports,
    signals: &mut Signals,
    handover: &HandoverArgs,
) -> Result<(), Failure> {
    let pidfd = rustix::process::pidfd_open(monitor, PidfdFlags::empty())
        .map_err(|errno| CreateError::Monitor(errno.into()))?;
    let made = wait(&pidfd, reports, signals).and_then(|()| Ok(handover::announce(handover, monitor)?));
    if made.is_err() {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    }
    made
}

/// Waits until the monitor says that the container is created, or ends. The monitor bounds what its guest may take.
fn wait(monitor: &OwnedFd, reports: Reports, signals: &mut Signals) -> Result<(), Failure> {
    loop {
        let mut fds =
            [PollFd::new(&reports, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(CreateError::Monitor(errno.into()).into()),
        }
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            break;
        }
        while let Some(signal) = signals.next() {
            if matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) {
                let status = 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0));
                return Err(Failure::with_status(CreateError::Interrupted(signal), status));
            }
        }
    }
    match reports.first().map_err(CreateError::Monitor)? {
        Some(Report::Ready) => Ok(()),
        Some(Report::Failed { message, status }) => {
            Err(Failure::with_status(CreateError::Reported(message), status))
        }
        None => {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let status = rustix::process::waitid(WaitId::PidFd(monitor.as_fd()), options);
            let signal = status.ok().flatten().and_then(|status| status.terminating_signal());
            Err(CreateError::Ended(signal).into())
        }
    }
}
