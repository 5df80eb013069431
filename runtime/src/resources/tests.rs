//! Limits from JSON to files, and what is refused.

use drupe_protocol::CgroupSetting;
use serde_json::json;

use super::*;
use crate::text::chain;

const MIB: u64 = 1 << 20;

fn resources(value: Value) -> Resources {
    Resources::parse(&value, FIELD).unwrap()
}

fn lines(settings: &[CgroupSetting]) -> Vec<String> {
    settings
        .iter()
        .map(|CgroupSetting { field, file, value }| {
            let field = field.strip_prefix("linux.resources.").unwrap();
            format!("{field}: {file} = {value}")
        })
        .collect()
}

fn everything() -> Resources {
    resources(json!({
        "devices": [{ "allow": false }, { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw" }],
        "memory": {
            "limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB, "kernel": -1, "kernelTCP": 1, "swappiness": 10,
            "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true
        },
        "cpu": {
            "shares": 512, "quota": 150_000, "period": 100_000, "burst": 1000, "cpus": "0-1", "mems": "0", "idle": 0,
            "realtimeRuntime": 950_000, "realtimePeriod": 1_000_000
        },
        "pids": { "limit": 20 },
        "blockIO": {
            "weight": 100, "leafWeight": 200,
            "weightDevice": [{ "major": 8, "minor": 0, "weight": 500, "leafWeight": 300 }],
            "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1000 }],
            "throttleWriteBpsDevice": [{ "major": 8, "minor": 0, "rate": 0 }],
            "throttleReadIOPSDevice": [{ "major": 8, "minor": 0, "rate": 30 }],
            "throttleWriteIOPSDevice": [{ "major": 8, "minor": 16, "rate": 40 }]
        },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }, { "pageSize": "1GB", "limit": 0 }],
        "network": { "classID": 5, "priorities": [{ "name": "eth0", "priority": 7 }] },
        "rdma": { "mlx5_1": { "hcaHandles": 3, "hcaObjects": 10_000 } },
        "unified": { "memory.high": "48M", "io.latency": "8:0 target=5\n8:16 target=6" }
    }))
}

#[test]
fn the_guest_keeps_what_means_the_same_there() {
    assert_eq!(
        lines(&guest::settings(&everything(), FIELD, 1)),
        [
            "pids.limit: pids.max = 21",
            "memory.swap: memory.swap.max = 33554432",
            "memory.limit: memory.max = 67108864",
            "memory.reservation: memory.low = 33554432",
            "cpu.idle: cpu.idle = 0",
            "cpu.shares: cpu.weight = 59",
            "cpu.quota: cpu.max = 150000 100000",
            "cpu.burst: cpu.max.burst = 1000",
            "hugepageLimits[0].limit: hugetlb.2MB.max = 4194304",
            "unified.memory.high: memory.high = 48M",
        ]
    );
    assert_eq!(guest::settings(&Resources::default(), FIELD, 0), []);
}

#[test]
fn files_of_version_2() {
    assert_eq!(
        lines(&v2::settings(&everything(), FIELD, true))[4..],
        [
            "blockIO.weight: io.bfq.weight = 100",
            "blockIO.weightDevice[0]: io.bfq.weight = 8:0 500",
            "blockIO.throttleReadBpsDevice[0]: io.max = 8:0 rbps=1000",
            "blockIO.throttleWriteBpsDevice[0]: io.max = 8:0 wbps=max",
            "blockIO.throttleReadIOPSDevice[0]: io.max = 8:0 riops=30",
            "blockIO.throttleWriteIOPSDevice[0]: io.max = 8:16 wiops=40",
            "cpu.idle: cpu.idle = 0",
            "cpu.shares: cpu.weight = 59",
            "cpu.quota: cpu.max = 150000 100000",
            "cpu.burst: cpu.max.burst = 1000",
            "cpu.cpus: cpuset.cpus = 0-1",
            "cpu.mems: cpuset.mems = 0",
            "hugepageLimits[0].limit: hugetlb.2MB.max = 4194304",
            "hugepageLimits[0].limit: hugetlb.2MB.rsvd.max = 4194304",
            "hugepageLimits[1].limit: hugetlb.1GB.max = 0",
            "hugepageLimits[1].limit: hugetlb.1GB.rsvd.max = 0",
            "rdma.mlx5_1: rdma.max = mlx5_1 hca_handle=3 hca_object=10000",
            "unified.io.latency: io.latency = 8:0 target=5",
            "unified.io.latency: io.latency = 8:16 target=6",
            "unified.memory.high: memory.high = 48M",
        ]
    );
    let weights = lines(&v2::settings(&everything(), FIELD, false));
    assert_eq!(
        weights[4..6],
        ["blockIO.weight: io.weight = 910", "blockIO.weightDevice[0]: io.weight = 8:0 4950"]
    );
}

#[test]
fn files_of_version_1() {
    assert_eq!(
        lines(&v1::settings(&everything(), FIELD, false)),
        [
            "cpu.cpus: cpuset.cpus = 0-1",
            "cpu.mems: cpuset.mems = 0",
            "cpu.realtimePeriod: cpu.rt_period_us = 1000000",
            "cpu.realtimeRuntime: cpu.rt_runtime_us = 950000",
            "cpu.idle: cpu.idle = 0",
            "cpu.shares: cpu.shares = 512",
            "cpu.period: cpu.cfs_period_us = 100000",
            "cpu.quota: cpu.cfs_quota_us = 150000",
            "cpu.burst: cpu.cfs_burst_us = 1000",
            "memory.limit: memory.limit_in_bytes = 67108864",
            "memory.swap: memory.memsw.limit_in_bytes = 100663296",
            "memory.reservation: memory.soft_limit_in_bytes = 33554432",
            "memory.kernelTCP: memory.kmem.tcp.limit_in_bytes = 1",
            "memory.swappiness: memory.swappiness = 10",
            "memory.disableOOMKiller: memory.oom_control = 1",
            "pids.limit: pids.max = 20",
            "blockIO.weight: blkio.weight = 100",
            "blockIO.leafWeight: blkio.leaf_weight = 200",
            "blockIO.weightDevice[0]: blkio.weight_device = 8:0 500",
            "blockIO.weightDevice[0]: blkio.leaf_weight_device = 8:0 300",
            "blockIO.throttleReadBpsDevice[0]: blkio.throttle.read_bps_device = 8:0 1000",
            "blockIO.throttleWriteBpsDevice[0]: blkio.throttle.write_bps_device = 8:0 0",
            "blockIO.throttleReadIOPSDevice[0]: blkio.throttle.read_iops_device = 8:0 30",
            "blockIO.throttleWriteIOPSDevice[0]: blkio.throttle.write_iops_device = 8:16 40",
            "hugepageLimits[0].limit: hugetlb.2MB.limit_in_bytes = 4194304",
            "hugepageLimits[0].limit: hugetlb.2MB.rsvd.limit_in_bytes = 4194304",
            "hugepageLimits[1].limit: hugetlb.1GB.limit_in_bytes = 0",
            "hugepageLimits[1].limit: hugetlb.1GB.rsvd.limit_in_bytes = 0",
            "network.classID: net_cls.classid = 5",
            "network.priorities[0]: net_prio.ifpriomap = eth0 7",
            "rdma.mlx5_1: rdma.max = mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
}

#[test]
fn unset_is_not_written() {
    for value in [
        json!(null),
        json!({}),
        json!({ "memory": null, "cpu": null, "pids": null, "blockIO": null, "hugepageLimits": null, "unified": null }),
        json!({ "memory": { "limit": 0, "swap": 0, "reservation": 0 }, "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "" } }),
    ] {
        let resources = resources(value);
        assert_eq!(v2::settings(&resources, FIELD, false), []);
        assert_eq!(v1::settings(&resources, FIELD, false), []);
    }
}

#[test]
fn no_limit_is_max() {
    let resources = resources(json!({
        "memory": { "limit": -1, "reservation": -1 }, "cpu": { "quota": -1 }, "pids": { "limit": -1 }
    }));
    assert_eq!(
        lines(&guest::settings(&resources, FIELD, 1)),
        [
            "pids.limit: pids.max = max",
            "memory.swap: memory.swap.max = max",
            "memory.limit: memory.max = max",
            "memory.reservation: memory.low = max",
            "cpu.quota: cpu.max = max 100000",
        ]
    );
    assert_eq!(resources.memory_limit(), None);
    assert_eq!(
        lines(&v1::settings(&resources, FIELD, false)),
        [
            "cpu.quota: cpu.cfs_quota_us = -1",
            "memory.swap: memory.memsw.limit_in_bytes = -1",
            "memory.limit: memory.limit_in_bytes = -1",
            "memory.reservation: memory.soft_limit_in_bytes = -1",
            "pids.limit: pids.max = max",
        ]
    );
}

#[test]
fn the_host_has_room_for_the_machine() {
    let machine = size::machine_memory(64 * MIB);
    let host = everything().for_host(machine, 2);
    let beside = size::host_memory(machine) - 64 * MIB;
    assert_eq!(host.memory.limit, i64::try_from(64 * MIB + beside).ok());
    assert_eq!(host.memory.swap, i64::try_from(96 * MIB + beside).ok());
    assert_eq!(host.unified["memory.high"], (48 * MIB + beside).to_string());
    assert_eq!(host.unified["io.latency"], everything().unified["io.latency"]);
    assert_eq!(host.pids.limit, Some(20 + 16 + 2));
    let unlimited = json!({ "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": -1 } });
    assert_eq!(resources(unlimited.clone()).for_host(machine, 2), resources(unlimited));
}

#[test]
fn the_least_limit_of_memory_counts() {
    let limit = |limit: i64, max: &str| {
        resources(json!({ "memory": { "limit": limit }, "unified": { "memory.max": max } })).memory_limit()
    };
    assert_eq!(limit(1 << 30, "64M"), Some(64 << 20));
    assert_eq!(limit(1 << 20, "max"), Some(1 << 20));
    assert_eq!(limit(-1, "5"), Some(5));
    assert_eq!(limit(0, "max"), None);
}

#[test]
fn what_cannot_be_set_is_refused_by_field_and_value() {
    for (value, message) in [
        (json!({ "memory": { "limit": -2 } }), "memory.limit: -2: below -1, which stands for no limit"),
        (json!({ "memory": { "limit": "1G" } }), "memory.limit: invalid type: string \"1G\", expected i64"),
        (json!({ "memory": "x" }), "memory: invalid type: string"),
        (
            json!({ "memory": { "swap": 5 } }),
            "memory.swap: 5: needs a memory limit: it is for memory and swap together",
        ),
        (
            json!({ "memory": { "swap": 5, "limit": 6 } }),
            "memory.swap: 5: below the memory limit: it is for memory and swap together",
        ),
        (json!({ "memory": { "swappiness": 101 } }), "memory.swappiness: 101: above the maximum of 100"),
        (
            json!({ "memory": { "kernelTCP": -9 } }),
            "memory.kernelTCP: -9: below -1, which stands for no limit",
        ),
        (json!({ "cpu": { "quota": 999 } }), "cpu.quota: 999: below the minimum of 1000"),
        (
            json!({ "cpu": { "quota": i64::MAX } }),
            "cpu.quota: 9223372036854775807: above the maximum of 17592186044415",
        ),
        (json!({ "cpu": { "period": 1_000_001 } }), "cpu.period: 1000001: above the maximum of 1000000"),
        (json!({ "cpu": { "quota": 1000, "burst": 1001 } }), "cpu.burst: 1001: above the quota"),
        (json!({ "cpu": { "idle": 2 } }), "cpu.idle: 2: must be 0 or 1"),
        (json!({ "cpu": { "cpus": "3-1" } }), "cpu.cpus: \"3-1\": not a list of processors such as 0-3,5"),
        (json!({ "cpu": { "mems": "x" } }), "cpu.mems: \"x\": not a list of memory nodes such as 0-1"),
        (json!({ "pids": { "limit": 4_194_305 } }), "pids.limit: 4194305: above the maximum of 4194304"),
        (json!({ "blockIO": { "weight": 9 } }), "blockIO.weight: 9: below the minimum of 10"),
        (json!({ "blockIO": { "leafWeight": 1001 } }), "blockIO.leafWeight: 1001: above the maximum of 1000"),
        (
            json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": -1, "weight": 10 }] } }),
            "blockIO.weightDevice[0].minor: -1: below 0",
        ),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 4096, "minor": 0, "rate": 1 }] } }),
            "blockIO.throttleReadBpsDevice[0].major: 4096: above the maximum of 4095",
        ),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 4 }] } }),
            "blockIO.throttleReadBpsDevice[0].minor: missing",
        ),
        (
            json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 1 }] }),
            "hugepageLimits[0].pageSize: \"3MB\": not a size of huge pages such as 2MB",
        ),
        (json!({ "devices": [{ "type": "x" }] }), "devices[0].type: \"x\": not one of a, b, c and u"),
        (
            json!({ "devices": [{ "access": "rr" }] }),
            "devices[0].access: \"rr\": not made of the letters r, w and m",
        ),
        (
            json!({ "unified": { "../x": "1" } }),
            "unified: \"../x\": must be the name of a file, without a slash",
        ),
        (json!({ "unified": { "max": "1" } }), "unified: \"max\": must have the form CONTROLLER.PARAMETER"),
        (
            json!({ "unified": { "memory.max": "lots" } }),
            "unified.memory.max: \"lots\": neither a number of bytes nor max",
        ),
        (json!({ "unified": { "pids.max": "-1" } }), "unified.pids.max: \"-1\": neither a number nor max"),
    ] {
        let error = chain(&Resources::parse(&value, FIELD).unwrap_err());
        let message = format!("linux.resources.{message}");
        assert!(error.starts_with(&message), "{error}\n{message}");
    }
}

#[test]
fn a_change_replaces_what_it_gives() {
    let change = |value| everything().merged(&Resources::parse_part(&value, "r").unwrap());
    assert_eq!(change(json!({ "memory": { "checkBeforeUpdate": true } })), everything());
    let changed = change(json!({
        "memory": { "limit": -1, "reservation": 0 }, "cpu": { "shares": 2, "cpus": "" }, "pids": { "limit": 0 },
        "blockIO": { "weight": 0 }, "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }], "unified": { "memory.high": "max" }
    }));
    assert_eq!((changed.memory.limit, changed.memory.swap), (Some(-1), Some(-1)));
    assert_eq!(changed.memory.reservation, everything().memory.reservation);
    assert_eq!((changed.cpu.shares, changed.cpu.cpus.as_deref()), (Some(2), Some("0-1")));
    assert_eq!((changed.pids.limit, changed.block_io.weight), (Some(0), Some(100)));
    assert_eq!(changed.hugepage_limits.iter().map(|limit| limit.limit).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(changed.unified["memory.high"], "max");
}

#[test]
fn the_record_keeps_them() {
    let json = serde_json::to_value(everything()).unwrap();
    assert_eq!(Resources::parse(&json, FIELD).unwrap(), everything());
}
