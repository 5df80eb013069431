//! From a plan and open files to a running monitor: in this process, or in one that stays behind.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::process::{Pid, Signal};

use crate::container::lock::Held;
use crate::container::{Entry, Record};
use crate::control::Listener;
use crate::files::Files;
use crate::monitor::{
    self, Audience, Ending, KernelLog, MonitorError, Progress, Report, Reporter, Setting, Signals, StreamFds,
};
use crate::plan::Plan;
use crate::stage::Stages;
use crate::{sys, text};

/// Everything that a monitor needs.
pub(crate) struct Launch {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    pub(crate) entry: Rc<Entry>,
    pub(crate) files: Files,
    pub(crate) streams: StreamFds,
    pub(crate) signals: Signals,
    pub(crate) debug: bool,
}

impl Launch {
    /// Runs the container to its end in this process, which was forked for it; the result is the exit status of the
    /// process. `creator` is told when the container is created, or why it is not. `slave` is the terminal that the
    /// process is to be controlled by: its new sizes are announced then.
    pub(crate) fn detached(
        self,
        mut reporter: Reporter,
        creator: Pid,
        slave: Option<&OwnedFd>,
        stages: &mut Stages,
    ) -> u8 {
        let debug = self.debug;
        let result = reporter.try_clone().map_err(MonitorError::Descriptors).and_then(|own| {
            leave(creator, slave)?;
            let_go_of_streams()?;
            let console: Option<Box<dyn Write + Send>> =
                if debug { Some(Box::<KernelLog>::default()) } else { None };
            self.run(console, Audience::Creator(own), false, stages)
        });
        if debug {
            log::debug!("start-up: {}", stages.to_string().trim_end().replace('\n', "; "));
        }
        match result {
            Ok(ending) => {
                if let Ending::Interrupted(signal) = ending {
                    let message = format!("interrupted by signal {signal}");
                    // Nobody listens once the container is created.
                    let _ = reporter.tell(&Report::Failed { message, status: status(ending) });
                }
                status(ending)
            }
            Err(error) => {
                let message = text::chain(&error);
                // The creator says it, until it has returned.
                if reporter
                    .tell(&Report::Failed { message: message.clone(), status: error.exit_status() })
                    .is_err()
                {
                    log::error!("{message}");
                }
                error.exit_status()
            }
        }
    }

    /// Runs the container to its end in this process.
    pub(crate) fn foreground(
        self,
        creating: Held,
        pid_file: Option<PathBuf>,
        stages: &mut Stages,
    ) -> Result<Ending, MonitorError> {
        let console: Option<Box<dyn Write + Send>> =
            if self.debug { Some(Box::new(io::stderr())) } else { None };
        self.run(console, Audience::Others(Some(creating), pid_file), true, stages)
    }

    fn run(
        self,
        console: Option<Box<dyn Write + Send>>,
        audience: Audience,
        starts: bool,
        stages: &mut Stages,
    ) -> Result<Ending, MonitorError> {
        let listener = Listener::bind(self.entry.dir().as_fd()).map_err(MonitorError::Listener)?;
        let machine = &self.plan.machine;
        let limits = self.plan.host.resources.for_host(machine.memory.bytes(), machine.vcpus.get());
        let progress = Progress::begin(self.entry, self.record, limits, self.plan.host.labels, audience)?;
        let failed = progress.failed();
        let setting = Setting {
            signals: self.signals,
            streams: self.streams,
            listener: Some(listener),
            lifecycle: Box::new(progress),
            starts,
            console,
        };
        let ended = monitor::run(&self.plan.machine, self.plan.guest, self.files, setting, stages);
        match failed.take() {
            Some(error) => Err(error.into()),
            None => ended,
        }
    }
}

/// The exit status of a monitor.
pub(crate) fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Exited(status) => status.shell_status(),
        Ending::Interrupted(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
    }
}

/// Leaves the creator's session and directory, but not the creator itself: its end is this process's end too, until
/// the container is created.
fn leave(creator: Pid, slave: Option<&OwnedFd>) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(creator) {
        return Err(io::Error::other("the creator of the container has ended"));
    }
    rustix::process::setsid()?;
    if let Some(slave) = slave {
        rustix::process::ioctl_tiocsctty(slave)?;
    }
    rustix::process::chdir("/")?;
    sys::close_inherited()
}

/// From here on only the workload writes to the streams that this process was started with.
fn let_go_of_streams() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
