//! Real clients: podman and containerd drive the runtime under test, as their users would have them do it. The same cases
//! run with runc, which proves that the cases are right. `docs/clients.md` says how each client is set up.
//!
//! | variable | meaning |
//! |---|---|
//! | `DRUPE_TEST_RUNTIME` | absolute path of the runtime to test |
//! | `DRUPE_TEST_IMAGE` | a root filesystem with busybox, of which the clients' images are made |
//! | `DRUPE_TEST_ONLY` | only the cases of these names |
//! | `DRUPE_TEST_SHARD=K/N` | only the K-th (from 1) of N parts |
//!
//! `runtime/tests/run-clients` sets them. Root, cgroup v2 and the Debian packages of `lab/setup test` are needed.

mod containerd;
mod containerd_tasks;
mod done;
mod podman;
mod podman_exec;
mod podman_files;
mod podman_lifecycle;
mod podman_process;
mod subject;

use std::cell::RefCell;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use subject::Subject;

/// One thing that a user of a client does.
struct Case {
    name: String,
    body: fn(&Subject),
    /// Why the case is about drupe alone.
    drupe_only: Option<&'static str>,
}

impl Case {
    fn new(name: &str, body: fn(&Subject)) -> Self {
        Self { name: name.to_owned(), body, drupe_only: None }
    }

    fn drupe_only(self, why: &'static str) -> Self {
        Self { drupe_only: Some(why), ..self }
    }

    fn into_trial(self, subject: &'static Subject) -> Trial {
        let Self { name, body, drupe_only } = self;
        Trial::ignorable_test(name, move || {
            if let (Some(why), false) = (drupe_only, subject.is_drupe()) {
                return Ok(Completion::ignored_with(format!("drupe only: {why}")));
            }
            panic::catch_unwind(AssertUnwindSafe(|| body(subject)))
                .map(|()| Completion::Completed)
                .map_err(|_| Failed::from(LAST_PANIC.take()))
        })
    }
}

thread_local! {
    /// What the last panic on this thread said, and where: kept for the verdict.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("panicked");
        let place = info.location().map(|place| format!("\n  at {place}")).unwrap_or_default();
        LAST_PANIC.replace(format!("{text}{place}"));
    }));
    let areas = [
        podman_process::cases(),
        podman_exec::cases(),
        podman_files::cases(),
        podman_lifecycle::cases(),
        containerd_tasks::cases(),
    ];
    let mut cases: Vec<_> = areas.into_iter().flatten().collect();
    if let Ok(part) = env::var("DRUPE_TEST_SHARD") {
        let numbers = part.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        let Some((wanted, count)) = numbers.filter(|&(k, n): &(usize, usize)| 1 <= k && k <= n) else {
            panic!("DRUPE_TEST_SHARD={part}: not K/N with K from 1 to N");
        };
        let mut number = 0;
        cases.retain(|_| {
            number += 1;
            number % count == wanted - 1
        });
    }
    if let Ok(only) = env::var("DRUPE_TEST_ONLY") {
        cases.retain(|case| only.split_whitespace().any(|name| name == case.name));
    }
    if args.list {
        return libtest_mimic::run(&args, Vec::new()).exit_code();
    }
    let subject: &'static Subject = Box::leak(Box::new(Subject::from_env()));
    let trials = cases.into_iter().map(|case| case.into_trial(subject)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    subject.end();
    conclusion.exit_code()
}
