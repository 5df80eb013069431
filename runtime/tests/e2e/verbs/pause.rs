//! `pause`: nothing of the container runs.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::case::Case;
use crate::container::{Container, until};
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::pause::nothing_runs_until_resume", stands_still).cost(3),
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

fn stands_still(stage: &Stage) {
    let data = stage.directory("data");
    let script =
        "n=0; while :; do n=$((n + 1)); echo $n >/data/new; mv /data/new /data/count; sleep 0.1; done";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind"]);
    let container = Container::started(bundle);
    let count =
        || fs::read_to_string(data.join("count")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    assert!(until(|| count() > Some(2)));
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
