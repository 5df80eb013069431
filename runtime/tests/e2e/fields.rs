//! Fields of config.json that few tools set: each is seen by the workload.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::case::Case;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    let runc_is_older = "runc 1.1 does not know the field";
    vec![
        shell("personality", "uname -m", "i686\n", |c| {
            c["linux"]["personality"] = json!({ "domain": "LINUX32" })
        })
        .drupe_only("runc 1.1 does not know the field"),
        shell(
            "devices",
            "stat -c '%F %t:%T %a %u:%g' /dev/it",
            "character special file 1:5 640 7:8\n",
            |c| {
                let node = json!({ "path": "/dev/it", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8 });
                c["linux"]["devices"] = json!([node]);
            },
        ),
        shell("pids_limit", "cat /sys/fs/cgroup/pids.max", "50\n", |c| {
            c["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
        })
        .drupe_only("the cgroup has room for the agent's own processes elsewhere, or is not seen"),
        shell("seccomp", "mkdir /tmp/x 2>&1 | sed 's/.*: //'", "No anode\n", |c| {
            let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55 });
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [rule],
            });
        }),
        Case::new("fields::rootfs_propagation", |stage| {
            let script = "awk '$5 == \"/\" && /shared:/' /proc/self/mountinfo | wc -l";
            let bundle = stage.bundle(&["sh", "-c", script]);
            let output = bundle.with(|c| c["linux"]["rootfsPropagation"] = json!("shared")).run();
            assert_eq!(output.stdout_text().trim(), "1", "{output:?}");
        })
        .drupe_only("under runc 1.1 the mount at / itself is not shared"),
        shell("user_namespace", "cat /proc/self/uid_map | tr -s ' '", " 0 100000 65536\n", user_namespace)
            .drupe_only("elsewhere the root filesystem must be open to the mapped users"),
        shell("time_offsets", "cut -d. -f1 /proc/uptime | grep -c '^17[0-9][0-9][0-9][0-9]$'", "1\n", |c| {
            namespace(c, "time");
            c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 172_800 } });
        })
        .drupe_only(runc_is_older),
        shell("io_priority", "ionice -p 1", "best-effort: prio 6\n", |c| {
            c["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
        })
        .drupe_only(runc_is_older),
        shell("scheduler", "cut -d' ' -f19,41 /proc/1/stat", "5 3\n", |c| {
            c["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        })
        .drupe_only(runc_is_older),
        Case::new("fields::tmpcopyup_begins_with_what_the_image_has", |stage| {
            let script = "cat /srv/name && stat -f -c %T /srv && echo more >/srv/new";
            let bundle = stage.bundle(&["sh", "-c", script]);
            fs::create_dir_all(bundle.rootfs().join("srv")).expect("a directory");
            fs::write(bundle.rootfs().join("srv/name"), "of the image\n").expect("a file");
            let mount = json!({ "destination": "/srv", "type": "tmpfs", "options": ["tmpcopyup"] });
            let bundle = bundle.mount(mount);
            bundle.run().assert(0, "of the image\ntmpfs\n");
            assert!(!bundle.rootfs().join("srv/new").exists());
        }),
        Case::new("fields::a_remount_changes_the_mount_before_it", |stage| {
            let data = stage.directory("data");
            let bundle = stage.bundle(&["sh", "-c", "touch /data/a 2>/dev/null || echo refused"]);
            let remount = json!({ "destination": "/data", "options": ["bind", "remount", "ro"] });
            bundle.bind(&data, "/data", &["rbind", "rw"]).mount(remount).run().assert(0, "refused\n");
            assert!(!data.join("a").exists());
        })
        .drupe_only("runc 1.1 wants a source for it"),
        Case::new("fields::owners_of_a_bind_are_mapped", mapped_owners)
            .drupe_only("runc 1.1 wants a user namespace"),
    ]
}

/// A shell's output in a bundle whose configuration is changed.
fn shell(name: &str, script: &'static str, output: &'static str, change: fn(&mut Value)) -> Case {
    Case::new(format!("fields::{name}"), move |stage| {
        stage.bundle(&["sh", "-c", script]).with(change).run().assert(0, output);
    })
}

fn namespace(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({ "type": kind }));
}

fn user_namespace(config: &mut Value) {
    let mappings = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    config["linux"]["uidMappings"] = mappings.clone();
    config["linux"]["gidMappings"] = mappings;
    namespace(config, "user");
}

/// A file of root's is one of 1000's to the container; what 1000 makes is root's on the disk.
fn mapped_owners(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("old"), "").expect("a file");
    let mappings = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mount = json!({
        "destination": "/data",
        "source": data,
        "options": ["bind", "idmap"],
        "uidMappings": mappings,
        "gidMappings": mappings,
    });
    let bundle = stage.bundle(&["sh", "-c", "stat -c %u:%g /data/old && : >/data/new"]).mount(mount);
    let bundle = bundle.with(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    bundle.run().assert(0, "1000:1000\n");
    let new = fs::metadata(data.join("new")).expect("the file is on the host");
    assert_eq!((new.uid(), new.gid()), (0, 0));
}
