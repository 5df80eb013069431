//! state.json: the state of the OCI specification, and what is needed to trust it later.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::bundle::{Bundle, SPEC_VERSION};
use crate::id::ContainerId;

/// The status of a container, as far as `run` passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Its machine is being made.
    Creating,
    /// Its program has been executed.
    Running,
}

/// The content of state.json.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    oci_version: &'static str,
    id: String,
    pub(crate) status: Status,
    pid: u32,
    bundle: String,
    annotations: BTreeMap<String, String>,
    drupe: Provenance,
}

/// Who wrote the state. A pid means this process only while boot and start time are the same.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
    version: &'static str,
    boot_id: String,
    start_time: u64,
}

impl State {
    /// The state of a container that this process is about to run.
    pub(crate) fn new(id: &ContainerId, bundle: &Bundle) -> Self {
        let annotations = bundle.config.spec().annotations().iter().flatten();
        Self {
            oci_version: SPEC_VERSION,
            id: id.to_string(),
            status: Status::Creating,
            pid: std::process::id(),
            bundle: bundle.dir.to_string_lossy().into_owned(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
            drupe: Provenance {
                version: env!("CARGO_PKG_VERSION"),
                boot_id: boot_id(),
                start_time: start_time(),
            },
        }
    }
}

/// Names this boot of the host; empty without /proc, which nothing compares equal to.
fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

/// When this process started, in clock ticks since boot (proc(5), field 22 of stat).
fn start_time() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, and may have spaces and parentheses in it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_told_from_others() {
        assert_eq!(boot_id().len(), 36);
        assert!(start_time() > 0);
    }
}
