//! What `create` and `run` do before anything is changed: the bundle is read, checked and planned.

use std::rc::Rc;

use drupe_protocol::IdMode;

use super::{Failure, find};
use crate::bundle::{Bundle, FieldError};
use crate::cgroup::{self, HostCgroup, Request};
use crate::cli::{CreateArgs, GlobalArgs, Rootless};
use crate::container::lock::Held;
use crate::container::{ContainerId, Entry, Record, Store, Verb};
use crate::files;
use crate::handover::Handover;
use crate::inherited;
use crate::labels;
use crate::monitor::Signals;
use crate::plan::{self, Plan};
use crate::resources;
use crate::settings::Settings;
use crate::stage::Stages;
use crate::update::MachineSize;

/// A container that can be made.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) id: ContainerId,
    pub(super) plan: Plan,
    pub(super) record: Record,
    pub(super) handover: Handover,
}

/// A container whose directory is made.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) entry: Rc<Entry>,
    pub(super) creating: Held,
    pub(super) signals: Signals,
}

#[derive(Debug, thiserror::Error)]
#[error("config.json")]
struct PlanError(#[from] FieldError);

#[derive(Debug, thiserror::Error)]
#[error("signals")]
struct SignalsError(#[from] std::io::Error);

impl Preparation {
    /// `detached`: the caller does not wait for the container's end.
    pub(super) fn new(
        global: &GlobalArgs,
        args: &CreateArgs,
        detached: bool,
        stages: &mut Stages,
    ) -> Result<Self, Failure> {
        files::reserve_fds();
        let id = find::id(&args.id)?;
        // Before anything that the container of this id is in the way of, such as its cgroup.
        find::find(global, id.as_str(), Verb::Create)?;
        let settings = Settings::load()?;
        let bundle = Bundle::load(&args.bundle)?;
        stages.mark("parse");
        let mut plan = plan::plan(&bundle, &id, &settings, global.debug).map_err(PlanError)?;
        for warning in &plan.warnings {
            log::warn!("{warning}");
        }
        labels::warn_of_missing(&plan.host.labels);
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            log::warn!("NOTIFY_SOCKET: not handed on: a guest cannot reach a socket of the host");
        }
        let handover = Handover::new(&args.handover, &plan.guest.process, detached, true)?;
        plan.guest.process.env.extend(handover.environment());
        inherited::complete_limits(&mut plan.guest.process);
        stages.mark("plan");
        let cgroup = HostCgroup::plan(&Request {
            path: plan.host.cgroups_path.as_deref().unwrap_or_default(),
            id: id.as_str(),
            systemd: global.systemd_cgroup,
            rootless: cgroup::is_rootless(match global.rootless {
                Rootless::True => Some(true),
                Rootless::False => Some(false),
                Rootless::Auto => None,
            }),
        })?;
        cgroup.warn_of_missing(&plan.host.resources, resources::FIELD);
        let mut record = Record::new(&id, &bundle, cgroup, plan.host.hooks.clone());
        record.drupe.machine = MachineSize {
            memory: plan.machine.memory.bytes(),
            vcpus: plan.machine.vcpus.get(),
            inits: u64::from(plan.guest.namespaces.pid == IdMode::BehindInit),
        };
        Ok(Self { id, plan, record, handover })
    }

    /// Makes the container's directory.
    pub(super) fn place(&self, global: &GlobalArgs, stages: &mut Stages) -> Result<Place, Failure> {
        // From here on a signal is read, not obeyed, so that none can leave the directory behind.
        let signals = Signals::block().map_err(SignalsError)?;
        let (entry, creating) = Store::open(&find::root(global)?)?.create(&self.id, &self.record)?;
        stages.mark("state");
        Ok(Place { entry: Rc::new(entry), creating, signals })
    }
}
