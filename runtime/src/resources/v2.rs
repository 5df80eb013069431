//! Limits as files of a cgroup of version 2.

use drupe_protocol::CgroupSetting;

use super::{BlockIo, Resources, ThrottleDevice, convert};

/// Period of a quota that comes without one, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The files of a list, with the field of config.json for each.
pub(super) struct Settings<'a> {
    field: &'a str,
    list: Vec<CgroupSetting>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(field: &'a str) -> Self {
        Self { field, list: Vec::new() }
    }

    pub(super) fn push(&mut self, field: &str, file: impl Into<String>, value: impl ToString) {
        let field = format!("{}.{field}", self.field);
        self.list.push(CgroupSetting { field, file: file.into(), value: value.to_string() });
    }

    pub(super) fn given<T: ToString>(&mut self, field: &str, file: &str, value: Option<T>) {
        if let Some(value) = value {
            self.push(field, file, value);
        }
    }

    pub(super) fn finish(self) -> Vec<CgroupSetting> {
        self.list
    }
}

/// What to write, in this order. `field` is where the limits come from. `bfq`: block devices are scheduled by BFQ, which has a
/// file of its own for weights. What version 2 has no file for is left out.
pub fn settings(resources: &Resources, field: &str, bfq: bool) -> Vec<CgroupSetting> {
    let mut settings = Settings::new(field);
    settings.given("pids.limit", "pids.max", pids_max(resources));
    memory(resources, &mut settings);
    block_io(&resources.block_io, bfq, &mut settings);
    cpu(resources, &mut settings);
    for (index, huge) in resources.hugepage_limits.iter().enumerate() {
        for kind in ["max", "rsvd.max"] {
            let file = format!("hugetlb.{}.{kind}", huge.page_size);
            settings.push(&format!("hugepageLimits[{index}].limit"), file, huge.limit);
        }
    }
    rdma(resources, &mut settings);
    for (file, value) in &resources.unified {
        for line in value.lines().filter(|line| !line.is_empty()) {
            settings.push(&format!("unified.{file}"), file, line);
        }
    }
    settings.finish()
}

/// Less than one task is none: as for runc, it counts as one.
pub(super) fn pids_max(resources: &Resources) -> Option<String> {
    Some(match resources.pids.limit? {
        limit if limit < 0 => "max".into(),
        limit => limit.max(1).to_string(),
    })
}

fn memory(resources: &Resources, settings: &mut Settings) {
    let memory = &resources.memory;
    let limit = memory.limit.unwrap_or(0);
    // Checked before: what is no number here is not set.
    if let Ok(Some(swap)) = convert::swap_alone(memory.swap.unwrap_or(0), limit) {
        settings.push("memory.swap", "memory.swap.max", swap);
    }
    settings.given("memory.limit", "memory.max", convert::bytes(limit));
    settings.given("memory.reservation", "memory.low", convert::bytes(memory.reservation.unwrap_or(0)));
}

fn block_io(io: &BlockIo, bfq: bool, settings: &mut Settings) {
    if let Some(weight) = io.weight.filter(|&weight| weight != 0) {
        if bfq {
            settings.push("blockIO.weight", "io.bfq.weight", weight);
        } else {
            settings.push("blockIO.weight", "io.weight", convert::io_weight(weight));
        }
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let Some(weight) = device.weight.filter(|&weight| weight != 0) else { continue };
        let (file, weight) = if bfq {
            ("io.bfq.weight", u64::from(weight))
        } else {
            ("io.weight", convert::io_weight(weight))
        };
        let value = format!("{}:{} {weight}", device.major, device.minor);
        settings.push(&format!("blockIO.weightDevice[{index}]"), file, value);
    }
    for ((name, devices), key) in io.throttles().into_iter().zip(["rbps", "wbps", "riops", "wiops"]) {
        for (index, ThrottleDevice { major, minor, rate }) in devices.iter().enumerate() {
            // No rate is no limit, as in version 1.
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            settings.push(
                &format!("blockIO.{name}[{index}]"),
                "io.max",
                format!("{major}:{minor} {key}={rate}"),
            );
        }
    }
}

fn cpu(resources: &Resources, settings: &mut Settings) {
    let cpu = &resources.cpu;
    settings.given("cpu.idle", "cpu.idle", cpu.idle);
    // A cgroup that only runs when nothing else does has no weight.
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0 && cpu.idle != Some(1)) {
        settings.push("cpu.shares", "cpu.weight", convert::weight_of_shares(shares));
    }
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    if quota.is_some() || period.is_some() {
        let text = quota.filter(|&quota| quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        settings.push(field, "cpu.max", format!("{text} {}", period.unwrap_or(DEFAULT_PERIOD)));
    }
    settings.given("cpu.burst", "cpu.max.burst", cpu.burst);
    settings.given("cpu.cpus", "cpuset.cpus", cpu.cpus.as_ref().filter(|cpus| !cpus.is_empty()));
    settings.given("cpu.mems", "cpuset.mems", cpu.mems.as_ref().filter(|mems| !mems.is_empty()));
}

/// The same file in both versions.
pub(super) fn rdma(resources: &Resources, settings: &mut Settings) {
    for (device, limits) in &resources.rdma {
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        if line.len() > device.len() {
            settings.push(&format!("rdma.{device}"), "rdma.max", line);
        }
    }
}

impl BlockIo {
    /// The lists of rates by the names of their fields: bytes read, bytes written, reads, writes.
    pub(super) fn throttles(&self) -> [(&'static str, &[ThrottleDevice]); 4] {
        [
            ("throttleReadBpsDevice", &self.throttle_read_bps_device),
            ("throttleWriteBpsDevice", &self.throttle_write_bps_device),
            ("throttleReadIOPSDevice", &self.throttle_read_iops_device),
            ("throttleWriteIOPSDevice", &self.throttle_write_iops_device),
        ]
    }
}
