//! What `update` changes: the limits of a container that runs, in its guest's cgroup and in the host's.
//!
//! A machine keeps its memory and its processors for as long as it runs, so limits beyond them are refused.

use std::collections::BTreeMap;

use drupe_protocol::CgroupSetting;
use serde::{Deserialize, Serialize};

use crate::bundle::{FieldError, Problem};
use crate::resources::{Resources, guest, size};
use crate::stats;

/// Period of a quota that comes without one, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// What a machine has for as long as it runs. The container's record keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MachineSize {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Processors.
    pub(crate) vcpus: u8,
    /// Tasks of the agent's own in the container's cgroup, as in [`guest::settings`].
    pub(crate) inits: u64,
}

/// A change that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    /// The container's limits from now on, for its record.
    pub(crate) limits: Resources,
    /// What the agent writes, all or nothing.
    pub(crate) guest: Vec<CgroupSetting>,
    /// Limits for [`crate::cgroup::HostCgroup::update`].
    pub(crate) host: Resources,
}

impl Update {
    /// Works out what `change` means for a container with these limits in this machine. `field` is what the change is called
    /// in messages.
    pub(crate) fn plan(
        limits: &Resources,
        change: &Resources,
        machine: MachineSize,
        field: &str,
    ) -> Result<Self, FieldError> {
        if !change.devices.is_empty() && change.devices != limits.devices {
            let why = "access to devices is fixed when the container is made";
            return Err(FieldError::new(format!("{field}.devices"), Problem::Unsupported(why)));
        }
        let merged = limits.merged(change);
        merged.check_whole(field)?;
        check_memory(limits, &merged, machine.memory, field)?;
        check_quota(limits, &merged, machine.vcpus, field)?;
        let host = merged.for_host(machine.memory, machine.vcpus);
        let guest = changes(limits, &merged, field, machine.inits);
        Ok(Self { limits: merged, guest, host })
    }

    /// With `checkBeforeUpdate` a limit of memory below what is in use is refused, instead of ending tasks.
    pub(crate) fn check_usage(
        &self,
        files: &BTreeMap<String, String>,
        field: &str,
    ) -> Result<(), FieldError> {
        let memory = &self.limits.memory;
        if memory.check_before_update != Some(true) {
            return Ok(());
        }
        let usage = stats::memory_usage(files);
        for (name, limit) in [("swap", memory.swap), ("limit", memory.limit)] {
            match limit.map(u64::try_from) {
                Some(Ok(limit)) if limit != 0 && limit <= usage => {
                    let field = format!("{field}.memory.{name}");
                    return Err(error(field, limit, Problem::InUse(usage)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A limit may grow as long as the machine has the memory.
fn check_memory(old: &Resources, new: &Resources, machine: u64, field: &str) -> Result<(), FieldError> {
    match new.memory_limit() {
        Some(limit) if new.memory_limit() != old.memory_limit() && size::machine_memory(limit) > machine => {
            Err(error(format!("{field}.memory.limit"), limit, Problem::MachineMemory(machine >> 20)))
        }
        _ => Ok(()),
    }
}

/// A quota may grow as long as there are vCPUs to use it.
fn check_quota(old: &Resources, new: &Resources, vcpus: u8, field: &str) -> Result<(), FieldError> {
    let quota = |resources: &Resources| {
        let quota = resources.cpu.quota.and_then(|quota| u64::try_from(quota).ok())?;
        let period = resources.cpu.period.filter(|&period| period != 0).unwrap_or(DEFAULT_PERIOD);
        Some((quota, quota.div_ceil(period)))
    };
    match quota(new) {
        Some((value, cpus)) if quota(new) != quota(old) && cpus > u64::from(vcpus) => {
            Err(error(format!("{field}.cpu.quota"), value, Problem::MachineCpus(vcpus)))
        }
        _ => Ok(()),
    }
}

fn error(field: String, value: u64, problem: Problem) -> FieldError {
    FieldError { field, value: Some(value.to_string()), problem }
}

/// The files of the guest that change.
fn changes(old: &Resources, new: &Resources, field: &str, inits: u64) -> Vec<CgroupSetting> {
    let old = guest::settings(old, field, inits);
    let mut changes = guest::settings(new, field, inits);
    changes.retain(|setting| !old.contains(setting));
    // What is saved up may never be more than the quota: while that changes, nothing is saved up.
    let quota = changes.iter().position(|setting| setting.file == "cpu.max");
    if let (Some(place), Some(burst)) = (quota, new.cpu.burst) {
        changes.retain(|setting| setting.file != "cpu.max.burst");
        let burst_of = |value: String| CgroupSetting {
            field: format!("{field}.cpu.burst"),
            file: "cpu.max.burst".into(),
            value,
        };
        changes.insert(place + 1, burst_of(burst.to_string()));
        changes.insert(place, burst_of("0".into()));
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::chain;

    const MIB: u64 = 1 << 20;

    fn limits() -> Resources {
        let limits = json!({
            "devices": [{ "allow": false }],
            "memory": { "limit": 64 * MIB },
            "cpu": { "quota": 100_000, "period": 100_000, "burst": 5_000, "shares": 1024 },
            "pids": { "limit": 10 },
        });
        Resources::parse(&limits, "linux.resources").unwrap()
    }

    fn machine() -> MachineSize {
        MachineSize { memory: size::machine_memory(64 * MIB).next_multiple_of(MIB), vcpus: 2, inits: 1 }
    }

    fn update(change: Value) -> Result<Update, String> {
        let change = Resources::parse_part(&change, "resources").map_err(|error| chain(&error))?;
        Update::plan(&limits(), &change, machine(), "resources").map_err(|error| chain(&error))
    }

    fn guest(change: Value) -> Vec<String> {
        let settings = update(change).unwrap().guest;
        settings.iter().map(|CgroupSetting { file, value, .. }| format!("{file} = {value}")).collect()
    }

    #[test]
    fn only_what_changes_is_written() {
        assert_eq!(guest(json!({})), Vec::<String>::new());
        assert_eq!(
            guest(json!({ "pids": { "limit": 10 }, "devices": [{ "allow": false }] })),
            Vec::<String>::new()
        );
        assert_eq!(guest(json!({ "pids": { "limit": 20 } })), ["pids.max = 21"]);
        assert_eq!(
            guest(json!({ "memory": { "limit": 32 * MIB, "swap": 48 * MIB } })),
            ["memory.swap.max = 16777216", "memory.max = 33554432"]
        );
        assert_eq!(
            guest(json!({ "memory": { "limit": -1 } })),
            ["memory.swap.max = max", "memory.max = max"]
        );
    }

    #[test]
    fn a_quota_never_meets_more_than_can_be_saved_up() {
        assert_eq!(
            guest(json!({ "cpu": { "quota": 4_000, "burst": 1_000 } })),
            ["cpu.max.burst = 0", "cpu.max = 4000 100000", "cpu.max.burst = 1000"]
        );
        assert_eq!(guest(json!({ "cpu": { "burst": 1_000 } })), ["cpu.max.burst = 1000"]);
    }

    #[test]
    fn the_host_follows_and_keeps_room_for_the_machine() {
        let update = update(json!({ "memory": { "limit": 16 * MIB }, "cpu": { "cpus": "3" } })).unwrap();
        assert_eq!(update.limits.memory.limit, Some(16 << 20));
        assert_eq!(update.host.cpu.cpus.as_deref(), Some("3"));
        let machine = size::machine_memory(64 * MIB).next_multiple_of(MIB);
        assert_eq!(update.host.memory.limit, i64::try_from(size::host_memory(machine)).ok());
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused() {
        for (change, message) in [
            (json!({ "memory": { "limit": 128 * MIB } }), "memory.limit: 134217728: the machine has 97 MiB"),
            (json!({ "cpu": { "quota": 300_000 } }), "cpu.quota: 300000: the machine has 2 processors"),
            (json!({ "cpu": { "quota": 3_000 } }), "cpu.burst: 5000: above the quota"),
            (json!({ "devices": [{ "allow": true }] }), "devices: not supported: access to devices is fixed"),
            (json!({ "memory": { "swap": MIB } }), "memory.swap: 1048576: below the memory limit"),
            (json!({ "pids": { "limit": 5_000_000 } }), "pids.limit: 5000000: above the maximum"),
        ] {
            let error = update(change).unwrap_err();
            assert!(error.starts_with(&format!("resources.{message}")), "{error}");
        }
        assert!(update(json!({ "cpu": { "quota": 200_000 } })).is_ok());
        assert!(update(json!({ "cpu": { "quota": -1, "burst": 0 } })).is_ok());
    }

    #[test]
    fn a_limit_below_what_is_in_use_is_refused_on_request() {
        let files = BTreeMap::from([("memory.current".to_owned(), "20000000\n".to_owned())]);
        let checked = update(json!({ "memory": { "limit": 16 * MIB, "checkBeforeUpdate": true } })).unwrap();
        let error = chain(&checked.check_usage(&files, "resources").unwrap_err());
        assert_eq!(error, "resources.memory.limit: 16777216: not above the 20000000 bytes in use");
        let unchecked = update(json!({ "memory": { "limit": 16 * MIB } })).unwrap();
        unchecked.check_usage(&files, "resources").unwrap();
    }
}
