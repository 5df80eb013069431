//! `drupe exec`: one more process in a container that runs.
//!
//! The process that its caller sees is a witness ([`session`]): it has the exit status of the one in the guest, hands
//! its signals on, and its end is the other's end too. In the foreground that is this process; with `--detach` it is
//! one that stays behind ([`keeper`]).

mod keeper;
mod session;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use drupe_protocol::Process;

use super::{Failure, find};
use crate::bundle::Config;
use crate::cli::{ExecArgs, GlobalArgs};
use crate::console::RawTerminal;
use crate::container::{Container, Record, Verb};
use crate::control::Client;
use crate::handover::{self, Handed, Handover};
use crate::inherited;
use crate::monitor::{Signals, StreamFds};
use crate::plan::exec::{self as plan, ExecFlags, ExecRequest};
use session::{Session, SessionError};

/// The exit status of an exec that drupe could not carry out, as with runc.
const FAILED: u8 = 255;

/// Longest file that `--process` reads.
const LONGEST: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error("--cgroup: {0:?}: a process of the container is always in the container's own cgroup")]
    Cgroup(String),
    #[error("--process: {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("--process: {}: longer than {LONGEST} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("--process")]
    Process(#[source] plan::ExecError),
    #[error("signals")]
    Signals(#[source] io::Error),
}

/// Runs a process; the result is its exit status, or 0 when it is left alone once it runs.
pub(crate) fn exec(global: &GlobalArgs, args: &ExecArgs) -> Result<u8, Failure> {
    attempt(global, args).map_err(|failure| Failure { status: FAILED, ..failure })
}

/// What a process is made of, on the host's side.
struct Preparation {
    process: Process,
    fds: StreamFds,
    /// The slave of the terminal that was sent to `--console-socket`.
    slave: Option<OwnedFd>,
    client: Client,
}

fn attempt(global: &GlobalArgs, args: &ExecArgs) -> Result<u8, Failure> {
    if let Some(cgroup) = args.cgroup.iter().find(|cgroup| !cgroup.is_empty()) {
        return Err(ExecError::Cgroup(cgroup.clone()).into());
    }
    let request = request(args)?;
    let verb = if args.ignore_paused { Verb::ExecPaused } else { Verb::Exec };
    let container = find::existing(global, &args.id, verb)?;
    let Container { entry, record, .. } = container;
    let mut process = process(record?, &request)?;
    let handover = Handover::new(&args.handover, &process, args.detach, false)?;
    let client = Client::connect(&entry).map_err(SessionError::from)?;
    let handed = handover.open()?;
    handed.set_size(&mut process);
    let Handed { streams: fds, slave, own, .. } = handed;
    let preparation = Preparation { process, fds, slave, client };
    if args.detach { keeper::leave(args, preparation) } else { attend(args, preparation, own) }
}

/// Stays until the process has ended.
fn attend(args: &ExecArgs, preparation: Preparation, own: Option<RawTerminal>) -> Result<u8, Failure> {
    let Preparation { process, fds, client, .. } = preparation;
    let signals = Signals::block_all().map_err(ExecError::Signals)?;
    let mut session = Session::begin(client, signals, process, fds)?;
    if let Some(status) = session.wait_for_start()? {
        return Ok(status);
    }
    handover::announce(&args.handover, rustix::process::getpid())?;
    Ok(session.wait(&|| own.as_ref().and_then(RawTerminal::size)))
}

fn request(args: &ExecArgs) -> Result<ExecRequest, ExecError> {
    if let Some(path) = &args.process {
        return Ok(ExecRequest::File { path: path.clone(), json: read(path)? });
    }
    Ok(ExecRequest::Flags(ExecFlags {
        args: args.command.clone(),
        cwd: args.cwd.clone(),
        env: args.env.clone(),
        user: args.user.map(|user| user.to_string()),
        additional_gids: args.additional_gids.clone(),
        capabilities: args.cap.clone(),
        terminal: args.tty,
        no_new_privileges: args.no_new_privs,
        apparmor: args.apparmor.clone(),
        process_label: args.process_label.clone(),
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, ExecError> {
    let error = |source| ExecError::File { path: path.to_owned(), source };
    let mut json = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut json)).map_err(error)?;
    match u64::try_from(json.len()) {
        Ok(length) if length <= LONGEST => Ok(json),
        _ => Err(ExecError::TooLong(path.to_owned())),
    }
}

/// The process that is asked for; what of it is not applied is warned about.
fn process(record: Record, request: &ExecRequest) -> Result<Process, Failure> {
    let vcpus = record.drupe.machine.vcpus;
    let config = Config::of_value(record.drupe.config)?;
    let (mut process, warnings) = plan::process(&config, request, vcpus).map_err(|error| match request {
        ExecRequest::File { .. } => Failure::from(ExecError::Process(error)),
        ExecRequest::Flags(_) => Failure::from(error),
    })?;
    for warning in &warnings {
        log::warn!("{warning}");
    }
    inherited::complete_limits(&mut process);
    Ok(process)
}
