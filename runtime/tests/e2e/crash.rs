//! SIGKILL of drupe at any moment: `delete --force` leaves nothing, and the id can be used again. That nothing is left
//! is checked when the case is over.

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, scaled};
use crate::container::{Container, until};
use crate::running::Running;
use crate::stage::Stage;

const OTHERS: &str = "the promise is drupe's";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("crash::of_create", |stage| killed(stage, "create -b BUNDLE ID", |_| {}))
            .drupe_only(OTHERS)
            .cost(6),
        Case::new("crash::of_start", |stage| {
            killed(stage, "start ID", |container| {
                container.make("create -b BUNDLE ID").assert(0, "");
            });
        })
        .drupe_only(OTHERS)
        .cost(6),
        Case::new("crash::of_delete", |stage| {
            killed(stage, "delete --force ID", |container| {
                container.make("create -b BUNDLE ID").assert(0, "");
            });
        })
        .drupe_only(OTHERS)
        .cost(6),
        Case::new("crash::of_the_monitor", monitor).drupe_only(OTHERS).cost(4),
    ]
}

/// Kills the call at several moments, each a system call later or earlier than the other runs', as it happens.
fn killed(stage: &Stage, line: &str, prepare: impl Fn(&Container<'_>)) {
    let container = Container::new(stage.bundle(&["sh", "-c", "echo up; exec sleep 1000"]));
    for moment in 0..scaled(4) {
        prepare(&container);
        let mut call = container.line(line);
        let call = Running::start(&mut call);
        thread::sleep(Duration::from_millis(u64::from(moment) * 40));
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(call.pid().cast_signed()).expect("a pid"), Signal::KILL);
        drop(call);
        container.ok("delete --force ID");
        container.assert_status("none");
        assert!(until(|| stage.processes().is_empty()), "still there: {:?}", stage.processes());
    }
    container.make("create -b BUNDLE ID").assert(0, "");
    container.ok("start ID");
    container.says("up");
    container.end();
}

/// The container is over when its monitor is.
fn monitor(stage: &Stage) {
    let container = Container::new(stage.bundle(&["sh", "-c", "echo up; exec sleep 1000"]));
    for start in [false, true] {
        container.make("create -b BUNDLE ID").assert_status(0);
        if start {
            container.ok("start ID");
        }
        let pid = container.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        kill_process(pid.and_then(Pid::from_raw).expect("a pid"), Signal::KILL).expect("it runs");
        container.becomes("stopped");
        container.refused("kill ID KILL", "not running");
        assert_eq!(container.exec(&["true"]).status, 255);
        container.ok("delete ID");
        container.assert_status("none");
    }
}
