//! `kill`: signals reach the processes of the container.

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::kill::names_and_numbers", names).cost(3),
        Case::new("verbs::kill::all_reaches_every_process", all).cost(2),
        Case::new("verbs::kill::sigkill_ends_what_ignores_the_rest", |stage| {
            let script = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1; done";
            let container = Container::started(stage.bundle(&["sh", "-c", script]));
            container.says("ready");
            container.ok("kill ID");
            container.ok("kill ID INT");
            container.assert_status("running");
            container.ok("kill ID 9");
            // Not stopped yet, perhaps: delete waits for the end.
            container.ok("delete ID");
            container.assert_status("none");
        })
        .cost(2),
        Case::new("verbs::kill::a_container_that_was_not_started", |stage| {
            let container = Container::created(stage.bundle(&["sh", "-c", "echo ran"]));
            container.ok("kill ID KILL");
            container.becomes("stopped");
            assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("", ""));
            container.ok("delete ID");
        }),
    ]
}

/// SIGTERM when none is given; with and without SIG, in any case, or by number.
fn names(stage: &Stage) {
    let args = ["/probe", "wait-signal", "USR1", "USR2", "HUP", "INT", "TERM"];
    let container = Container::started(stage.probe(&args));
    container.says("ready");
    for (given, name) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("1", "HUP"), ("sigint", "INT")] {
        container.ok(&format!("kill ID {given}"));
        container.says(name);
    }
    for wrong in ["BOGUS", "SIG"] {
        container.refused(&format!("kill ID {wrong}"), wrong);
    }
    container.assert_status("running");
    container.ok("kill ID");
    container.says("TERM");
    container.becomes("stopped");
    container.refused("kill ID", "not running");
    container.ok("delete ID");
}

fn all(stage: &Stage) {
    let script = "
        sh -c 'trap \"echo child; exit\" USR1; echo one; while :; do sleep 0.2; done' &
        trap 'wait; echo parent; exit' USR1; echo two; while :; do sleep 0.2; done";
    let container = Container::started(stage.bundle(&["sh", "-c", script]));
    container.says("one");
    container.says("two");
    container.ok("kill --all ID USR1");
    container.says("child");
    container.says("parent");
    container.becomes("stopped");
    container.ok("delete ID");
}
