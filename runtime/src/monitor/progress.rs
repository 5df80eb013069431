//! The monitor's account of its container: what others are told when it gets on.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;

use drupe_protocol::ExitStatus;
use rustix::process::set_parent_process_death_signal;

use super::MonitorError;
use super::report::Reporter;
use crate::cgroup::Occupation;
use crate::container::lock::Held;
use crate::container::{Entry, Lock, Record, Status, StoreError};
use crate::control::{Client, Request};
use crate::hooks::{HookError, HookKind};
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
    /// The cgroup on the host is the container's.
    occupation: Occupation,
    audience: Audience,
    poststart: Option<JoinHandle<Result<(), HookError>>>,
    failed: Rc<RefCell<Option<HookError>>>,
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
        let (alive, failed, occupation) = (Some(alive), Rc::default(), Occupation::default());
        Ok(Self { entry, record, limits, labels, alive, occupation, audience, poststart: None, failed })
    }

    /// Where the hook of `poststart` will be that made this process end the container, once this has been dropped.
    pub(crate) fn failed(&self) -> Rc<RefCell<Option<HookError>>> {
        Rc::clone(&self.failed)
    }

    /// Goes into the container's cgroup on the host.
    ///
    /// Late: a virtual machine that is made by a process in a fresh cgroup takes 27 ms, since its kernel's thread has to be
    /// put there too. But before its first vCPU runs, so that nothing of what the guest does is not counted.
    fn enter_cgroup(&mut self) -> Result<(), MonitorError> {
        let cgroup = &mut self.record.drupe.cgroup;
        cgroup.create(&self.limits, resources::FIELD)?;
        self.occupation = cgroup.enter(self.record.pid.unsigned_abs(), &self.limits, resources::FIELD)?;
        // What could not be made is not there to be removed, and who has not entered it ends nobody in it.
        Ok(self.entry.write(&self.record)?)
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
        // The runtime's own hooks are not the container's to count and to limit, and may leave processes behind.
        self.record.run_hooks(HookKind::Prestart)?;
        self.record.run_hooks(HookKind::CreateRuntime)?;
        self.enter_cgroup()?;
        self.record.run_hooks(HookKind::CreateContainer)?;
        // After the hooks, whose devices are not the monitor's, and before there are other threads.
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
            let (record, entry) = (self.record.clone(), self.entry.try_clone());
            self.poststart = Some(std::thread::spawn(move || {
                record.run_hooks(HookKind::Poststart).inspect_err(|_| end(entry))
            }));
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
            *self.failed.borrow_mut() = hooks.join().ok().and_then(Result::err);
        }
    }
}

/// Ends the container of this process, from another thread than the one that waits for such requests.
fn end(entry: Result<Entry, StoreError>) {
    let request = Request::Signal { signal: libc::SIGKILL, all: false };
    let asked = entry.map_err(|error| text::chain(&error)).and_then(|entry| {
        let mut client = Client::connect(&entry).map_err(|error| text::chain(&error))?;
        client.ask(&request, &[], None).map_err(|error| text::chain(&error))
    });
    if let Err(error) = asked {
        // It may have ended by itself.
        log::debug!("after the failure of a hook: {error}");
    }
}
