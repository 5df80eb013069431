//! The workload sees its container and nothing of what runs it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use crate::bundle::Image;
use crate::case::Case;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("isolation::the_workload_is_pid_1_and_alone", |stage| {
            let report = stage.probe(&["/probe"]).report();
            assert_eq!((&report["pid"], &report["ppid"]), (&json!(1), &json!(0)));
            assert_eq!(report["pids"], json!({ "1": "/probe" }));
        }),
        Case::new("isolation::a_workload_without_pid_namespace_sees_only_an_init", |stage| {
            let report = stage.probe(&["/probe"]).without_namespace("pid").report();
            let pids = report["pids"].as_object().expect("pids");
            let own = report["pid"].to_string();
            assert!(pids.contains_key(&own) && own != "1");
            assert!(pids.keys().all(|pid| *pid == own || pid == "1"), "{pids:?}");
        })
        .drupe_only("elsewhere that is the host's pid namespace"),
        Case::new("isolation::orphans_are_reaped_by_pid_1", |stage| {
            // 50 orphans of a shell that is not PID 1: a reaper that misses them would leave zombies in /proc.
            let script = "for i in $(seq 50); do sh -c '(exit 3) & exit 0'; done; echo done";
            stage.bundle(&["sh", "-c", script]).without_namespace("pid").run().assert(0, "done\n");
        }),
        Case::new("isolation::the_root_holds_what_the_image_holds", root_listing),
        Case::new("isolation::own_session", |stage| {
            let report = stage.probe(&["/probe"]).report();
            assert_eq!(report["sid"], 1);
        }),
        Case::new("isolation::what_runs_it_cannot_be_executed", |stage| {
            // Until its exec, the process is one of drupe's own.
            stage.bundle(&["/proc/self/exe"]).run().assert_status(126);
            let script = stage.bundle(&["/script"]);
            fs::write(script.rootfs().join("script"), "#!/proc/self/exe\n").expect("a script");
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(script.rootfs().join("script"), executable).expect("its mode");
            script.run().assert_status(126);
        })
        .drupe_only("elsewhere it is, from a copy"),
        Case::new("isolation::mounts_are_those_asked_for", mounts),
        Case::new("isolation::a_kernel_of_its_own", |stage| {
            let path = "/proc/sys/kernel/random/boot_id";
            let output = stage.bundle(&["cat", path]).run();
            output.assert_status(0);
            let there = output.stdout_text();
            assert_eq!(there.trim().len(), 36);
            assert_ne!(there, fs::read_to_string(path).expect("boot_id"));
        })
        .drupe_only("elsewhere the kernel is the host's"),
        Case::new("isolation::a_clock_that_is_right", |stage| {
            let before = now();
            let output = stage.bundle(&["date", "+%s"]).run();
            let seen: u64 = output.stdout_text().trim().parse().expect("seconds");
            // Two seconds for the resolution of either clock, not for the run, which lies between the two reads.
            assert!((before.saturating_sub(2)..=now() + 2).contains(&seen), "{before} {seen} {}", now());
        }),
        Case::new("isolation::its_network_has_no_device_but_lo", |stage| {
            let output =
                stage.bundle(&["sh", "-c", "grep -v '|' /proc/net/dev | cut -d: -f1 | tr -d ' '"]).run();
            output.assert_status(0);
            let text = output.stdout_text();
            let names: Vec<&str> = text.lines().filter(|name| !DORMANT.contains(name)).collect();
            assert_eq!(names, ["lo"]);
        }),
    ]
}

/// Tunnel devices that some host kernels put into every new network namespace.
const DORMANT: [&str; 8] = ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0"];

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

fn root_listing(stage: &Stage) {
    let image = fs::read_dir(Image::Busybox.path()).expect("the image").flatten();
    let expected: BTreeSet<String> =
        image.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    let output = stage.bundle(&["ls", "-A", "/"]).run();
    output.assert_status(0);
    let seen: BTreeSet<String> = output.stdout_text().lines().map(str::to_owned).collect();
    assert_eq!(seen, expected);
}

/// The root, what config.json lists, and what masks and protects paths in /proc and /sys.
fn mounts(stage: &Stage) {
    let data = stage.directory("data");
    let bundle = stage.probe(&["/probe"]).bind(&data, "/data", &["rbind"]);
    let mut expected: BTreeSet<String> = ["/".to_owned()].into();
    for mount in bundle.config["mounts"].as_array().expect("mounts") {
        expected.insert(mount["destination"].as_str().expect("a path").to_owned());
    }
    let report = bundle.report();
    let all = report["mounts"].as_array().expect("mounts");
    let seen = all.iter().map(|mount| mount["destination"].as_str().expect("a path").to_owned());
    let apart = |path: &String| !path.starts_with("/proc/") && !path.starts_with("/sys/");
    let seen: BTreeSet<String> = seen.filter(apart).collect();
    expected.retain(apart);
    assert_eq!(seen, expected);
}
