//! `drupe state`

use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

use serde::Serialize;

use super::{Failure, find};
use crate::cli::{GlobalArgs, StateArgs};
use crate::container::{Container, Stale, Status, Verb};
use crate::time;

/// The zero of Go's time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A container as `state` and `list` print it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Description {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: String,
    pub(super) rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

/// A container whose state is not to be trusted.
#[derive(Debug, thiserror::Error)]
#[error("container {id}: its state is stale, remove it with delete --force")]
struct StaleError {
    id: String,
    source: Stale,
}

impl Description {
    /// What is known of a container, or why nothing is.
    pub(super) fn of(container: Container) -> Result<Self, Stale> {
        let Container { record, status, .. } = container;
        let record = record?;
        Ok(Self {
            oci_version: record.oci_version,
            id: record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: record.bundle,
            rootfs: record.drupe.rootfs,
            created: record.drupe.created,
            annotations: record.annotations,
            owner: String::new(),
        })
    }

    /// A container of which its record does not tell anything. Callers in Go take no empty text for `created`.
    pub(super) fn unknown(id: String, status: Status, changed: Option<SystemTime>) -> Self {
        Self {
            oci_version: crate::bundle::SPEC_VERSION.into(),
            id,
            pid: 0,
            status,
            bundle: String::new(),
            rootfs: String::new(),
            created: changed.map_or_else(|| NO_TIME.to_owned(), time::rfc3339_nanos),
            annotations: BTreeMap::new(),
            owner: String::new(),
        }
    }
}

pub(crate) fn state(global: &GlobalArgs, args: &StateArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::State)?;
    let id = container.entry.name().to_owned();
    let description = Description::of(container).map_err(|source| StaleError { id, source })?;
    let mut json = serde_json::to_vec_pretty(&description)?;
    json.push(b'\n');
    std::io::stdout().write_all(&json)?;
    Ok(0)
}
