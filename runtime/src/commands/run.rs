//! `drupe run`: the way of one container, top-down.

use std::io::Write;
use std::rc::Rc;

use crate::bundle::{Bundle, BundleError, FieldError};
use crate::cli::{GlobalArgs, RunArgs};
use crate::files::{self, FilesError};
use crate::id::{ContainerId, IdError};
use crate::monitor::{self, Ending, MonitorError, Signals};
use crate::plan;
use crate::stage::Stages;
use crate::state::{State, Status};
use crate::store::{self, Store, StoreError};

/// Why a container was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("id {id:?}")]
    Id { id: String, source: IdError },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("config.json")]
    Plan(#[from] FieldError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("signals")]
    Signals(#[source] std::io::Error),
}

impl RunError {
    /// The exit status that the error stands for.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Monitor(error) => error.exit_status(),
            _ => 1,
        }
    }
}

/// Runs a container; the result is its exit status.
pub(crate) fn run(global: &GlobalArgs, args: &RunArgs, stages: &mut Stages) -> Result<u8, RunError> {
    let args = &args.create;
    files::reserve_fds();
    let id: ContainerId = args.id.parse().map_err(|source| RunError::Id { id: args.id.clone(), source })?;
    let bundle = Bundle::load(&args.bundle)?;
    stages.mark("parse");
    let plan = plan::plan(&bundle, &id, global.debug)?;
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    stages.mark("plan");
    // From here on a signal is read, not obeyed, so that none can leave the directory behind.
    let signals = Signals::block().map_err(RunError::Signals)?;
    let root = global.root.clone().map_or_else(store::default_root, Ok)?;
    let entry = Rc::new(Store::open(&root)?.create(&id)?);
    let mut state = State::new(&id, &bundle);
    entry.write(&state)?;
    stages.mark("state");
    let files = files::open(&plan.host, args.machine.kernel.as_deref(), args.machine.initramfs.as_deref())?;
    stages.mark("files");
    let started = {
        // Weak: the directory goes away here, whoever still holds this.
        let entry = Rc::downgrade(&entry);
        move || {
            state.status = Status::Running;
            let Some(entry) = entry.upgrade() else { return };
            // The container runs: a state that cannot be told is no reason to end it.
            if let Err(error) = entry.write(&state) {
                log::warn!("{}", crate::text::chain(&error));
            }
        }
    };
    let result = monitor::run(&plan.machine, plan.guest, files, signals, stages, Box::new(started));
    drop(entry);
    if global.debug {
        stages.mark("down");
        // The table is for who asked for it; a closed stderr is their choice.
        let _ = write!(std::io::stderr(), "drupe: start-up of {id}\n{stages}");
    }
    Ok(exit_status(result?))
}

fn exit_status(ending: Ending) -> u8 {
    match ending {
        Ending::Exited(status) => status.shell_status(),
        Ending::Interrupted(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
    }
}
