//! Containers over time: create, start, logs, wait, stop, kill, pause, restart, rm.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::Case;
use crate::done::eventually;
use crate::podman::text;
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("podman::create_start_wait", create_start_wait),
        Case::new("podman::stop", stop),
        Case::new("podman::kill", kill),
        Case::new("podman::pause", pause),
        Case::new("podman::restart", restart),
        Case::new("podman::remove", remove),
    ]
}

fn create_start_wait(subject: &Subject) {
    let podman = subject.podman();
    let container = podman.create("created", &[], &["sh", "-c", "echo one; echo two >&2; exit 3"]);
    assert_eq!(container.inspect(".State.Status"), "created");
    container.podman(&["start"]).ok();
    assert_eq!(container.podman(&["wait"]).ok(), "3");
    let logs = container.podman(&["logs"]);
    assert_eq!((logs.ok(), logs.stderr.as_str()), ("one", "two\n"));
    assert_eq!(container.inspect(".State.Status"), "exited");
    let done = container.podman(&["start", "--attach"]);
    assert_eq!((done.status(3), done.stderr.as_str()), ("one", "two\n"));
}

/// Says `ready`, and on SIGTERM says `bye` and ends with 5.
const POLITE: &str = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.2; done";

fn stop(subject: &Subject) {
    let container = subject.podman().start("stopped", &[], &["sh", "-c", POLITE]);
    container.await_log("ready");
    container.podman(&["stop", "--time", "100"]).ok();
    assert_eq!(container.inspect(".State.ExitCode"), "5");
    container.await_log("bye");
}

fn kill(subject: &Subject) {
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.2; done";
    let container = subject.podman().start("killed", &[], &["sh", "-c", script]);
    container.await_log("ready");
    container.podman(&["kill", "--signal", "USR1"]).ok();
    container.await_log("usr1");
    container.podman(&["kill"]).ok();
    assert_eq!(container.podman(&["wait"]).ok(), "137");
    assert_eq!(container.inspect(".State.Status"), "exited");
}

fn pause(subject: &Subject) {
    let podman = subject.podman();
    let directory = podman.path("counting");
    fs::create_dir_all(&directory).unwrap();
    let volume = format!("{}:/data", text(&directory));
    let script =
        "n=0; while :; do n=$((n + 1)); echo $n >/data/new; mv /data/new /data/count; sleep 0.1; done";
    let container = podman.start("paused", &["--volume", &volume], &["sh", "-c", script]);
    let count = || fs::read_to_string(directory.join("count")).unwrap_or_default();
    eventually("a count", || !count().is_empty());
    container.podman(&["pause"]).ok();
    assert_eq!(container.inspect(".State.Status"), "paused");
    let before = count();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(count(), before);
    container.podman(&["unpause"]).ok();
    eventually("the count goes on", || count() != before);
    assert_eq!(container.inspect(".State.Status"), "running");
}

fn restart(subject: &Subject) {
    let script = "echo start >>/tmp/starts; wc -l </tmp/starts; exec sleep 1000";
    let container = subject.podman().start("restarted", &[], &["sh", "-c", script]);
    container.await_log("1");
    container.podman(&["restart", "--time", "0"]).ok();
    container.await_log("2");
}

fn remove(subject: &Subject) {
    let podman = subject.podman();
    let container = podman.start("removed", &["--rm"], &["sleep", "1000"]);
    container.podman(&["rm"]).status(2);
    container.podman(&["kill"]).ok();
    eventually("it is gone", || container.podman(&["container", "exists"]).status == 1);
    let state = format!("/run/{}", subject.name());
    let left: Vec<_> =
        fs::read_dir(&state).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
