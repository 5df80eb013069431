//! `pause`: nothing of the container runs.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::{Container, until};
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::pause::nothing_runs_until_resume", stands_still).cost(3),
        Case::new("verbs::pause::what_is_asked_meanwhile_lets_nothing_run", is_asked).cost(4),
        Case::new("verbs::pause::signals_wait_for_the_resume", signals_wait).cost(2),
        Case::new("verbs::pause::a_deadly_signal_needs_no_resume", |stage| {
            // A first process of its namespace would get only what it handles.
            let bundle = stage.bundle(&["sleep", "1000"]).without_namespace("pid");
            let container = Container::started(bundle);
            container.ok("pause ID");
            container.ok("kill ID TERM");
            container.becomes("stopped");
            container.refused("resume ID", "not paused");
            container.ok("delete ID");
        })
        .cost(2)
        .drupe_only("runc 1.1 calls a container paused whose processes are gone"),
        Case::new("verbs::pause::an_exec_that_ignores_it_waits_for_the_resume", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            container.ok("pause ID");
            let exec = Running::start(&mut container.line("exec --ignore-paused ID echo ran"));
            container.ok("events --stats ID");
            container.ok("ps ID");
            container.assert_status("paused");
            container.ok("resume ID");
            exec.finish().assert(0, "ran\n");
            container.end();
        })
        .cost(2),
        Case::new("verbs::pause::a_container_that_was_not_started_can_be_asked", |stage| {
            let container = Container::created(stage.bundle(&["sh", "-c", "echo ran"]));
            container.ok("pause ID");
            for line in ["ps ID", "events --stats ID", "update --pids-limit 60 ID"] {
                container.ok(line);
            }
            container.assert_status("paused");
            container.ok("kill ID KILL");
            container.becomes("stopped");
            assert_eq!(container.stdout(), "");
            container.ok("delete ID");
        })
        .cost(2),
        Case::new("verbs::pause::a_paused_container_can_be_killed", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            container.ok("pause ID");
            container.assert_status("paused");
            container.ok("kill ID KILL");
            container.becomes("stopped");
            container.ok("delete ID");
        })
        .cost(2),
        Case::new("verbs::pause::a_paused_container_can_be_deleted_by_force", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            container.ok("pause ID");
            container.ok("delete --force ID");
            container.assert_status("none");
        })
        .cost(2),
    ]
}

/// A container that counts in a file, and what it has come to.
fn counting(stage: &Stage) -> (Container<'_>, impl Fn() -> Option<u64>) {
    let data = stage.directory("data");
    let script =
        "n=0; while :; do n=$((n + 1)); echo $n >/data/new; mv /data/new /data/count; sleep 0.1; done";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind"]).with(|config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({ "type": "cgroup" }));
    });
    let container = Container::started(bundle);
    let count =
        move || fs::read_to_string(data.join("count")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    assert!(until(|| count() > Some(2)));
    (container, count)
}

fn stands_still(stage: &Stage) {
    let (container, count) = counting(stage);
    container.ok("pause ID");
    container.assert_status("paused");
    let before = count();
    // Not a measure: a container that is not paused counts on in this time.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(count(), before);
    container.ok("resume ID");
    container.assert_status("running");
    assert!(until(|| count() > before));
    container.end();
}

fn is_asked(stage: &Stage) {
    let (container, count) = counting(stage);
    let limit = || container.exec(&["cat", "/sys/fs/cgroup/pids.max"]).stdout_text().trim().to_owned();
    container.ok("pause ID");
    let before = count();
    for _ in 0..3 {
        let table = container.ok("ps ID");
        assert!(table.lines().any(|line| line.contains("sh -c")), "{table}");
        let event: Value = serde_json::from_str(&container.ok("events --stats ID")).expect("JSON");
        assert!(event.pointer("/data/pids/current").and_then(Value::as_u64) > Some(0), "{event}");
    }
    container.ok("update --pids-limit 40 ID");
    let output = container.call("update --cpuset-cpus 900 ID");
    assert_eq!(output.status, 1, "{output:?}");
    container.ok("kill ID WINCH");
    container.assert_status("paused");
    assert_eq!(count(), before);
    container.ok("resume ID");
    assert!(until(|| count() > before));
    assert_eq!(limit(), "40");
    container.end();
}

fn signals_wait(stage: &Stage) {
    let container = Container::started(stage.probe(&["/probe", "wait-signal", "USR1", "TERM"]));
    container.says("ready");
    container.ok("pause ID");
    container.ok("kill ID USR1");
    container.ok("ps ID");
    container.assert_status("paused");
    assert_eq!(container.stdout(), "ready\n");
    container.ok("resume ID");
    container.says("USR1");
    container.ok("kill ID TERM");
    container.says("TERM");
    container.becomes("stopped");
    container.ok("delete ID");
}
