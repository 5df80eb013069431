//! `linux.resources` -> the size of the machine.

use drupe_vmm::{MemorySize, VcpuCount};

use super::cpu_list;
use crate::bundle::{FieldError, Problem};
use crate::resources::{Cpu, Resources, size};
use crate::settings::{MemorySettings, VcpuSettings};

/// Period of a quota that comes without one (cgroups' own default), in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// `cpu.shares` that stand for one processor (the cgroup's default weight, as Kubernetes counts).
const SHARES_PER_CPU: u64 = 1024;

/// How many vCPUs the container gets: as many as its quota lets run at once, no more than it may run on.
/// Without a quota: as many as it may run on; without that, as its shares suggest. Never more than the operator lets.
pub(crate) fn vcpus(resources: &Resources, settings: &VcpuSettings) -> Result<VcpuCount, FieldError> {
    let cpu = &resources.cpu;
    let allowed = allowed_cpus(cpu)?;
    let count = match (quota_cpus(cpu), allowed, cpu.shares) {
        (Some(quota), allowed, _) => quota.min(allowed.unwrap_or(u64::MAX)),
        (None, Some(allowed), _) => allowed,
        (None, None, Some(shares)) => shares.div_ceil(SHARES_PER_CPU),
        (None, None, None) => settings.default.get().into(),
    };
    let count = u32::try_from(count.clamp(1, settings.max.get().into())).ok().and_then(VcpuCount::new);
    Ok(count.unwrap_or(settings.max))
}

fn quota_cpus(cpu: &Cpu) -> Option<u64> {
    let quota = cpu.quota.and_then(|quota| u64::try_from(quota).ok()).filter(|&quota| quota > 0)?;
    let period = cpu.period.filter(|&period| period > 0).unwrap_or(DEFAULT_PERIOD_US);
    Some(quota.div_ceil(period))
}

fn allowed_cpus(cpu: &Cpu) -> Result<Option<u64>, FieldError> {
    match cpu.cpus.as_deref() {
        None | Some("") => Ok(None),
        Some(list) => match cpu_list::count(list) {
            Some(count) => Ok(Some(count)),
            None => Err(FieldError::text("linux.resources.cpu.cpus", list, Problem::CpuList)),
        },
    }
}

/// How much memory the machine has: the container's limit and what the guest needs beside it, or the default when
/// there is no limit.
pub(crate) fn memory(resources: &Resources, settings: &MemorySettings) -> Result<MemorySize, FieldError> {
    let Some(limit) = resources.memory_limit() else { return Ok(settings.default.min(settings.max)) };
    let machine = size::machine_memory(limit).saturating_add(settings.spare.0);
    MemorySize::from_bytes(machine).filter(|&size| size <= settings.max).ok_or_else(|| {
        let problem = Problem::TooLarge(largest_limit(settings));
        FieldError::unsigned("linux.resources.memory.limit", limit, problem)
    })
}

/// The largest limit whose machine the operator lets be.
fn largest_limit(settings: &MemorySettings) -> u64 {
    let fits =
        |limit: u64| size::machine_memory(limit).saturating_add(settings.spare.0) <= settings.max.bytes();
    // Bit by bit from the highest on.
    (0..u64::BITS)
        .rev()
        .map(|bit| 1 << bit)
        .fold(0, |limit, bit| if fits(limit | bit) { limit | bit } else { limit })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Size;

    fn resources(value: serde_json::Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn vcpus_follow_quota_then_cpus_then_shares() {
        for (cpu, count) in [
            (json!({}), 1),
            (json!({ "quota": 150_000, "period": 100_000 }), 2),
            (json!({ "quota": 400_000 }), 4),
            (json!({ "quota": 1, "period": 0 }), 1),
            (json!({ "quota": -1, "period": 100_000 }), 1),
            (json!({ "quota": 0, "cpus": "0-2" }), 3),
            (json!({ "quota": 800_000, "cpus": "0-1" }), 2),
            (json!({ "quota": 100_000, "cpus": "0-7" }), 1),
            (json!({ "cpus": "0-3,5", "shares": 1024 }), 5),
            (json!({ "cpus": "", "shares": 2048 }), 2),
            (json!({ "shares": 1025 }), 2),
            (json!({ "shares": 2 }), 1),
            (json!({ "shares": 0 }), 1),
            (json!({ "quota": i64::MAX, "period": 1 }), 32),
            (json!({ "cpus": "0-4294967295" }), 32),
        ] {
            let resources = resources(json!({ "cpu": cpu }));
            assert_eq!(vcpus(&resources, &VcpuSettings::default()).unwrap().get(), count, "{cpu}");
        }
        assert_eq!(vcpus(&Resources::default(), &VcpuSettings::default()).unwrap(), VcpuCount::ONE);
    }

    #[test]
    fn memory_is_the_limit_and_what_the_guest_needs() {
        const MIB: i64 = 1 << 20;
        for (limit, mib) in [(-1, 128), (0, 128), (1, 33), (64 * MIB, 97), (4096 * MIB, 4192)] {
            let resources = resources(json!({ "memory": { "limit": limit } }));
            assert_eq!(memory(&resources, &MemorySettings::default()).unwrap().bytes(), mib << 20, "{limit}");
        }
        assert_eq!(memory(&Resources::default(), &MemorySettings::default()).unwrap(), MemorySize::DEFAULT);
        let limit = resources(json!({ "memory": { "limit": i64::MAX } }));
        let error = memory(&limit, &MemorySettings::default()).unwrap_err();
        assert_eq!(error.to_string(), "linux.resources.memory.limit: 9223372036854775807");
        assert!(matches!(error.problem, Problem::TooLarge(_)));
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let vcpu = |count| VcpuCount::new(count).unwrap();
        let settings = VcpuSettings { default: vcpu(3), max: vcpu(4) };
        let asked = resources(json!({ "cpu": { "cpus": "0-7" } }));
        assert_eq!(vcpus(&asked, &settings).unwrap(), vcpu(4));
        assert_eq!(vcpus(&Resources::default(), &settings).unwrap(), vcpu(3));
        let size = |mib: u64| MemorySize::from_bytes(mib << 20).unwrap();
        let settings = MemorySettings { default: size(256), max: size(512), spare: Size(10 << 20) };
        assert_eq!(memory(&Resources::default(), &settings).unwrap(), size(256));
        let limit = |mib: u64| resources(json!({ "memory": { "limit": mib << 20 } }));
        assert_eq!(memory(&limit(64), &settings).unwrap(), size(64 + 32 + 1 + 10));
        let error = memory(&limit(512), &settings).unwrap_err();
        assert_eq!(error.to_string(), "linux.resources.memory.limit: 536870912");
        let Problem::TooLarge(most) = error.problem else { panic!("{}", error.problem) };
        let bytes = |limit: u64| resources(json!({ "memory": { "limit": limit } }));
        assert!(
            memory(&bytes(most), &settings).is_ok() && memory(&bytes(most + (1 << 20)), &settings).is_err()
        );
    }
}
