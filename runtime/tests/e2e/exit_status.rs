//! The exit status of `run` is the workload's, as a shell reports it: its code, or 128 and the signal.

use crate::case::Case;

/// Signals whose default action ends a process (signal(7)), and the first and last realtime one.
const DEADLY: [u8; 25] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 34, 64];

const FAULTS: [(&str, i32); 6] = [("segv", 11), ("bus", 7), ("fpe", 8), ("ill", 4), ("trap", 5), ("sys", 31)];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in [0, 1, 2, 3, 42, 77, 100, 126, 127, 128, 200, 255] {
        cases.push(Case::new(format!("exit_status::code_{code}"), move |stage| {
            stage.bundle(&["sh", "-c", &format!("exit {code}")]).run().assert(code, "");
        }));
    }
    for signal in DEADLY {
        // Without a pid namespace in the configuration the workload is not a PID 1, which the kernel would guard
        // against signals that it does not handle.
        cases.push(Case::new(format!("exit_status::signal_{signal}"), move |stage| {
            let bundle = stage.probe(&["/probe", "kill-self", &signal.to_string()]);
            bundle.without_namespace("pid").run().assert(128 + i32::from(signal), "");
        }));
    }
    for (fault, signal) in FAULTS {
        cases.push(Case::new(format!("exit_status::fault_{fault}_of_pid_1"), move |stage| {
            stage.probe(&["/probe", "fault", fault]).run().assert(128 + signal, "");
        }));
    }
    cases.push(Case::new("exit_status::fault_abrt", |stage| {
        stage.probe(&["/probe", "fault", "abrt"]).without_namespace("pid").run().assert(134, "");
    }));
    cases.push(Case::new("exit_status::harmless_signals_do_not_end_it", |stage| {
        let script = "kill -17 $$; kill -18 $$; kill -23 $$; kill -28 $$; exit 5";
        stage.bundle(&["sh", "-c", script]).without_namespace("pid").run().assert(5, "");
    }));
    cases.push(Case::new("exit_status::pid_1_is_guarded_against_its_own_signals", |stage| {
        let script = "kill -15 $$; kill -10 $$; kill -9 $$; echo here; exit 4";
        stage.bundle(&["sh", "-c", script]).run().assert(4, "here\n");
    }));
    cases.push(Case::new("exit_status::status_of_pid_1_not_of_its_children", |stage| {
        let script = "(exit 9) & (kill -9 $(sh -c 'echo $PPID')) & wait; exit 6";
        stage.bundle(&["sh", "-c", script]).run().assert(6, "");
    }));
    cases.push(Case::new("exit_status::orphans_end_with_pid_1", |stage| {
        let script = "(sleep 1000; echo late) & (sleep 1000; echo later) & exit 3";
        stage.bundle(&["sh", "-c", script]).run().assert(3, "");
    }));
    cases
}
