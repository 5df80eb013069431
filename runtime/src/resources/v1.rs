//! Limits as files of cgroups of version 1. A file's name begins with that of its controller, whose hierarchy it is in.

use drupe_protocol::CgroupSetting;

use super::v2::{Settings, pids_max, rdma};
use super::{BlockIo, DeviceRule, Resources};

/// What to write, in this order. `bfq` as in [`super::v2::settings`]. `unified` names files of version 2 and is left out,
/// and so are devices, which are set once.
pub fn settings(resources: &Resources, field: &str, bfq: bool) -> Vec<CgroupSetting> {
    let mut settings = Settings::new(field);
    cpu(resources, &mut settings);
    memory(resources, &mut settings);
    settings.given("pids.limit", "pids.max", pids_max(resources));
    block_io(&resources.block_io, bfq, &mut settings);
    for (index, huge) in resources.hugepage_limits.iter().enumerate() {
        for kind in ["limit_in_bytes", "rsvd.limit_in_bytes"] {
            let file = format!("hugetlb.{}.{kind}", huge.page_size);
            settings.push(&format!("hugepageLimits[{index}].limit"), file, huge.limit);
        }
    }
    let class = resources.network.class_id.filter(|&class| class != 0);
    settings.given("network.classID", "net_cls.classid", class);
    for (index, interface) in resources.network.priorities.iter().enumerate() {
        let value = format!("{} {}", interface.name, interface.priority);
        settings.push(&format!("network.priorities[{index}]"), "net_prio.ifpriomap", value);
    }
    rdma(resources, &mut settings);
    settings.finish()
}

fn cpu(resources: &Resources, settings: &mut Settings) {
    let cpu = &resources.cpu;
    settings.given("cpu.cpus", "cpuset.cpus", cpu.cpus.as_ref().filter(|cpus| !cpus.is_empty()));
    settings.given("cpu.mems", "cpuset.mems", cpu.mems.as_ref().filter(|mems| !mems.is_empty()));
    let given = |value: Option<u64>| value.filter(|&value| value != 0);
    settings.given("cpu.realtimePeriod", "cpu.rt_period_us", given(cpu.realtime_period));
    let runtime = cpu.realtime_runtime.filter(|&runtime| runtime != 0);
    settings.given("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime);
    settings.given("cpu.idle", "cpu.idle", cpu.idle);
    if cpu.idle != Some(1) {
        settings.given("cpu.shares", "cpu.shares", given(cpu.shares));
    }
    settings.given("cpu.period", "cpu.cfs_period_us", given(cpu.period));
    let quota = cpu.quota.filter(|&quota| quota != 0).map(|quota| quota.max(-1));
    settings.given("cpu.quota", "cpu.cfs_quota_us", quota);
    settings.given("cpu.burst", "cpu.cfs_burst_us", cpu.burst);
}

fn memory(resources: &Resources, settings: &mut Settings) {
    let memory = &resources.memory;
    let given = |value: Option<i64>| value.filter(|&value| value != 0);
    let limit = given(memory.limit);
    // No limit of memory means none of swap.
    let swap = given(memory.swap).or(limit.filter(|&limit| limit == -1));
    let limit = ("memory.limit", "memory.limit_in_bytes", limit);
    let swap = ("memory.swap", "memory.memsw.limit_in_bytes", swap);
    // Neither may ever be above (below) the other: without a limit the one of both is raised first.
    let order = if swap.2 == Some(-1) { [swap, limit] } else { [limit, swap] };
    for (field, file, value) in order {
        settings.given(field, file, value);
    }
    settings.given("memory.reservation", "memory.soft_limit_in_bytes", given(memory.reservation));
    settings.given("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", given(memory.kernel_tcp));
    settings.given("memory.swappiness", "memory.swappiness", memory.swappiness);
    if memory.disable_oom_killer == Some(true) {
        settings.push("memory.disableOOMKiller", "memory.oom_control", 1);
    }
}

fn block_io(io: &BlockIo, bfq: bool, settings: &mut Settings) {
    let given = |value: Option<u16>| value.filter(|&value| value != 0);
    let (weight, weight_device) = if bfq {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    } else {
        ("blkio.weight", "blkio.weight_device")
    };
    settings.given("blockIO.weight", weight, given(io.weight));
    settings.given("blockIO.leafWeight", "blkio.leaf_weight", given(io.leaf_weight));
    for (index, device) in io.weight_device.iter().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        settings.given(&field, weight_device, given(device.weight).map(line));
        settings.given(&field, "blkio.leaf_weight_device", given(device.leaf_weight).map(line));
    }
    let files = ["read_bps", "write_bps", "read_iops", "write_iops"];
    for ((name, devices), file) in io.throttles().into_iter().zip(files) {
        for (index, device) in devices.iter().enumerate() {
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            settings.push(
                &format!("blockIO.{name}[{index}]"),
                format!("blkio.throttle.{file}_device"),
                value,
            );
        }
    }
}

impl DeviceRule {
    /// As `devices.allow` takes it: `c 1:3 rwm`.
    pub fn text(&self) -> String {
        let kind = match self.kind.as_deref().unwrap_or_default() {
            "" | "a" => "a",
            // A character device without a buffer: mknod(1) has a letter of its own for it.
            "u" => "c",
            kind => kind,
        };
        let number = |number: Option<i64>| match number {
            Some(number) if number >= 0 => number.to_string(),
            _ => "*".to_owned(),
        };
        let access = self.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}
