//! Volumes and root filesystems whose disk fails under the container: the workload gets the errno that a process of the host
//! would, what can go on goes on, and the container can still be ended and deleted.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::container::Container;
use crate::disk::{Disk, available};
use crate::stage::Stage;

const EIO: &str = "5\n";
const ENOENT: &str = "2\n";
const ENOSPC: &str = "28\n";
const EROFS: &str = "30\n";
const SUCCESS: &str = "0\n";

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new("failing_disk::a_volume_fills_up", fills_up),
        Case::new("failing_disk::a_volume_becomes_read_only", read_only),
        Case::new("failing_disk::a_volume_fails", fails),
        Case::new("failing_disk::a_volume_is_removed", removed),
        Case::new("failing_disk::a_volume_is_unmounted_on_the_host", unmounted),
        Case::new("failing_disk::the_root_filesystem_fails", root_fails),
        Case::new("failing_disk::the_root_filesystem_is_removed", root_removed),
    ];
    cases.into_iter().map(|case| case.needs(available).cost(2)).collect()
}

/// A container that waits, with a directory of the disk as its volume at /data.
fn with_volume<'a>(stage: &'a Stage, volume: &Path) -> Container<'a> {
    let bundle = stage.probe(&["sleep", "1000"]);
    Container::started(bundle.bind(volume, "/data", &["rbind", "rw"]))
}

/// Writes a file in the container and compares the errno.
#[track_caller]
fn writes(container: &Container<'_>, path: &str, errno: &str) {
    container.exec(&["/probe", "write", path, "text"]).assert(0, errno);
}

fn fills_up(stage: &Stage) {
    let disk = Disk::new(stage, 8);
    let container = with_volume(stage, &disk.directory("volume"));
    writes(&container, "/data/before", SUCCESS);
    let fill = "dd if=/dev/zero of=/data/big bs=64k 2>&1 | grep -o 'No space left on device'";
    container.exec(&["sh", "-c", fill]).assert(0, "No space left on device\n");
    writes(&container, "/data/after", ENOSPC);
    container.exec(&["cat", "/data/before"]).assert(0, "text");
    container.exec(&["rm", "/data/big"]).assert(0, "");
    writes(&container, "/data/again", SUCCESS);
    container.end();
}

fn read_only(stage: &Stage) {
    let disk = Disk::new(stage, 8);
    let container = with_volume(stage, &disk.directory("volume"));
    writes(&container, "/data/before", SUCCESS);
    disk.remount("ro");
    writes(&container, "/data/new", EROFS);
    writes(&container, "/data/before", EROFS);
    container.exec(&["cat", "/data/before"]).assert(0, "text");
    disk.remount("rw");
    writes(&container, "/data/new", SUCCESS);
    container.end();
}

fn fails(stage: &Stage) {
    let disk = Disk::new(stage, 8);
    let volume = disk.directory("volume");
    fs::write(volume.join("unread"), "text").expect("a file");
    let container = with_volume(stage, &volume);
    disk.shut_down();
    writes(&container, "/data/new", EIO);
    let output = container.exec(&["cat", "/data/unread"]);
    assert!(output.status == 1 && output.stderr_text().contains("Input/output error"), "{output:?}");
    container.exec(&["echo", "the rest works"]).assert(0, "the rest works\n");
    container.end();
    disk.unmount();
}

/// What is open is there still; nothing new can be made.
fn removed(stage: &Stage) {
    let volume = stage.directory("volume");
    let script = "exec 3>/data/open; echo opened; while [ -e /data/open ]; do sleep 0.1; done
        echo more >&3 && echo written; sleep 1000";
    let bundle = stage.probe(&["sh", "-c", script]);
    let container = Container::started(bundle.bind(&volume, "/data", &["rbind", "rw"]));
    container.says("opened");
    fs::remove_dir_all(&volume).expect("own directory");
    container.says("written");
    writes(&container, "/data/new", ENOENT);
    container.end();
}

/// The container's mount is its own.
fn unmounted(stage: &Stage) {
    let disk = Disk::new(stage, 8);
    let container = with_volume(stage, &disk.directory("volume"));
    disk.detach();
    writes(&container, "/data/new", SUCCESS);
    container.exec(&["cat", "/data/new"]).assert(0, "text");
    container.end();
}

/// A container that waits, whose root filesystem is on the disk.
fn with_root<'a>(stage: &'a Stage, root: &Path) -> Container<'a> {
    let bundle = stage.probe(&["sleep", "1000"]);
    Container::started(moved(bundle, root))
}

fn moved<'a>(bundle: Bundle<'a>, root: &Path) -> Bundle<'a> {
    let copied = Command::new("cp").arg("-a").arg(bundle.rootfs()).arg(root).status().expect("cp");
    assert!(copied.success(), "cp: {copied}");
    bundle.with(|config| config["root"]["path"] = json!(root.join("rootfs")))
}

fn root_fails(stage: &Stage) {
    let disk = Disk::new(stage, 32);
    let container = with_root(stage, &disk.directory("images"));
    disk.shut_down();
    let output = container.exec(&["/probe"]);
    assert_ne!(output.status, 0, "{output:?}");
    // Its program may have ended for want of a page of itself.
    container.ok("delete --force ID");
    disk.unmount();
}

fn root_removed(stage: &Stage) {
    let images = stage.directory("images");
    let container = with_root(stage, &images);
    fs::remove_dir_all(&images).expect("own directory");
    let output = container.exec(&["/probe"]);
    assert_ne!(output.status, 0, "{output:?}");
    container.end();
}
