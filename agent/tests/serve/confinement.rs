//! The container's cgroup: limits, devices, owner.

use std::fs;

use drupe_protocol::{CgroupSetting, GuestConfig};

use crate::host::{self, Host, filesystem, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("confinement::settings", settings),
    ("confinement::limits", limits),
    ("confinement::settings_that_fail", settings_that_fail),
    ("confinement::devices", devices),
    ("confinement::device_program_that_fails", device_program_that_fails),
    ("confinement::owner", owner),
];

fn setting(file: &str, value: &str) -> CgroupSetting {
    let field = format!("linux.resources.unified[{file:?}]");
    CgroupSetting { field, file: file.into(), value: value.into() }
}

fn with_cgroup(text: &str, read_only: bool) -> GuestConfig {
    let mut config = script(text);
    config.mounts.push(filesystem("sysfs", "/sys", ""));
    config.mounts.push(filesystem("cgroup", "/sys/fs/cgroup", ""));
    config.mounts[2].flags = if read_only { libc::MS_RDONLY } else { 0 };
    config
}

fn settings() {
    let mut host = Host::new();
    let mut config = with_cgroup("cd /sys/fs/cgroup; cat cgroup.max.depth cgroup.max.descendants", true);
    config.cgroup.settings = vec![setting("cgroup.max.depth", "3"), setting("cgroup.max.descendants", "7")];
    assert_eq!(host.output(config), "3\n7\n");
}

/// Limits of controllers that a host with cgroups of version 1 keeps for them: seen in the lab and in guests.
fn limits() {
    host::offer_controllers();
    let mut host = Host::new();
    let controllers = fs::read_to_string(host.cgroup.join("cgroup.controllers")).unwrap();
    if let Some(name) = ["memory", "pids", "cpu", "cpuset"].iter().find(|name| !controllers.contains(*name)) {
        eprintln!("skipped, confinement::limits: cgroup2 has no controller {name:?} here");
        return;
    }
    let mut config = with_cgroup(
        "cd /sys/fs/cgroup; cat pids.max memory.max cpu.max cpuset.cpus.effective; \
         dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null || echo killed",
        true,
    );
    config.cgroup.settings = vec![
        setting("pids.max", "20"),
        setting("memory.max", "33554432"),
        setting("cpu.max", "50000 100000"),
        setting("cpuset.cpus", "0"),
    ];
    if controllers.contains("hugetlb") {
        config.cgroup.settings.push(setting("hugetlb.2MB.max", "2097152"));
    }
    let swap = host.cgroup.join("drupe/memory.swap.max");
    if swap.exists() {
        config.cgroup.settings.push(setting("memory.swap.max", "0"));
    }
    assert_eq!(host.output(config.clone()), "20\n33554432\n50000 100000\n0\nkilled\n");
    config.cgroup.settings = vec![setting("pids.max", "1")];
    config.process.args = ["sh", "-c", "sleep 0; echo forked"].map(String::from).to_vec();
    assert!(host.try_run(config).unwrap().stderr.contains("can't fork"));
}

fn settings_that_fail() {
    let mut host = Host::new();
    let mut config = script("true");
    for (file, value, message) in [
        ("cgroup.max.depth", "deep", "\"deep\": cgroup.max.depth: invalid argument"),
        ("absent.max", "1", "\"1\": absent.max: no such file or directory"),
        ("../cgroup.kill", "1", "\"../cgroup.kill\": not a file of a cgroup"),
    ] {
        config.cgroup.settings = vec![setting(file, value)];
        let failure = host.configure(&config).unwrap_err();
        assert_eq!(failure.field, format!("linux.resources.unified[{file:?}]"));
        assert_eq!(failure.message, message);
        assert!(!host.cgroup.join("drupe/c1").exists(), "the cgroup is left");
    }
}

/// Everything but /dev/zero; making it is allowed.
const NO_ZERO: [u64; 10] = [
    0x0000_0001_0000_00b7, // r0 = 1
    0x0000_0000_0000_1461, // r4 = access and type
    0x0000_0010_0000_0477, // r4 >>= 16
    0x0000_0001_0005_0415, // mknod: done
    0x0000_0000_0008_1261, // r2 = minor
    0x0000_0000_0004_1361, // r3 = major
    0x0000_0001_0002_0355, // not 1: done
    0x0000_0005_0001_0255, // not 5: done
    0x0000_0000_0000_00b7, // r0 = 0
    0x0000_0000_0000_0095, // exit
];

fn devices() {
    let mut host = Host::new();
    let mut config = script("head -c 2 /dev/urandom | wc -c; head -c 2 /dev/zero | wc -c");
    assert_eq!(host.output(config.clone()), "2\n2\n");
    config.cgroup.device_program = NO_ZERO.to_vec();
    let outcome = host.try_run(config).unwrap();
    assert_eq!(outcome.stdout, "2\n0\n");
    assert_eq!(outcome.stderr, "head: /dev/zero: Operation not permitted\n");
}

fn device_program_that_fails() {
    let mut host = Host::new();
    let mut config = script("true");
    // No exit.
    config.cgroup.device_program = vec![NO_ZERO[0]];
    let failure = host.configure(&config).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("linux.resources.devices", "program: cannot be loaded: invalid argument")
    );
    assert!(!host.cgroup.join("drupe/c1").exists(), "the cgroup is left");
}

fn owner() {
    let mut host = Host::new();
    let text = "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.kill; stat -c %u memory.oom.group 2>/dev/null || echo 1000; mkdir inner 2>/dev/null && echo made";
    let mut config = with_cgroup(text, false);
    config.process.user.uid = 1000;
    assert_eq!(host.output(config), "1000\n1000\n0\n1000\nmade\n");
    let mut config = with_cgroup("stat -c %u /sys/fs/cgroup", true);
    config.process.user.uid = 1000;
    assert_eq!(host.output(config), "0\n");
}
