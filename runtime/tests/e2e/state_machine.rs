//! Each verb in each state. What a verb does where it is allowed is in the verb's own file; here are the answers, and
//! that a refused verb changes nothing.

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;
use crate::subject::Kind;

/// What a verb answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// It succeeds, and leaves the state as it is.
    Fine,
    /// It fails with status 1 and this text.
    Refused(&'static str),
    /// The same, by drupe alone: runc does something.
    DrupeRefuses(&'static str),
    /// It is allowed and changes the state.
    Changes,
}

use Answer::{Changes, DrupeRefuses, Fine, Refused};

const STATES: [&str; 5] = ["none", "created", "running", "paused", "stopped"];

const NONE: Answer = Refused("does not exist");
const EXISTS: Answer = Refused("already exists");
const NOT_RUNNING: Answer = Refused("not running");
const NOT_PAUSED: Answer = Refused("not paused");

/// Verbs and their answers, in the order of [`STATES`].
const TABLE: [(&str, [Answer; 5]); 16] = [
    ("create -b BUNDLE ID", [Changes, EXISTS, EXISTS, EXISTS, EXISTS]),
    ("run -b BUNDLE ID", [Changes, EXISTS, EXISTS, EXISTS, EXISTS]),
    ("start ID", [NONE, Changes, Refused("already running"), Refused("paused"), Refused("stopped")]),
    ("state ID", [NONE, Fine, Fine, Fine, Fine]),
    ("kill ID USR1", [NONE, Changes, Changes, Changes, NOT_RUNNING]),
    ("kill ID BOGUS", [Refused(""), Refused("BOGUS"), Refused("BOGUS"), Refused("BOGUS"), Refused("")]),
    ("delete ID", [NONE, Changes, Refused("not stopped"), Refused("not stopped"), Changes]),
    ("delete --force ID", [Fine, Changes, Changes, Changes, Changes]),
    ("ps ID", [NONE, Fine, Fine, Fine, DrupeRefuses("not running")]),
    ("pause ID", [NONE, Changes, Changes, NOT_RUNNING, NOT_RUNNING]),
    ("resume ID", [NONE, NOT_PAUSED, NOT_PAUSED, Changes, NOT_PAUSED]),
    ("events --stats ID", [NONE, Fine, Fine, Fine, NOT_RUNNING]),
    ("update --pids-limit 60 ID", [NONE, Fine, Fine, Fine, NOT_RUNNING]),
    ("list -q", [Fine, Fine, Fine, Fine, Fine]),
    ("list --format json", [Fine, Fine, Fine, Fine, Fine]),
    ("ps --format json ID", [NONE, Fine, Fine, Fine, DrupeRefuses("not running")]),
];

/// `exec`, whose failures have a status of their own.
const EXEC: [Answer; 5] = [
    NONE,
    DrupeRefuses("not started"),
    Fine,
    Refused("cannot exec in a paused container"),
    Refused("cannot exec in a stopped container"),
];

pub(crate) fn cases() -> Vec<Case> {
    let case = |place: usize| {
        let name = STATES[place];
        let case = Case::new(format!("state_machine::{name}"), move |stage| answers(stage, place));
        if place == 0 { case.before_any_machine() } else { case.cost(6) }
    };
    (0..STATES.len()).map(case).collect()
}

/// A container in the state.
fn container_in<'stage>(stage: &'stage Stage, state: &str) -> Container<'stage> {
    let bundle = stage.bundle(&["sleep", "1000"]);
    if state == "none" {
        return Container::new(bundle);
    }
    let container = Container::created(bundle);
    if state != "created" {
        container.ok("start ID");
    }
    match state {
        "paused" => drop(container.ok("pause ID")),
        "stopped" => {
            container.ok("kill ID KILL");
            container.becomes("stopped");
        }
        _ => {}
    }
    container
}

fn answers(stage: &Stage, place: usize) {
    let state = STATES[place];
    let container = container_in(stage, state);
    let is_drupe = stage.subject.kind == Kind::Drupe;
    for (line, row) in TABLE {
        match row[place] {
            Changes => {}
            Fine => drop(container.ok(line)),
            DrupeRefuses(_) if !is_drupe => {}
            Refused(text) | DrupeRefuses(text) => container.refused(line, text),
        }
    }
    let output = container.exec(&["true"]);
    match EXEC[place] {
        Refused(text) | DrupeRefuses(text) if is_drupe || matches!(EXEC[place], Refused(_)) => {
            let right = output.status == 255 && output.stderr_text().contains(text);
            assert!(right, "exec in {state}: {text:?} expected, got {output:?}");
        }
        _ => output.assert(0, ""),
    }
    container.assert_status(state);
    container.ok("delete --force ID");
    container.assert_status("none");
}
