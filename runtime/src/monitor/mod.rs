//! The monitor: the process that owns a container's machine and talks to the agent in it. `drupe run` is it itself;
//! `drupe create` leaves one behind.
//!
//! One thread: the machine's event loop, on which the [`supervisor`] runs beside the machine's devices.

mod control;
mod conversation;
mod kernel_log;
mod pause;
mod pending;
mod progress;
mod report;
mod requests;
mod signals;
mod stdio;
mod supervisor;
mod tasks;
mod timer;

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use drupe_protocol::{CONTROL_PORT, ExitStatus, GuestConfig};
use drupe_vmm::{
    BuildError, HostPort, LoadError, Machine, MachineConfig, MachineFiles, RunError, StopReason,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::cgroup::CgroupError;
use crate::container::StoreError;
use crate::control::Listener;
use crate::files::Files;
use crate::hooks::HookError;
use crate::kvm::KvmError;
use crate::labels::LabelError;
use crate::pid_file::PidFileError;
use crate::stage::Stages;
use conversation::{Conversation, ConversationError};
use pause::Bounds;
use requests::Clients;
use supervisor::{HELLO_TIMEOUT, READY_TIMEOUT, Record, Supervisor};
use tasks::Tasks;
use timer::Timer;

pub(crate) use kernel_log::KernelLog;
pub(crate) use progress::{Audience, Lifecycle, Progress};
pub(crate) use report::{Report, Reporter, Reports, channel as report_channel};
pub(crate) use signals::Signals;
pub(crate) use stdio::{StreamFds, TerminalFds};
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
    #[error(
        "the guest did not set the container up within {} s: run with --debug to see its log",
        READY_TIMEOUT.as_secs()
    )]
    NoReady,
    #[error("the guest's kernel stopped ({0}) before the container ended: run with --debug to see its log")]
    Stopped(StopReason),
    #[error("the monitor's descriptors")]
    Descriptors(#[from] io::Error),
    #[error("the monitor's event loop")]
    Events(#[from] event_manager::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error("config.json")]
    Hook(#[from] HookError),
    #[error("the container's control socket")]
    Listener(#[source] io::Error),
    #[error("the creator of the container has ended")]
    Report(#[source] io::Error),
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

/// What a monitor is given beside the machine.
pub(crate) struct Setting {
    pub(crate) signals: Signals,
    pub(crate) streams: StreamFds,
    /// Where other processes ask for something.
    pub(crate) listener: Option<Listener>,
    pub(crate) lifecycle: Box<dyn Lifecycle>,
    /// The program is executed without being asked for.
    pub(crate) starts: bool,
    /// Where the guest kernel's log goes.
    pub(crate) console: Option<Box<dyn Write + Send>>,
}

/// Runs a container in a machine of its own, to its end.
pub(crate) fn run(
    machine: &MachineConfig,
    guest: GuestConfig,
    files: Files,
    mut setting: Setting,
    stages: &mut Stages,
) -> Result<Ending, MonitorError> {
    let (control, control_port) = control::channel()?;
    let mut guest = guest;
    let changed = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
    let stdio::Streams { ports, outputs } =
        stdio::open(setting.streams, stdio::Numbers::From(FIRST_STREAM_PORT), &mut guest.process, &changed)?;
    let control_port: Box<dyn HostPort> = Box::new(control_port);
    let ports = std::iter::once((CONTROL_PORT, control_port)).chain(ports).collect();
    let kernel = files.kernel.path.clone();
    let machine = Machine::build(machine, machine_files(files, ports, setting.console))
        .map_err(|error| MonitorError::of_build(error, kernel))?;
    stages.mark("machine");
    setting.lifecycle.machine_made()?;
    stages.mark("host");
    let handle = machine.handle();
    let record = Rc::new(RefCell::new(Record { stages: stages.clone(), status: None, result: None }));
    let tasks = Tasks::new(&guest.id, Box::new(handle.clone()), Arc::clone(&changed), Bounds::default())?;
    let supervisor = Supervisor {
        conversation: Conversation::new(guest),
        control,
        signals: setting.signals,
        outputs,
        changed,
        tasks,
        timer: Timer::new().map_err(MonitorError::Descriptors)?,
        ready_timeout: READY_TIMEOUT,
        deadline: Timer::new().map_err(MonitorError::Descriptors)?,
        kill_timeout: Supervisor::KILL_TIMEOUT,
        patience: Supervisor::PATIENCE,
        record: Rc::clone(&record),
        lifecycle: setting.lifecycle,
        clients: Clients::new(setting.listener),
        starts: setting.starts,
        stop: Box::new(move || handle.stop()),
    };
    let stopped = machine.run(vec![Box::new(supervisor)]);
    let mut record = record.borrow_mut();
    *stages = record.stages.clone();
    let known = record.result.take();
    conclude(known.or_else(|| record.status.and_then(|status| cut_off(status, &stopped))), stopped)
}

fn machine_files(
    files: Files,
    ports: Vec<stdio::Port>,
    console: Option<Box<dyn Write + Send>>,
) -> MachineFiles {
    MachineFiles {
        kvm: files.kvm,
        kernel: files.kernel.file,
        initramfs: Some(files.initramfs),
        shares: files.shares,
        disks: files.disk.into_iter().collect(),
        ports,
        console,
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
mod fake_machine;
#[cfg(test)]
mod pause_test;
#[cfg(test)]
mod requests_test;
#[cfg(test)]
mod tasks_test;
#[cfg(test)]
mod tests;
