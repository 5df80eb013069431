//! The monitor: the process that owns a container's machine and talks to the agent in it. `drupe run` is it.
//!
//! One thread: the machine's event loop, on which the [`supervisor`] runs beside the machine's devices.

mod control;
mod conversation;
#[allow(dead_code, reason = "exec and the questions come with the control socket")]
mod pending;
mod signals;
#[allow(dead_code, reason = "terminals and execs come with the control socket")]
mod stdio;
mod supervisor;
mod timer;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use drupe_protocol::{CONTROL_PORT, ExitStatus, GuestConfig};
use drupe_vmm::{
    BuildError, HostPort, LoadError, Machine, MachineConfig, MachineFiles, RunError, StopReason,
};

use crate::files::Files;
use crate::kvm::KvmError;
use crate::stage::Stages;
use conversation::{Conversation, ConversationError};
use stdio::{StreamFds, Streams};
use supervisor::{HELLO_TIMEOUT, Record, Supervisor};
use timer::Timer;

pub(crate) use signals::Signals;
pub(crate) use supervisor::Ending;

/// The first port of the main process's streams; the plan has the same.
const FIRST_STREAM_PORT: u32 = CONTROL_PORT + 1;

/// Why a container could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    #[error("config.json: linux.resources.memory.limit")]
    Memory(#[source] LoadError),
    #[error("the machine with kernel {}", kernel.display())]
    Build { kernel: PathBuf, source: BuildError },
    #[error("the machine")]
    Run(#[from] RunError),
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    #[error("the guest did not come up within {} s: run with --debug to see its log", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("the guest's kernel stopped ({0}) before the container ended: run with --debug to see its log")]
    Stopped(StopReason),
    #[error("the monitor's descriptors")]
    Descriptors(#[from] io::Error),
    #[error("the monitor's event loop")]
    Events(#[from] event_manager::Error),
}

impl MonitorError {
    /// Too little memory is the config's, all else the kernel's or the host's.
    fn of_build(error: BuildError, kernel: PathBuf) -> Self {
        match error {
            BuildError::Load(error @ LoadError::TooSmall { .. }) => Self::Memory(error),
            source => Self::Build { kernel, source },
        }
    }

    /// The exit status that the error stands for.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Conversation(error) => error.exit_status(),
            _ => 1,
        }
    }
}

/// Runs a container in a machine of its own, to its end. `started` is called when its program runs.
pub(crate) fn run(
    machine: &MachineConfig,
    guest: GuestConfig,
    files: Files,
    signals: Signals,
    stages: &mut Stages,
    started: Box<dyn FnMut()>,
) -> Result<Ending, MonitorError> {
    let (control, control_port) = control::channel()?;
    let mut guest = guest;
    let Streams { ports, outputs } =
        stdio::open(StreamFds::inherited()?, FIRST_STREAM_PORT, &mut guest.process)?;
    let control_port: Box<dyn HostPort> = Box::new(control_port);
    let ports = std::iter::once((CONTROL_PORT, control_port)).chain(ports).collect();
    let kernel = files.kernel.path.clone();
    let machine = Machine::build(machine, machine_files(machine, files, ports))
        .map_err(|error| MonitorError::of_build(error, kernel))?;
    stages.mark("machine");
    let handle = machine.handle();
    let record = Rc::new(RefCell::new(Record { stages: stages.clone(), status: None, result: None }));
    let supervisor = Supervisor {
        conversation: Conversation::new(guest),
        control,
        signals,
        outputs,
        timer: Timer::new().map_err(MonitorError::Descriptors)?,
        patience: Supervisor::PATIENCE,
        record: Rc::clone(&record),
        started,
        stop: Box::new(move || handle.stop()),
    };
    let stopped = machine.run(vec![Box::new(supervisor)]);
    let mut record = record.borrow_mut();
    *stages = record.stages.clone();
    let known = record.result.take();
    conclude(known.or_else(|| record.status.and_then(|status| cut_off(status, &stopped))), stopped)
}

fn machine_files(config: &MachineConfig, files: Files, ports: Vec<stdio::Port>) -> MachineFiles {
    MachineFiles {
        kvm: files.kvm,
        kernel: files.kernel.file,
        initramfs: Some(files.initramfs),
        shares: files.shares,
        ports,
        console: if config.console { Some(Box::new(io::stderr())) } else { None },
    }
}

/// The machine stopped by itself after its container had ended and before its output had.
fn cut_off(
    status: ExitStatus,
    stopped: &Result<StopReason, RunError>,
) -> Option<Result<Ending, MonitorError>> {
    let reason = stopped.as_ref().ok()?;
    log::warn!("the guest's kernel stopped ({reason}) before all of the container's output was delivered");
    Some(Ok(Ending::Exited(status)))
}

/// What the supervisor knows counts; without that the machine's own end is the reason.
fn conclude(
    known: Option<Result<Ending, MonitorError>>,
    stopped: Result<StopReason, RunError>,
) -> Result<Ending, MonitorError> {
    match (known, stopped) {
        (Some(result), _) => result,
        (None, Ok(StopReason::Unrunnable(why))) => Err(KvmError::Unrunnable(why).into()),
        (None, Ok(reason)) => Err(MonitorError::Stopped(reason)),
        (None, Err(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
