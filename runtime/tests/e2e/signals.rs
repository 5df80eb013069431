//! Signals sent to the runtime reach the workload.

use rustix::process::Signal;

use crate::case::Case;
use crate::stage::Stage;

const FORWARDED: [(&str, Signal); 5] = [
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("signals::all_reach_a_workload_that_waits_for_them", in_turn)];
    for (name, signal) in FORWARDED {
        cases.push(Case::new(format!("signals::{name}_runs_a_trap_of_pid_1"), move |stage| {
            let script =
                format!("trap 'echo got {name}; exit 21' {name}; echo ready; while :; do read -t 1 x; done");
            let mut running = stage.bundle(&["sh", "-c", &script]).start();
            assert_eq!(running.line(), "ready");
            running.signal(signal);
            running.finish().assert(21, &format!("got {name}\n"));
        }));
        cases.push(Case::new(format!("signals::{name}_ends_an_ordinary_process"), move |stage| {
            let bundle = stage.bundle(&["sh", "-c", "echo ready; exec sleep 1000"]).without_namespace("pid");
            let mut running = bundle.start();
            assert_eq!(running.line(), "ready");
            running.signal(signal);
            running.finish().assert(128 + signal.as_raw(), "");
        }));
    }
    cases
}

fn in_turn(stage: &Stage) {
    let names: Vec<&str> = FORWARDED.iter().map(|entry| entry.0).collect();
    let args = [&["/probe", "wait-signal"], names.as_slice()].concat();
    let mut running = stage.probe(&args).start();
    assert_eq!(running.line(), "ready");
    for (name, signal) in FORWARDED {
        assert!(!running.ended());
        running.signal(signal);
        assert_eq!(running.line(), name);
    }
    running.finish().assert(0, "");
}
