//! Volumes, tmpfs, read-only roots, roots without an image.

use std::fs;
use std::process::{Command, Stdio};

use crate::Case;
use crate::done::Done;
use crate::podman::text;
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("podman::volumes", volumes),
        Case::new("podman::read_only", read_only),
        Case::new("podman::rootfs", rootfs),
    ]
}

fn volumes(subject: &Subject) {
    let podman = subject.podman();
    let (directory, siblings) = (podman.path("volume"), podman.path("siblings"));
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(&siblings).unwrap();
    fs::write(directory.join("given"), "from the host\n").unwrap();
    fs::write(siblings.join("one"), "one file\n").unwrap();
    fs::write(siblings.join("other"), "not shown\n").unwrap();
    let script = "cat /data/given /etc/one; echo from the guest >/data/made; echo >/etc/one; echo $?; \
        ls /etc | grep -c other; echo >>/kept/file && cat /kept/file";
    let options = [
        format!("--volume={}:/data", text(&directory)),
        format!("--volume={}:/etc/one:ro", text(&siblings.join("one"))),
        "--volume=named:/kept".to_owned(),
    ];
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let done = podman.run_once(&options, &["sh", "-c", script]);
    assert_eq!(done.ok(), "from the host\none file\n1\n0", "{done:?}");
    assert_eq!(fs::read_to_string(directory.join("made")).unwrap(), "from the guest\n");
    assert_eq!(fs::read_to_string(siblings.join("one")).unwrap(), "one file\n");
    podman.run(&["volume", "rm", "named"]).ok();
}

fn read_only(subject: &Subject) {
    let podman = subject.podman();
    let script =
        "touch /home/x; echo $?; touch /mnt/x /tmp/x; echo $?; grep -c ' /mnt .*size=1024k' /proc/mounts";
    let options = ["--read-only", "--tmpfs", "/mnt:size=1m"];
    let done = podman.run_once(&options, &["sh", "-c", script]);
    assert_eq!(done.ok(), "1\n0\n1", "{done:?}");
}

fn rootfs(subject: &Subject) {
    let podman = subject.podman();
    let root = podman.path("rootfs");
    Done::of(Command::new("cp").arg("-a").arg(&subject.image).arg(&root), Stdio::null()).ok();
    let args =
        ["run", "--rm", "--network", "none", "--rootfs", text(&root), "sh", "-c", "echo made >/made; id -u"];
    assert_eq!(podman.run(&args).ok(), "0");
    assert_eq!(fs::read_to_string(root.join("made")).unwrap(), "made\n");
}
