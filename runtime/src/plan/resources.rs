//! `linux.resources` -> the size of the machine.

use drupe_vmm::{MemorySize, VcpuCount};

use super::cpu_list;
use crate::bundle::{FieldError, Problem};
use crate::resources::{Cpu, Resources, size};

/// Period of a quota that comes without one (cgroups' own default), in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// `cpu.shares` that stand for one processor (the cgroup's default weight, as Kubernetes counts).
const SHARES_PER_CPU: u64 = 1024;

/// How many vCPUs the container gets: as many as its quota lets run at once, no more than it may run on.
/// Without a quota: as many as it may run on; without that, as its shares suggest.
pub(crate) fn vcpus(resources: &Resources) -> Result<VcpuCount, FieldError> {
    let cpu = &resources.cpu;
    let allowed = allowed_cpus(cpu)?;
    let count = match (quota_cpus(cpu), allowed, cpu.shares) {
        (Some(quota), allowed, _) => quota.min(allowed.unwrap_or(u64::MAX)),
        (None, Some(allowed), _) => allowed,
        (None, None, Some(shares)) => shares.div_ceil(SHARES_PER_CPU),
        (None, None, None) => 1,
    };
    let most = u64::from(VcpuCount::MAX.get());
    let count = u32::try_from(count.clamp(1, most)).ok().and_then(VcpuCount::new);
    Ok(count.unwrap_or(VcpuCount::MAX))
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
pub(crate) fn memory(resources: &Resources) -> Result<MemorySize, FieldError> {
    let Some(limit) = resources.memory_limit() else { return Ok(MemorySize::DEFAULT) };
    MemorySize::from_bytes(size::machine_memory(limit)).ok_or_else(|| {
        let problem = Problem::TooLarge(MemorySize::MAX.bytes());
        FieldError::unsigned("linux.resources.memory.limit", limit, problem)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            assert_eq!(vcpus(&resources).unwrap().get(), count, "{cpu}");
        }
        assert_eq!(vcpus(&Resources::default()).unwrap(), VcpuCount::ONE);
    }

    #[test]
    fn memory_is_the_limit_and_what_the_guest_needs() {
        const MIB: i64 = 1 << 20;
        for (limit, mib) in [(-1, 128), (0, 128), (1, 33), (64 * MIB, 97), (4096 * MIB, 4192)] {
            let resources = resources(json!({ "memory": { "limit": limit } }));
            assert_eq!(memory(&resources).unwrap().bytes(), mib << 20, "{limit}");
        }
        assert_eq!(memory(&Resources::default()).unwrap(), MemorySize::DEFAULT);
        let error = memory(&resources(json!({ "memory": { "limit": i64::MAX } }))).unwrap_err();
        assert_eq!(error.to_string(), "linux.resources.memory.limit: 9223372036854775807");
        assert!(matches!(error.problem, Problem::TooLarge(_)));
    }
}
