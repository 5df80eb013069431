//! `run`: create and start in one, in the foreground or detached.

use std::fs;
use std::process::Stdio;

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::run::detached_it_returns_when_the_program_runs", detached).cost(2),
        Case::new("verbs::run::in_the_foreground_it_can_be_asked_about", foreground).cost(2),
        Case::new("verbs::run::kept_it_stays_until_it_is_deleted", |stage| {
            let container = Container::new(stage.bundle(&["sh", "-c", "exit 6"]));
            container.make("run --keep -b BUNDLE ID").assert(6, "");
            container.assert_status("stopped");
            container.ok("delete ID");
        }),
    ]
}

fn detached(stage: &Stage) {
    let container = Container::new(stage.bundle(&["sh", "-c", "echo up; exec sleep 1000"]));
    let pid_file = stage.path("pid");
    let mut run = container.words(&["run", "--detach", "-b", "BUNDLE", "--pid-file"]);
    let output = container.make_with(run.arg(&pid_file).arg(&container.bundle.id));
    assert_eq!(output.status, 0, "{output:?}");
    let state = container.state();
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(pid_file).expect("the pid file"), state["pid"].to_string());
    container.says("up");
    container.end();
}

/// Other verbs work on it; its end is the end of `run`, and nothing stays.
fn foreground(stage: &Stage) {
    let container = Container::new(stage.bundle(&[
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo up; while :; do read -t 1 x; done",
    ]));
    let mut running = Running::start(container.line("run -b BUNDLE ID").stdin(Stdio::piped()));
    assert_eq!(running.line(), "up");
    container.assert_status("running");
    container.exec(&["echo", "hi"]).assert(0, "hi\n");
    container.ok("kill ID TERM");
    running.finish().assert(9, "");
    container.assert_status("none");
}
