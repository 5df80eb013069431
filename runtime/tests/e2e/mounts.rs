//! Mounts: what a configuration asks for is there, and what is written to a bind mount is on the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use serde_json::{Value, json};

use crate::case::Case;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("mounts::bind_written_by_a_user", written_by_user),
        Case::new("mounts::bind_keeps_what_a_filesystem_keeps", file_operations),
        Case::new("mounts::bind_of_a_file", bind_of_file),
        Case::new("mounts::a_relative_destination_starts_at_the_root", |stage| {
            let bundle = stage.bundle(&["sh", "-c", "grep -c ' /data tmpfs' /proc/mounts"]);
            let mount = json!({ "destination": "data", "type": "tmpfs", "source": "tmpfs" });
            bundle.mount(mount).run().assert(0, "1\n");
        })
        .drupe_only("runc 1.1 refuses what the specification has allowed since"),
        Case::new("mounts::bind_from_a_path_relative_to_the_bundle", |stage| {
            let bundle = stage.bundle(&["cat", "/data/name"]);
            fs::create_dir(bundle.dir.join("data")).expect("a directory");
            fs::write(bundle.dir.join("data/name"), "relative\n").expect("a file");
            bundle.bind("data".as_ref(), "/data", &["rbind"]).run().assert(0, "relative\n");
        }),
        Case::new("mounts::bind_from_a_symlink_of_the_host", |stage| {
            let target = stage.directory("target");
            fs::write(target.join("name"), "behind a link\n").expect("a file");
            symlink(&target, stage.path("link")).expect("a link");
            let bundle = stage.bundle(&["cat", "/data/name"]);
            bundle.bind(&stage.path("link"), "/data", &["rbind"]).run().assert(0, "behind a link\n");
        }),
        Case::new("mounts::binds_within_binds", nested),
        Case::new("mounts::mount_points_are_made_in_a_writable_root", missing_mount_points),
        Case::new("mounts::mount_points_are_made_for_a_read_only_root", missing_in_read_only_root),
        Case::new("mounts::a_later_mount_covers_an_earlier_one", |stage| {
            let (first, second) = (stage.directory("first"), stage.directory("second"));
            fs::write(second.join("top"), "").expect("a file");
            let bundle = stage.bundle(&["ls", "/data"]).bind(&first, "/data", &["rbind"]);
            bundle.bind(&second, "/data", &["rbind"]).run().assert(0, "top\n");
        }),
        Case::new("mounts::what_the_host_writes_meanwhile_is_seen", host_writes),
        Case::new("mounts::options_of_a_bind", bind_options),
        Case::new("mounts::tmpfs_of_a_size", tmpfs),
        Case::new("mounts::masked_paths", masked),
        Case::new("mounts::default_dev", default_dev),
        Case::new("mounts::devices_work", |stage| {
            let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c \
                && ! echo y 2>/dev/null >/dev/full && echo shm >/dev/shm/a && cat /dev/shm/a";
            stage.bundle(&["sh", "-c", script]).run().assert(0, "3\n5\nshm\n");
        }),
        Case::new("mounts::proc_and_sys", |stage| {
            let bundle = stage.bundle(&["sh", "-c", "cat /proc/self/comm; ls -d /sys/class/net; : >/sys/x"]);
            let output = bundle.run();
            assert_eq!(output.stdout_text(), "cat\n/sys/class/net\n");
            assert!(
                output.status != 0 && output.stderr_text().contains("Read-only file system"),
                "{output:?}"
            );
        }),
    ]
}

fn written_by_user(stage: &Stage) {
    let data = stage.directory("data");
    let bundle = stage.bundle(&["sh", "-c", "echo hello >/data/file && cat /data/file"]);
    let bundle = bundle.bind(&data, "/data", &["rbind", "rw"]).with(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "umask": 0o027 });
    });
    bundle.run().assert(0, "hello\n");
    let metadata = fs::metadata(data.join("file")).expect("the file is on the host");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1000, 1001, 0o640));
    assert_eq!(fs::read_to_string(data.join("file")).expect("text"), "hello\n");
}

fn file_operations(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("old"), "from the host\n").expect("a file");
    let script = "set -e; cd /data; cat old; rm old; mkdir -p a/b; echo 1 >a/one; ln a/one a/two; \
        ln -s ../elsewhere a/link; mkfifo a/fifo; mv a/one a/b/moved; chmod 4711 a/b/moved; chown 7:8 a/b; \
        echo 22 >>a/two; truncate -s 100000 a/big; touch -d '2001-02-03 04:05:06' a/dated; echo x >'sp ace ü'";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind", "rw"]);
    bundle.run().assert(0, "from the host\n");
    assert!(!data.join("old").exists());
    let moved = fs::metadata(data.join("a/b/moved")).expect("moved");
    assert_eq!((moved.nlink(), moved.mode() & 0o7777), (2, 0o4711));
    assert_eq!(fs::read_to_string(data.join("a/two")).expect("two"), "1\n22\n");
    assert_eq!(fs::read_link(data.join("a/link")).expect("link").to_str(), Some("../elsewhere"));
    assert!(fs::symlink_metadata(data.join("a/fifo")).expect("fifo").file_type().is_fifo());
    let owned = fs::metadata(data.join("a/b")).expect("b");
    assert_eq!((owned.uid(), owned.gid()), (7, 8));
    assert_eq!(fs::metadata(data.join("a/big")).expect("big").len(), 100_000);
    assert_eq!(fs::metadata(data.join("a/dated")).expect("dated").mtime(), 981_173_106);
    assert_eq!(fs::read_to_string(data.join("sp ace ü")).expect("its name survives"), "x\n");
}

fn bind_of_file(stage: &Stage) {
    let (writable, fixed) = (stage.file("writable", "old\n"), stage.file("fixed", "fixed\n"));
    let script = "cat /etc/fixed /etc/passwd; echo new >/etc/passwd; echo bad >/etc/fixed";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&writable, "/etc/passwd", &["bind", "rw"]);
    let rootfs = bundle.rootfs();
    let output = bundle.bind(&fixed, "/etc/fixed", &["bind", "ro"]).run();
    assert_eq!(output.stdout_text(), "fixed\nold\n");
    assert!(output.status != 0 && output.stderr_text().contains("Read-only file system"), "{output:?}");
    assert_eq!(fs::read_to_string(writable).expect("text"), "new\n");
    assert_eq!(fs::read_to_string(fixed).expect("text"), "fixed\n");
    let below = fs::read_to_string(rootfs.join("etc/passwd")).expect("text");
    assert!(below.starts_with("root:"), "the file below the mount was written: {below:?}");
}

fn nested(stage: &Stage) {
    let (outer, inner) = (stage.directory("outer"), stage.directory("inner"));
    fs::create_dir(outer.join("sub")).expect("a directory");
    fs::write(outer.join("sub/hidden"), "").expect("a file");
    fs::write(inner.join("seen"), "").expect("a file");
    let script =
        "ls /data/sub; echo o >/data/o; echo i >/data/sub/i; ls -A /data/sub/tmp; echo t >/data/sub/tmp/t";
    fs::create_dir(inner.join("tmp")).expect("a directory");
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&outer, "/data", &["rbind"]);
    let bundle = bundle.bind(&inner, "/data/sub", &["rbind"]);
    let bundle = bundle.mount(json!({ "destination": "/data/sub/tmp", "type": "tmpfs", "source": "tmpfs" }));
    bundle.run().assert(0, "seen\ntmp\n");
    assert_eq!(fs::read_to_string(outer.join("o")).expect("outer"), "o\n");
    assert_eq!(fs::read_to_string(inner.join("i")).expect("inner"), "i\n");
    assert!(!inner.join("tmp/t").exists());
}

fn missing_mount_points(stage: &Stage) {
    let data = stage.directory("data");
    let file = stage.file("file", "a file\n");
    let bundle = stage.bundle(&["sh", "-c", "cat /new/file/name; touch /new/deep/directory/x"]);
    let bundle = bundle.bind(&data, "/new/deep/directory", &["rbind"]);
    bundle.bind(&file, "/new/file/name", &["bind"]).run().assert(0, "a file\n");
    assert!(data.join("x").exists());
}

fn missing_in_read_only_root(stage: &Stage) {
    let data = stage.directory("data");
    let file = stage.file("file", "a file\n");
    let bundle =
        stage.bundle(&["sh", "-c", "cat /new/name; echo x >/new/directory/x; ls /bin/sh; : >/new/y"]);
    let bundle = bundle.bind(&data, "/new/directory", &["rbind"]).bind(&file, "/new/name", &["bind"]);
    let output = bundle.with(|config| config["root"]["readonly"] = json!(true)).run();
    assert_eq!(output.stdout_text(), "a file\n/bin/sh\n", "{output:?}");
    assert!(output.status != 0 && output.stderr_text().contains("Read-only file system"), "{output:?}");
    assert!(data.join("x").exists());
}

/// A file that did not exist when the workload first looked, and one that changed.
/// Seen soon: a guest may go on with what it knew for a second.
fn host_writes(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("changes"), "before").expect("a file");
    let script = "cd /data; cat changes new 2>/dev/null; echo; read -r go; tries=100
        until [ \"$(cat changes)\" = afterwards ] || [ $((tries -= 1)) -eq 0 ]; do sleep 0.1; done
        cat changes new; ls";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind", "ro"]);
    let mut running = bundle.start();
    assert_eq!(running.line(), "before");
    fs::write(data.join("changes"), "afterwards\n").expect("a file");
    fs::write(data.join("new"), "new\n").expect("a file");
    running.send(b"go\n");
    running.finish().assert(0, "afterwards\nnew\nchanges\nnew\n");
}

fn bind_options(stage: &Stage) {
    let data = stage.directory("data");
    let bundle = stage.probe(&["sh", "-c", "cp /probe /data/probe && /data/probe exit 3; echo $?; /probe"]);
    let output = bundle.bind(&data, "/data", &["rbind", "nosuid", "nodev", "noexec", "noatime"]).run();
    output.assert_status(0);
    let text = output.stdout_text();
    let (status, report) = text.split_once('\n').expect("two lines");
    assert_eq!(status, "126");
    let report: Value = serde_json::from_str(report).expect("JSON");
    let options = options_of(&report, "/data");
    for option in ["rw", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(options.contains(&option.to_owned()), "{option}: {options:?}");
    }
}

/// The per-mount options that the probe saw of a destination's last mount.
pub(crate) fn options_of(report: &Value, destination: &str) -> Vec<String> {
    let mounts = report["mounts"].as_array().expect("mounts");
    let mount = mounts.iter().rev().find(|mount| mount["destination"] == destination);
    let mount = mount.unwrap_or_else(|| panic!("no mount at {destination}: {mounts:#?}"));
    let options = mount["options"].as_array().expect("options");
    options.iter().map(|option| option.as_str().expect("text").to_owned()).collect()
}

fn tmpfs(stage: &Stage) {
    let script = "stat -c '%a %u' /t; df -k /t | tail -n 1 | tr -s ' ' | cut -d' ' -f2; \
        dd if=/dev/zero of=/t/fits bs=1k count=1000 2>/dev/null; echo $?; \
        dd if=/dev/zero of=/t/not bs=1k count=100 2>/dev/null; echo $?";
    let bundle = stage.bundle(&["sh", "-c", script]).mount(json!({
        "destination": "/t", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "nodev", "mode=1770", "uid=5", "size=1024k"],
    }));
    let rootfs = bundle.rootfs();
    bundle.run().assert(0, "1770 5\n1024\n0\n1\n");
    assert!(!rootfs.join("t/fits").exists());
}

fn masked(stage: &Stage) {
    let script = "cat /secret/file; cat /secretfile; ls -A /secret; cat /fixed/file; echo x >/fixed/file || echo y >>/fixedfile";
    let bundle = stage.bundle(&["sh", "-c", script]);
    for dir in ["secret", "fixed"] {
        fs::create_dir(bundle.rootfs().join(dir)).expect("a directory");
    }
    for file in ["secret/file", "secretfile", "fixed/file", "fixedfile"] {
        fs::write(bundle.rootfs().join(file), format!("content of {file}\n")).expect("a file");
    }
    let rootfs = bundle.rootfs();
    let output = bundle
        .with(|config| {
            config["linux"]["maskedPaths"] = json!(["/secret", "/secretfile", "/not/there"]);
            config["linux"]["readonlyPaths"] = json!(["/fixed", "/fixedfile", "/not/there/either"]);
        })
        .run();
    assert_eq!(output.stdout_text(), "content of fixed/file\n");
    assert_eq!(output.stderr_text().matches("Read-only file system").count(), 2, "{output:?}");
    assert_eq!(fs::read_to_string(rootfs.join("fixedfile")).expect("text"), "content of fixedfile\n");
    assert!(!rootfs.join("not").exists());
}

fn default_dev(stage: &Stage) {
    let report = stage.probe(&["/probe"]).report();
    let dev = report["dev"].as_object().expect("/dev");
    let nodes = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    for (name, device) in nodes {
        let node = &dev[name];
        assert_eq!((&node["type"], &node["device"]), (&json!("character device"), &json!(device)), "{name}");
        assert_eq!(node["mode"], "0666", "{name}");
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        assert_eq!(dev[name]["target"], target, "{name}");
    }
    let known = nodes.iter().map(|node| node.0).chain(links.iter().map(|link| link.0));
    let known: Vec<&str> = known.chain(["core", "mqueue", "pts", "shm"]).collect();
    let others: Vec<_> = dev.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "more than the specification's devices: {others:?}");
}
