//! The process that stays behind `exec --detach`: a child of the caller's own, once this one has returned.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::session::Session;
use super::{ExecError, FAILED, Preparation};
use crate::cli::ExecArgs;
use crate::commands::Failure;
use crate::console;
use crate::handover;
use crate::monitor::{Report, Reporter, Signals, report_channel};
use crate::sys::{self, Forked};
use crate::text;

#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("the process that stands for the one in the container")]
    Process(#[from] io::Error),
    #[error("the process that stands for the one in the container has ended")]
    Ended,
    #[error("{0}")]
    Reported(String),
}

/// Leaves a keeper behind, and returns when its process runs.
pub(super) fn leave(args: &ExecArgs, preparation: Preparation) -> Result<u8, Failure> {
    let (reporter, reports) = report_channel().map_err(KeeperError::Process)?;
    let parent = rustix::process::getpid();
    match sys::fork().map_err(KeeperError::Process)? {
        Forked::Child => {
            drop(reports);
            std::process::exit(i32::from(keep(parent, preparation, reporter)))
        }
        Forked::Parent(keeper) => {
            drop((reporter, preparation));
            match reports.first().map_err(KeeperError::Process)? {
                Some(Report::Ready) => handover::announce(&args.handover, keeper).inspect_err(|_| {
                    // Its end is that of the process in the container.
                    let _ = rustix::process::kill_process(keeper, Signal::KILL);
                })?,
                Some(Report::Failed { message, .. }) => return Err(KeeperError::Reported(message).into()),
                None => return Err(KeeperError::Ended.into()),
            }
            Ok(0)
        }
    }
}

/// The life of the keeper; the result is its exit status.
fn keep(parent: Pid, preparation: Preparation, mut reporter: Reporter) -> u8 {
    let Preparation { process, fds, slave, client } = preparation;
    let begun = settle(parent, slave.as_ref()).map_err(Failure::from).and_then(|()| {
        let signals = Signals::block_all().map_err(ExecError::Signals)?;
        let mut session = Session::begin(client, signals, process, fds)?;
        // They are the process's alone: who reads from them is to see its end.
        let_go_of_streams()?;
        let given_up = session.wait_for_start()?;
        set_parent_process_death_signal(None).map_err(io::Error::from)?;
        if given_up.is_none() {
            reporter.ready()?;
        }
        Ok((session, given_up))
    });
    match begun {
        Ok((_, Some(status))) => status,
        Ok((mut session, None)) => {
            drop(reporter);
            session.wait(&|| slave.as_ref().and_then(console::window_size))
        }
        Err(failure) => {
            let message = text::chain(failure.error.as_ref());
            // A caller that has gone needs no reason.
            let _ = reporter.tell(&Report::Failed { message, status: FAILED });
            FAILED
        }
    }
}

/// Becomes a session of its own, whose terminal is the process's: so its sizes are announced. Until the process runs
/// the caller's end is this process's end.
fn settle(parent: Pid, slave: Option<&OwnedFd>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::other("the caller has ended"));
    }
    match slave {
        Some(slave) => console::control_session(slave),
        None => {
            rustix::process::setsid()?;
            Ok(())
        }
    }
}

fn let_go_of_streams() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // Nor does it keep what else its caller had open.
    sys::close_inherited()
}
