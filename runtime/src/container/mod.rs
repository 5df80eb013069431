//! A container as every verb finds it: its directory, what is recorded there, and what state it is in.
//!
//! ```text
//! <root>/<id>/state.json   the record, replaced whole at each change
//!             limits.json  limits that `update` changed
//!             alive        locked by the monitor as long as the container is not over
//!             creating     locked by `create` until it returns
//!             control      the monitor's socket
//! ```
//!
//! Locks tell the truth about processes, whatever became of them; the record says the rest. What cannot be
//! trusted (another boot's record, half a file, a stranger's) is [`Stale`]: nothing that it names is touched. While
//! its monitor lives such a container counts as running, and is ended over the monitor's socket; else as stopped.

use std::time::Duration;

mod id;
pub(crate) mod lock;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod status;
pub(crate) mod store;

pub use id::{ContainerId, IdError};
pub(crate) use lock::Lock;
pub(crate) use process::ProcessId;
pub(crate) use record::{Record, Stale};
pub(crate) use status::{Status, Verb};
pub(crate) use store::{Entry, Store, StoreError};

/// How long a verb waits for a container that is being created.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A container, as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) entry: Entry,
    pub(crate) record: Result<Record, Stale>,
    pub(crate) status: Status,
}

impl Container {
    /// Looks a container up; `None` when there is none of this id.
    pub(crate) fn find(store: &Store, id: &ContainerId) -> Result<Option<Self>, StoreError> {
        match store.entry(id)? {
            Some(entry) => Self::look(entry),
            None => Ok(None),
        }
    }

    /// Looks at a container's directory; `None` when it has been removed.
    pub(crate) fn look(entry: Entry) -> Result<Option<Self>, StoreError> {
        // In this order: a monitor is there before its creator is done, and the record is older than the locks.
        let creating = entry.is_locked(Lock::Creating)?;
        let alive = entry.is_locked(Lock::Alive)?;
        let record = entry.read();
        if !entry.is_named()? {
            return Ok(None);
        }
        let status = status::derive(record.as_ref().ok().map(|record| record.status), alive, creating);
        Ok(Some(Self { entry, record, status }))
    }

    /// Waits until nobody creates the container any more, and looks again.
    pub(crate) fn settle(self) -> Result<Option<Self>, StoreError> {
        self.settle_within(SETTLE_TIMEOUT)
    }

    fn settle_within(self, limit: Duration) -> Result<Option<Self>, StoreError> {
        if !self.entry.wait_for(Lock::Creating, limit)? {
            return Err(StoreError::Creating(limit));
        }
        Self::look(self.entry)
    }

    /// The monitor, if it runs.
    pub(crate) fn monitor(&self) -> Option<ProcessId> {
        let record = self.record.as_ref().ok()?;
        matches!(self.entry.is_locked(Lock::Alive), Ok(true)).then_some(record.drupe.monitor)?
    }
}
