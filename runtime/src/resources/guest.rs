//! Limits for the guest's cgroup, and for the host's that the monitor is in.

use drupe_protocol::CgroupSetting;

use super::{BlockIo, Network, Resources, convert, size, v2};

/// Sizes of huge pages that a guest has. Of others it has none, so that any limit holds.
const GUEST_PAGE_SIZE: &str = "2MB";

/// Controllers that the guest has and that mean the same there as on the host. The others are about the host's devices,
/// processors and memory nodes, and hold in the host's cgroup.
const GUEST_CONTROLLERS: [&str; 5] = ["cgroup", "cpu", "hugetlb", "memory", "pids"];

/// Files of the host's cgroup, in version 1, that the guest has no counterpart of.
const OF_VERSION_1: [&str; 4] = ["cpu.rt_", "memory.kmem.", "memory.oom_control", "memory.swappiness"];

/// Whether the guest's kernel keeps the limit of a file of the host's cgroup as well.
#[must_use]
pub fn keeps(file: &str) -> bool {
    let controller = file.split('.').next().unwrap_or_default();
    GUEST_CONTROLLERS.contains(&controller) && !OF_VERSION_1.iter().any(|start| file.starts_with(start))
}

/// What the agent writes for a container. `inits` is how many processes of the agent's are in the container's cgroup.
pub fn settings(resources: &Resources, field: &str, inits: u64) -> Vec<CgroupSetting> {
    let settings = v2::settings(&resources.for_guest(inits), field, false);
    settings.into_iter().filter(|setting| !setting.file.contains(".rsvd.")).collect()
}

impl Resources {
    /// The part of the limits that the guest's kernel keeps.
    fn for_guest(&self, inits: u64) -> Self {
        let mut guest = self.clone();
        guest.devices.clear();
        guest.cpu.cpus = None;
        guest.cpu.mems = None;
        guest.block_io = BlockIo::default();
        guest.network = Network::default();
        guest.rdma.clear();
        guest.hugepage_limits.retain(|limit| limit.page_size == GUEST_PAGE_SIZE);
        guest.unified.retain(|file, _| keeps(file));
        guest.more_tasks(inits);
        guest
    }

    /// The limits of a cgroup on the host for a monitor with a machine of so many bytes and vCPUs: the same, with what
    /// both need beside the container.
    pub fn for_host(&self, machine: u64, vcpus: u8) -> Self {
        let mut host = self.clone();
        // A machine may be smaller than an absurd limit; what it needs beside the container it needs all the same.
        let overhead = |limit: u64| {
            let beside = size::host_memory(machine).saturating_sub(machine);
            let guest = size::machine_memory(limit).saturating_sub(limit).max(machine.saturating_sub(limit));
            beside.saturating_add(guest)
        };
        let more = |limit: Option<i64>, base: u64| match limit.map(u64::try_from) {
            Some(Ok(limit)) if limit != 0 => {
                Some(i64::try_from(limit.saturating_add(overhead(base))).unwrap_or(i64::MAX))
            }
            _ => limit,
        };
        let base = self.memory_limit().unwrap_or(machine);
        host.memory.limit = more(self.memory.limit, base);
        host.memory.swap = more(self.memory.swap, base);
        for file in ["memory.max", "memory.high"] {
            if let Some(value) = host.unified.get_mut(file)
                && let Some(bytes) = convert::parse_bytes(value)
            {
                *value = bytes.saturating_add(overhead(base)).to_string();
            }
        }
        host.more_tasks(size::host_tasks(vcpus));
        host
    }

    fn more_tasks(&mut self, tasks: u64) {
        if let Some(limit) = self.pids.limit.filter(|&limit| limit >= 0) {
            self.pids.limit = Some(limit.max(1).saturating_add_unsigned(tasks));
        }
        if let Some(value) = self.unified.get_mut("pids.max")
            && let Ok(limit) = value.trim().parse::<u64>()
        {
            *value = limit.saturating_add(tasks).to_string();
        }
    }
}
