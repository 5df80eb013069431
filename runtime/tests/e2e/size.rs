//! The machine's size comes from `linux.resources`.

use serde_json::{Value, json};

use crate::case::Case;

const WHY: &str = "elsewhere these limit a cgroup and change nothing that the workload can count";

const MIB: u64 = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let cpus = [
        ("default", Value::Null, 1),
        ("quota_of_1", json!({ "quota": 100_000, "period": 100_000 }), 1),
        ("quota_of_2", json!({ "quota": 200_000, "period": 100_000 }), 2),
        ("quota_of_4", json!({ "quota": 200_000, "period": 50_000 }), 4),
        ("quota_of_a_half", json!({ "quota": 25_000, "period": 50_000 }), 1),
        ("quota_of_1.5", json!({ "quota": 150_000, "period": 100_000 }), 2),
        ("unlimited_quota", json!({ "quota": -1, "period": 100_000 }), 1),
        ("shares_of_1", json!({ "shares": 1024 }), 1),
        ("shares_of_2", json!({ "shares": 2048 }), 2),
        ("quota_of_32", json!({ "quota": 3_200_000, "period": 100_000 }), 32),
        ("quota_beyond_the_most", json!({ "quota": 6_400_000, "period": 100_000 }), 32),
    ];
    for (name, resources, count) in cpus {
        let case = Case::new(format!("size::vcpus_{name}"), move |stage| {
            let bundle = stage.probe(&["/probe"]).with(|config| {
                config["linux"]["resources"] = json!({ "cpu": resources });
            });
            assert_eq!(bundle.report()["machine"]["cpus"], count);
        });
        cases.push(case.drupe_only(WHY).cost(2));
    }
    for (name, limit, size) in [
        // With what the guest's kernel needs beside the container: 32 MiB and a 64th.
        ("64_mib", json!(64 * MIB), 97 * MIB),
        ("default_of_128_mib", Value::Null, 128 * MIB),
        ("unlimited", json!(-1), 128 * MIB),
        ("4_gib", json!(4096 * MIB), 4192 * MIB),
    ] {
        let case = Case::new(format!("size::memory_{name}"), move |stage| {
            let bundle = stage.probe(&["/probe"]).with(|config| {
                config["linux"]["resources"] = json!({ "memory": { "limit": limit } });
            });
            let total = bundle.report()["machine"]["memory_kib"].as_u64().expect("MemTotal") * 1024;
            let share = total * 100 / size;
            assert!((70..=100).contains(&share), "the guest has {total} bytes of {size}: {share} %");
        });
        cases.push(case.drupe_only(WHY).cost(2));
    }
    cases
}
