//! The cgroup on the host that the container's process is in, as other processes of the host find it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("cgroups::devices_of_the_host_are_those_of_the_rules", devices).cost(2),
        Case::new("cgroups::of_two_that_are_made_at_once_one_gets_it", made_at_once)
            .cost(4)
            .drupe_only("runc looks at a cgroup before it makes one, and not again"),
        Case::new("cgroups::updates_at_once_all_hold", updates_at_once)
            .cost(4)
            .drupe_only("runc does not let one update wait for another"),
    ]
}

/// Where the container's process is in the hierarchy of version 2; `None` where the host has none.
fn directory(container: &Container<'_>) -> Option<PathBuf> {
    let pid = container.state()["pid"].as_u64().expect("a pid");
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process");
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = Path::new("/sys/fs/cgroup").join(path);
    directory.join("cgroup.procs").exists().then_some(directory)
}

/// Opens a device from within a cgroup.
fn opens(cgroup: &Path, device: &str) -> bool {
    let script = format!("echo $$ >{}/cgroup.procs && exec 3<{device}", cgroup.display());
    Command::new("sh").args(["-c", &script]).output().expect("sh").status.success()
}

fn devices(stage: &Stage) {
    for (rules, readable) in [
        (json!([{ "allow": false, "access": "rwm" }]), false),
        (
            json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]),
            true,
        ),
    ] {
        let bundle = stage.bundle(&["sleep", "1000"]);
        let container =
            Container::started(bundle.with(|c| c["linux"]["resources"] = json!({ "devices": rules })));
        let Some(cgroup) = directory(&container) else { return container.end() };
        assert!(opens(&cgroup, "/dev/null") && opens(&cgroup, "/dev/urandom"));
        assert_eq!(opens(&cgroup, "/dev/kmsg"), readable, "{rules}");
        assert!(!opens(&cgroup, "/dev/mem"));
        container.end();
    }
}

/// What is left of the one that came too late does not end the other.
fn made_at_once(stage: &Stage) {
    let path = format!("/drupe-at-once-{}", std::process::id());
    let container =
        || Container::new(stage.bundle(&["sleep", "1000"]).with(|c| c["linux"]["cgroupsPath"] = json!(path)));
    let both = [container(), container()];
    let outputs = std::thread::scope(|scope| {
        let calls = both.each_ref().map(|container| scope.spawn(|| container.make("create -b BUNDLE ID")));
        calls.map(|call| call.join().expect("the call"))
    });
    let (made, late) = if outputs[0].status == 0 { (0, 1) } else { (1, 0) };
    outputs[made].assert(0, "");
    assert_eq!(outputs[late].status, 1, "{:?}", outputs[late]);
    assert!(outputs[late].stderr_text().contains("cgroup is not empty"), "{:?}", outputs[late]);
    both[late].assert_status("none");
    both[made].ok("start ID");
    both[made].assert_status("running");
    both[made].end();
}

/// Each update writes all limits, so that one that began from what another has changed meanwhile would undo it.
fn updates_at_once(stage: &Stage) {
    let bundle = stage.bundle(&["sleep", "1000"]);
    let limits = json!({ "pids": { "limit": 50 } });
    let container = Container::started(bundle.with(|config| config["linux"]["resources"] = limits));
    let Some(cgroup) = directory(&container) else { return container.end() };
    let read = |file: &str| fs::read_to_string(cgroup.join(file)).expect("a limit").trim().to_owned();
    let pids = || read("pids.max").parse::<u64>().expect("a number");
    let beside = pids() - 50;
    for round in 0..4 {
        let (limit, quota) = (60 + round, 50_000 + 10_000 * round);
        let lines = [
            format!("update --pids-limit {limit} ID"),
            format!("update --cpu-period 100000 --cpu-quota {quota} ID"),
            format!("update --memory-reservation {}M ID", 8 + round),
        ];
        let updates: Vec<_> = lines.iter().map(|line| Running::start(&mut container.line(line))).collect();
        updates.into_iter().for_each(|update| update.finish().assert(0, ""));
        assert_eq!(pids() - beside, limit, "round {round}");
        assert_eq!(read("cpu.max"), format!("{quota} 100000"), "round {round}");
    }
    container.end();
}
