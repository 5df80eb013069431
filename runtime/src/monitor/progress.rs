//! The monitor's account of its container: what others are told when it gets on.

use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;

use drupe_protocol::ExitStatus;
use rustix::process::set_parent_process_death_signal;

use super::MonitorError;
use super::report::Reporter;
use crate::container::lock::Held;
use crate::container::{Entry, Lock, Record, Status};
use crate::hooks::{HookKind, run_all};
use crate::plan::Labels;
use crate::resources::{self, Resources};
use crate::{labels, pid_file, text};

/// Who hears that the container gets on.
pub(crate) trait Lifecycle {
    /// Its machine is made, and runs next.
    fn machine_made(&mut self) -> Result<(), MonitorError>;
    /// It is one exec away.
    fn created(&mut self) -> Result<(), MonitorError>;
    /// The state that hooks in the container get, as JSON.
    fn start_state(&self) -> String;
    /// Its program runs.
    fn started(&mut self);
    /// It stands still, or goes on in the state that it was in.
    fn changed(&mut self, status: Status);
    /// It is over.
    fn ended(&mut self, exit: Option<ExitStatus>);
}

/// The container's record, on its way through the states, and who waits for it.
#[derive(Debug)]
pub(crate) struct Progress {
    entry: Rc<Entry>,
    record: Record,
    /// Those of the cgroup on the host.
    limits: Resources,
    /// Those of this process.
    labels: Labels,
    alive: Option<Held>,
    audience: Audience,
    poststart: Option<JoinHandle<()>>,
}

/// Who waits for the container to be created.
#[derive(Debug)]
pub(crate) enum Audience {
    /// Another process, whose end before that ends this one.
    Creator(Reporter),
    /// Whoever finds the container locked as being created, and reads the pid file.
    Others(Option<Held>, Option<PathBuf>),
}

impl Progress {
    /// This process is the container's monitor from here on.
    pub(crate) fn begin(
        entry: Rc<Entry>,
        mut record: Record,
        limits: Resources,
        labels: Labels,
        audience: Audience,
    ) -> Result<Self, MonitorError> {
        let alive = entry.hold(Lock::Alive)?;
        record.adopt();
        entry.write(&record)?;
        Ok(Self { entry, record, limits, labels, alive: Some(alive), audience, poststart: None })
    }

    /// Goes into the container's cgroup on the host.
    ///
    /// Late: a virtual machine that is made by a process in a fresh cgroup takes 27 ms, since its kernel's thread has to be
    /// put there too. But before its first vCPU runs, so that nothing of what the guest does is not counted.
    fn enter_cgroup(&mut self) -> Result<(), MonitorError> {
        let cgroup = &mut self.record.drupe.cgroup;
        cgroup.create(&self.limits, resources::FIELD)?;
        cgroup.enter(self.record.pid.unsigned_abs(), &self.limits, resources::FIELD)?;
        // What could not be made is not there to be removed.
        Ok(self.entry.write(&self.record)?)
    }

    /// Runs the hooks that come before the container's own world is made.
    fn run_create_hooks(&self) -> Result<(), MonitorError> {
        let hooks = &self.record.drupe.hooks;
        let state = self.record.oci_state(Status::Creating).to_string();
        run_all(HookKind::Prestart, &hooks.prestart, state.as_bytes())?;
        run_all(HookKind::CreateRuntime, &hooks.create_runtime, state.as_bytes())?;
        run_all(HookKind::CreateContainer, &hooks.create_container, state.as_bytes())?;
        Ok(())
    }

    fn write(&self) {
        // A state that cannot be told is no reason to end the container.
        if let Err(error) = self.entry.write(&self.record) {
            log::warn!("{}", text::chain(&error));
        }
    }
}

impl Lifecycle for Progress {
    fn machine_made(&mut self) -> Result<(), MonitorError> {
        self.enter_cgroup()?;
        self.run_create_hooks()?;
        // After the hooks, which are not the container's to confine, and before there are other threads.
        self.record.drupe.cgroup.confine_devices(&self.limits.devices, resources::FIELD)?;
        Ok(labels::apply(&self.labels)?)
    }

    fn created(&mut self) -> Result<(), MonitorError> {
        self.record.status = Status::Created;
        self.entry.write(&self.record)?;
        match &mut self.audience {
            Audience::Creator(reporter) => {
                set_parent_process_death_signal(None).map_err(std::io::Error::from)?;
                reporter.ready().map_err(MonitorError::Report)
            }
            Audience::Others(creating, file) => {
                if let Some(path) = file {
                    pid_file::write(path, self.record.pid.unsigned_abs())?;
                }
                drop(creating.take());
                Ok(())
            }
        }
    }

    fn start_state(&self) -> String {
        self.record.oci_state(Status::Created).to_string()
    }

    fn started(&mut self) {
        self.record.status = Status::Running;
        self.write();
        if matches!(self.audience, Audience::Others(..)) && !self.record.drupe.hooks.poststart.is_empty() {
            // Nobody else does, and the container goes on meanwhile.
            let record = self.record.clone();
            self.poststart = Some(std::thread::spawn(move || run_poststart_hooks(&record)));
        }
    }

    fn changed(&mut self, status: Status) {
        self.record.status = status;
        self.write();
    }

    fn ended(&mut self, exit: Option<ExitStatus>) {
        self.record.end(exit);
        self.write();
        drop(self.alive.take());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(hooks) = self.poststart.take() {
            let _ = hooks.join();
        }
    }
}

/// Runs the hooks that come when the program runs. Their failures are logged.
pub(crate) fn run_poststart_hooks(record: &Record) {
    let state = record.oci_state(Status::Running).to_string();
    if let Err(error) = run_all(HookKind::Poststart, &record.drupe.hooks.poststart, state.as_bytes()) {
        log::warn!("{}", text::chain(&error));
    }
}
