//! Workers that call random verbs on the same few ids. Whatever the others do, each call gives an answer that its verb
//! has in some state, in good time; afterwards everything can be removed.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Case, scaled};
use crate::container::Container;
use crate::running::Output;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("stress::random_verbs_on_the_same_ids", |stage| {
            if scaled(1) == 1 {
                at_once(stage, 16, 4, Duration::from_secs(20));
            } else {
                at_once(stage, 64, 16, Duration::from_secs(120));
            }
        })
        .drupe_only("other runtimes promise nothing about calls at the same time")
        .cost(16),
    ]
}

/// A verb, and what it may say when it fails. Every state is possible, so every refusal of the verb is.
struct Verb {
    line: &'static str,
    statuses: &'static [i32],
    refusals: &'static [&'static str],
}

const NONE: &str = "container does not exist";
const NOT_RUNNING: &str = "container not running";

const VERBS: [Verb; 10] = [
    Verb {
        line: "create -b BUNDLE ID",
        statuses: &[0, 1],
        // The second: it was removed or killed while it was being made.
        refusals: &["container with given ID already exists", "ended before the container was created"],
    },
    Verb { line: "start ID", statuses: &[0, 1], refusals: &[NONE, "cannot start a", NOT_RUNNING] },
    Verb { line: "state ID", statuses: &[0, 1], refusals: &[NONE] },
    Verb { line: "kill ID TERM", statuses: &[0, 1], refusals: &[NONE, NOT_RUNNING] },
    Verb { line: "kill ID KILL", statuses: &[0, 1], refusals: &[NONE, NOT_RUNNING] },
    Verb {
        line: "delete ID",
        statuses: &[0, 1],
        refusals: &[NONE, "that is not stopped", "being removed by another process"],
    },
    Verb { line: "delete --force ID", statuses: &[0, 1], refusals: &["being removed by another process"] },
    Verb {
        line: "exec ID true",
        // 137 and 143: it was ended with the container.
        statuses: &[0, 137, 143, 255],
        refusals: &[NONE, "cannot exec in a", "container"],
    },
    Verb { line: "pause ID", statuses: &[0, 1], refusals: &[NONE, NOT_RUNNING] },
    Verb { line: "resume ID", statuses: &[0, 1], refusals: &[NONE, "container not paused", NOT_RUNNING] },
];

/// Calls for so long, by so many workers, on so many ids.
fn at_once(stage: &Stage, workers: u64, ids: usize, time: Duration) {
    let end = Instant::now() + time;
    let containers: Vec<_> =
        (0..ids).map(|_| Container::new(stage.bundle(&["sh", "-c", "exec sleep 1000"]))).collect();
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..workers {
            let (containers, wrong) = (&containers, &wrong);
            scope.spawn(move || {
                let mut random = Random(worker + 1);
                while Instant::now() < end {
                    let container = &containers[random.below(containers.len())];
                    let verb = &VERBS[random.below(VERBS.len())];
                    wrong.lock().expect("no panic").extend(judge(verb, &answer(container, verb.line)));
                }
            });
        }
    });
    for container in &containers {
        container.ok("delete --force ID");
        container.assert_status("none");
    }
    assert_eq!(containers[0].ok("list --quiet"), "");
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a call answers: what it writes itself, without the streams of a container that outlives it.
fn answer(container: &Container<'_>, line: &str) -> Output {
    if !line.starts_with("create") {
        return container.call(line);
    }
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = log.path().to_str().expect("UTF-8").to_owned();
    let words: Vec<_> = ["--log", &path].into_iter().chain(line.split_whitespace()).collect();
    let Output { status, .. } = container.make_with(&mut container.words(&words));
    Output { status, stdout: Vec::new(), stderr: std::fs::read(log.path()).expect("own file") }
}

/// What is wrong with an answer.
fn judge(verb: &Verb, output: &Output) -> Option<String> {
    let text = output.stderr_text();
    let is_known = verb.statuses.contains(&output.status);
    let is_explained = output.status == 0
        || output.status > 128 && output.status < 255
        || verb.refusals.iter().any(|refusal| text.contains(refusal));
    let is_right = is_known && is_explained && !text.contains("panicked");
    (!is_right).then(|| format!("{}: {output:?}", verb.line))
}

/// Numbers that look random (xorshift): the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}
