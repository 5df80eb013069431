//! state.json: what is known of a container, and what is needed to trust it later.

use std::collections::BTreeMap;
use std::time::SystemTime;

use drupe_protocol::ExitStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::ContainerId;
use super::process::{ProcessId, boot_id};
use super::status::Status;
use crate::bundle::{Bundle, SPEC_VERSION};
use crate::cgroup::HostCgroup;
use crate::hooks::{HookError, HookKind, run_all};
use crate::plan::HostHooks;
use crate::time;
use crate::update::MachineSize;

/// Changed whenever the record changes its meaning: another one's is not read.
const FORMAT: u32 = 1;

/// Longest record that is read: it holds a config.json.
pub(crate) const LONGEST: u64 = 32 << 20;

/// The content of state.json: the state of the OCI specification, and `drupe` for what only drupe reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) status: Status,
    /// The monitor's; 0 when there is none yet or any more.
    pub(crate) pid: i32,
    pub(crate) bundle: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) drupe: Provenance,
}

/// Who wrote the record, and what is kept for later verbs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Provenance {
    format: u32,
    version: String,
    boot_id: String,
    /// The monitor, from its beginning on.
    pub(crate) monitor: Option<ProcessId>,
    pub(crate) rootfs: String,
    /// When it was created, as RFC 3339.
    pub(crate) created: String,
    /// How its process ended, if that is known.
    pub(crate) exit: Option<ExitStatus>,
    /// The cgroup on the host.
    pub(crate) cgroup: HostCgroup,
    /// Programs that the host runs at its start and at its removal.
    pub(crate) hooks: HostHooks,
    /// What its machine has.
    pub(crate) machine: MachineSize,
    /// The whole of config.json.
    pub(crate) config: Value,
}

/// Why a record is not trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stale {
    #[error("state.json")]
    Unreadable(#[from] std::io::Error),
    #[error("state.json: not a record of drupe")]
    Foreign(#[from] serde_json::Error),
    #[error("state.json: written by drupe {0}, whose records are of another format")]
    Version(String),
    #[error("state.json: of another boot of this host")]
    Boot,
    #[error("state.json: of another container, {0:?}")]
    Id(String),
}

impl Record {
    /// The record of a container that is about to be made.
    pub(crate) fn new(id: &ContainerId, bundle: &Bundle, cgroup: HostCgroup, hooks: HostHooks) -> Self {
        let annotations = bundle.config.spec().annotations().iter().flatten();
        Self {
            oci_version: SPEC_VERSION.into(),
            id: id.to_string(),
            status: Status::Creating,
            pid: 0,
            bundle: bundle.dir.to_string_lossy().into_owned(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
            drupe: Provenance {
                format: FORMAT,
                version: env!("CARGO_PKG_VERSION").into(),
                boot_id: boot_id(),
                monitor: None,
                rootfs: bundle.rootfs().to_string_lossy().into_owned(),
                created: time::rfc3339_nanos(SystemTime::now()),
                exit: None,
                cgroup,
                hooks,
                machine: MachineSize::default(),
                config: bundle.config.raw().clone(),
            },
        }
    }

    /// Reads a record, unless it is not one to trust.
    pub(crate) fn parse(json: &[u8], id: &str) -> Result<Self, Stale> {
        #[derive(Deserialize)]
        struct Envelope {
            drupe: Writer,
        }
        #[derive(Deserialize)]
        struct Writer {
            format: u32,
            version: String,
        }
        let Envelope { drupe } = serde_json::from_slice(json)?;
        if drupe.format != FORMAT {
            return Err(Stale::Version(drupe.version));
        }
        let record: Self = serde_json::from_slice(json)?;
        let boot = boot_id();
        if boot.is_empty() || record.drupe.boot_id != boot {
            return Err(Stale::Boot);
        }
        if record.id != id {
            return Err(Stale::Id(record.id));
        }
        Ok(record)
    }

    /// This process is the monitor.
    pub(crate) fn adopt(&mut self) {
        let own = ProcessId::own();
        self.pid = own.pid;
        self.drupe.monitor = Some(own);
    }

    /// The container is over.
    pub(crate) fn end(&mut self, exit: Option<ExitStatus>) {
        self.status = Status::Stopped;
        self.drupe.exit = exit;
    }

    /// The state of the OCI specification, as hooks get it.
    pub(crate) fn oci_state(&self, status: Status) -> Value {
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty()
            && let Some(fields) = state.as_object_mut()
        {
            fields.insert("annotations".into(), serde_json::json!(self.annotations));
        }
        state
    }

    /// Runs the hooks of one moment on the host, which are told the state of then.
    pub(crate) fn run_hooks(&self, kind: HookKind) -> Result<(), HookError> {
        let hooks = &self.drupe.hooks;
        let (hooks, status) = match kind {
            HookKind::Prestart => (&hooks.prestart, Status::Creating),
            HookKind::CreateRuntime => (&hooks.create_runtime, Status::Creating),
            HookKind::CreateContainer => (&hooks.create_container, Status::Creating),
            HookKind::Poststart => (&hooks.poststart, Status::Running),
            HookKind::Poststop => (&hooks.poststop, Status::Stopped),
        };
        let state = self.oci_state(status).to_string();
        run_all(kind, hooks, self.bundle.as_ref(), state.as_bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record for a container of this id.
    pub(crate) fn record(id: &str) -> Record {
        Record {
            oci_version: SPEC_VERSION.into(),
            id: id.into(),
            status: Status::Creating,
            pid: 0,
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
            drupe: Provenance {
                format: FORMAT,
                version: env!("CARGO_PKG_VERSION").into(),
                boot_id: boot_id(),
                monitor: None,
                rootfs: "/b/rootfs".into(),
                created: time::rfc3339_nanos(SystemTime::now()),
                exit: None,
                cgroup: HostCgroup::default(),
                hooks: HostHooks::default(),
                machine: MachineSize::default(),
                config: Value::Null,
            },
        }
    }

    fn line(record: &Value) -> String {
        crate::text::chain(&Record::parse(record.to_string().as_bytes(), "x").unwrap_err())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = record("x");
        record.adopt();
        record.end(Some(ExitStatus::Signal(9)));
        assert_eq!(Record::parse(&serde_json::to_vec(&record).unwrap(), "x").unwrap(), record);
        assert_eq!(record.oci_state(Status::Running)["pid"], record.pid);
        assert_eq!(record.oci_state(Status::Stopped)["pid"], 0);
    }

    #[test]
    fn what_is_not_ours_is_not_trusted() {
        let good = serde_json::to_value(record("x")).unwrap();
        let changed = |change: fn(&mut Value)| {
            let mut record = good.clone();
            change(&mut record);
            line(&record)
        };
        assert_eq!(
            changed(|r| r["drupe"]["bootId"] = "x".into()),
            "state.json: of another boot of this host"
        );
        assert_eq!(changed(|r| r["id"] = "y".into()), "state.json: of another container, \"y\"");
        let format = changed(|r| {
            r["drupe"]["format"] = 0.into();
            r["drupe"]["version"] = "0.0.1".into();
        });
        assert!(format.starts_with("state.json: written by drupe 0.0.1"), "{format}");
        for foreign in [
            changed(|r| r["status"] = "flying".into()),
            changed(|r| r["pid"] = "1".into()),
            changed(|r| drop(r.as_object_mut().unwrap().remove("drupe"))),
            changed(|r| r["more"] = 1.into()),
        ] {
            assert!(foreign.starts_with("state.json: not a record of drupe: "), "{foreign}");
        }
        let json = good.to_string();
        for end in 0..json.len() {
            assert!(Record::parse(&json.as_bytes()[..end], "x").is_err(), "{end}");
        }
    }
}
