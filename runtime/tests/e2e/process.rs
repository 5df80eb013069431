//! `process.*` and the host name: the workload is what the configuration says it is.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::case::Case;
use crate::running::Running;
use crate::stage::Stage;

/// CAP_KILL and CAP_NET_BIND_SERVICE, as bits.
const KILL_AND_BIND: &str = "0000000000000420";
const BIND: &str = "0000000000000400";
const NONE: &str = "0000000000000000";

pub(crate) fn cases() -> Vec<Case> {
    let groups = [
        properties(),
        limits_and_identity(),
        callers_limits(),
        leftovers(),
        programs_and_names(),
        capability_cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// One property of `process`, and where the probe's report shows it.
fn properties() -> Vec<Case> {
    let properties = [
        ("cwd", "cwd", json!("/usr/bin"), "/cwd", json!("/usr/bin")),
        ("cwd_is_made_if_missing", "cwd", json!("/made/for/it"), "/cwd", json!("/made/for/it")),
        ("umask", "user", json!({ "uid": 0, "gid": 0, "umask": 0o077 }), "/umask", json!("0077")),
        ("umask_default", "user", json!({ "uid": 0, "gid": 0 }), "/umask", json!("0022")),
        ("oom_score_adj", "oomScoreAdj", json!(500), "/oom_score_adj", json!("500")),
        ("no_new_privileges", "noNewPrivileges", json!(true), "/no_new_privs", json!("1")),
        ("new_privileges", "noNewPrivileges", json!(false), "/no_new_privs", json!("0")),
    ];
    let case =
        |(name, property, value, place, expected): (&str, &'static str, Value, &'static str, Value)| {
            Case::new(format!("process::{name}"), move |stage| {
                let report =
                    stage.probe(&["/probe"]).with(|config| config["process"][property] = value).report();
                assert_eq!(report.pointer(place), Some(&expected));
            })
        };
    properties.into_iter().map(case).collect()
}

fn limits_and_identity() -> Vec<Case> {
    vec![
        Case::new("process::args_are_kept_as_they_are", |stage| {
            let script = "for arg; do printf '[%s]' \"$arg\"; done";
            let bundle =
                stage.bundle(&["sh", "-c", script, "sh", "a b", "", "line\nline", "\"'$x`", "ü", "*"]);
            bundle.run().assert(0, "[a b][][line\nline][\"'$x`][ü][*]");
        }),
        seen("env", set_env, |report| {
            let mut env = report["env"].as_object().expect("env").clone();
            env.remove("HOME"); // may be added
            assert_eq!(Value::Object(env), json!({ "PATH": "/bin", "EMPTY": "", "ODD": "a=b c\nd\"ü" }));
        }),
        seen("user_and_groups", set_user, |report| {
            let all = |id| json!({ "real": id, "effective": id, "saved": id, "filesystem": id });
            assert_eq!((&report["uid"], &report["gid"]), (&all(1000), &all(1001)));
            assert_eq!(report["groups"], json!([5, 29]));
        }),
        seen("rlimits", set_rlimits, |report| {
            let limit = |soft: Value, hard: Value| json!({ "soft": soft, "hard": hard });
            assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], limit(json!(100), json!(200)));
            assert_eq!(report["rlimits"]["RLIMIT_CORE"], limit(json!(0), json!(0)));
            assert_eq!(report["rlimits"]["RLIMIT_STACK"], limit(json!(4_194_304), Value::Null));
            assert_eq!(report["rlimits"]["RLIMIT_NPROC"], limit(json!(50), json!(60)));
        }),
    ]
}

/// Limits that the configuration does not set are those of who calls the runtime.
fn callers_limits() -> Vec<Case> {
    let lowered = Case::new("process::rlimits_of_the_caller", |stage| {
        let bundle = stage.bundle(&["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -s"]);
        let bundle = bundle.with(|config| config["process"]["rlimits"] = json!([]));
        bundle.write();
        let runtime = bundle.command();
        let mut command = Command::new("sh");
        // Not a soft one apart from the hard one: Go raises it for runc.
        let limits = "ulimit -n 800 && ulimit -Ss 4096 && exec \"$@\"";
        command.args(["-c", limits, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
        Running::start(command.stdin(Stdio::null())).finish().assert(0, "800\n800\n4096\n");
    });
    let many = Case::new("process::rlimits_beyond_a_million_files", |stage| {
        let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 2_097_152, "hard": 2_097_152 }]);
        let bundle = stage.bundle(&["sh", "-c", "ulimit -n"]);
        bundle.with(|config| config["process"]["rlimits"] = limit).run().assert(0, "2097152\n");
    });
    vec![lowered, many.drupe_only("for runc the host's fs.nr_open is the bound")]
}

/// What a runtime may leave on its workload by mistake.
fn leftovers() -> Vec<Case> {
    vec![
        seen(
            "no_groups_but_those_given",
            |_| (),
            |report| {
                let groups = report["groups"].as_array().expect("groups");
                assert!(groups.iter().all(|group| group == 0), "{groups:?}");
            },
        ),
        seen(
            "signals_are_at_their_defaults",
            |_| (),
            |report| {
                let set =
                    |name: &str| u64::from_str_radix(report["signals"][name].as_str().expect("hex"), 16);
                assert_eq!(set("blocked"), Ok(0));
                // The probe itself ignores SIGPIPE; 32 and 33 are the C library's own.
                assert_eq!(set("ignored").map(|set| set & 0x7fff_ffff), Ok(1 << (libc::SIGPIPE - 1)));
            },
        ),
        seen(
            "only_the_standard_streams_are_open",
            |_| (),
            |report| {
                let fds: Vec<_> = report["fds"].as_object().expect("fds").keys().collect();
                assert_eq!(fds, ["0", "1", "2"], "{}", report["fds"]);
            },
        ),
    ]
}

fn programs_and_names() -> Vec<Case> {
    vec![
        Case::new("process::program_is_looked_up_in_its_path", |stage| {
            let bundle = stage.probe(&["probe", "exit", "23"]);
            bundle.with(|config| config["process"]["env"] = json!(["PATH=/nowhere:/"])).run().assert(23, "");
        }),
        Case::new("process::program_may_be_a_script", |stage| {
            let bundle = stage.bundle(&["/script", "a b"]);
            let path = bundle.rootfs().join("script");
            std::fs::copy(bundle.rootfs().join("bin/busybox"), &path).expect("an executable file");
            std::fs::write(&path, "#!/bin/sh\necho \"script $1\"\nexit 4\n").expect("a script");
            bundle.run().assert(4, "script a b\n");
        }),
        Case::new("process::hostname", |stage| {
            let bundle = stage.bundle(&["hostname"]).with(|config| config["hostname"] = json!("stone-fruit"));
            bundle.run().assert(0, "stone-fruit\n");
        }),
        Case::new("process::domainname", |stage| {
            let bundle = stage.probe(&["/probe"]).with(|config| config["domainname"] = json!("orchard"));
            assert_eq!(bundle.report()["machine"]["domainname"], "orchard");
        })
        .drupe_only("runc knows it only from 1.2 on"),
        Case::new("process::sysctl", |stage| {
            let names = ["net/ipv4/ip_default_ttl", "kernel/shm_rmid_forced"];
            let bundle = stage.bundle(&["sh", "-c", &format!("cd /proc/sys; cat {} {}", names[0], names[1])]);
            let bundle = bundle.with(|config| {
                config["linux"]["sysctl"] =
                    json!({ "net.ipv4.ip_default_ttl": "77", "kernel.shm_rmid_forced": "1" });
            });
            bundle.run().assert(0, "77\n1\n");
        }),
        Case::new("process::dropped_capabilities_cannot_be_used", |stage| {
            let bundle = stage.bundle(&["sh", "-c", "chown 5 /tmp 2>/dev/null; stat -c %u /tmp"]);
            bundle.capabilities(&["CAP_KILL"]).run().assert(0, "0\n");
        }),
    ]
}

/// A case that changes `process` and judges what the probe saw.
fn seen(name: &str, change: fn(&mut Value), judge: fn(&Value)) -> Case {
    Case::new(format!("process::{name}"), move |stage: &Stage| {
        judge(&stage.probe(&["/probe"]).with(|config| change(&mut config["process"])).report());
    })
}

fn set_env(process: &mut Value) {
    process["env"] = json!(["PATH=/bin", "EMPTY=", "ODD=a=b c\nd\"ü"]);
}

fn set_user(process: &mut Value) {
    process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [29, 5] });
}

fn set_rlimits(process: &mut Value) {
    process["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_STACK", "soft": 4_194_304, "hard": u64::MAX },
        { "type": "RLIMIT_NPROC", "soft": 50, "hard": 60 },
    ]);
}

/// The five sets as the probe saw them: bounding, effective, permitted, inheritable, ambient.
fn sets(report: &Value) -> [&str; 5] {
    let set = |name: &str| report["caps"][name].as_str().expect("a set");
    [set("bounding"), set("effective"), set("permitted"), set("inheritable"), set("ambient")]
}

fn capability_cases() -> Vec<Case> {
    let both = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let bind = json!(["CAP_NET_BIND_SERVICE"]);
    let configurations = [
        (
            "of_root",
            0,
            json!({ "bounding": both, "effective": both, "permitted": both }),
            [KILL_AND_BIND, KILL_AND_BIND, KILL_AND_BIND, NONE, NONE],
        ),
        (
            "bounding_wider_than_effective",
            1000,
            json!({ "bounding": both, "effective": bind, "permitted": bind }),
            [KILL_AND_BIND, NONE, NONE, NONE, NONE],
        ),
        (
            "ambient_survives_for_a_user",
            1000,
            json!({ "bounding": both, "effective": bind, "permitted": bind, "inheritable": bind, "ambient": bind }),
            [KILL_AND_BIND, BIND, BIND, BIND, BIND],
        ),
        ("none_in_every_set", 0, json!({ "bounding": [], "effective": [], "permitted": [] }), [NONE; 5]),
        ("none_without_the_property", 0, Value::Null, [NONE; 5]),
    ];
    let case = |(name, uid, capabilities, expected): (&str, u32, Value, [&'static str; 5])| {
        Case::new(format!("process::capabilities_{name}"), move |stage| {
            let bundle = stage.probe(&["/probe"]).with(|config| {
                config["process"]["user"]["uid"] = json!(uid);
                config["process"]["capabilities"] = capabilities;
                config["process"].as_object_mut().expect("process").retain(|_, value| !value.is_null());
            });
            assert_eq!(sets(&bundle.report()), expected);
        })
    };
    configurations.into_iter().map(case).collect()
}
