//! What a case is, and how one is judged.

use std::cell::RefCell;
use std::env;
use std::panic::{self, AssertUnwindSafe};

use libtest_mimic::{Completion, Failed, Trial};

use crate::stage::Stage;
use crate::subject::{Kind, Subject};

/// One behaviour that a user would notice: a name and a body that panics when it is not there.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Roughly how many containers' worth of time it takes; shards are balanced by it.
    pub(crate) cost: u32,
    /// Why other runtimes cannot be asked.
    drupe_only: Option<&'static str>,
    needs_machine: bool,
    needs_variable: Option<&'static str>,
    /// What the machine has to have; the error says what it lacks.
    needs: Option<fn() -> Result<(), String>>,
    body: Box<dyn FnOnce(&Stage) + Send>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, body: impl FnOnce(&Stage) + Send + 'static) -> Self {
        Self {
            name: name.into(),
            cost: 1,
            drupe_only: None,
            needs_machine: true,
            needs_variable: None,
            needs: None,
            body: Box::new(body),
        }
    }

    pub(crate) fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// The behaviour is drupe's own; `why` says what differs elsewhere.
    pub(crate) fn drupe_only(self, why: &'static str) -> Self {
        Self { drupe_only: Some(why), ..self }
    }

    /// The behaviour shows before any machine is made, so it can be tested where there is no KVM.
    pub(crate) fn before_any_machine(self) -> Self {
        Self { needs_machine: false, ..self }
    }

    /// The body needs this environment variable.
    pub(crate) fn needs_variable(self, name: &'static str) -> Self {
        Self { needs_variable: Some(name), ..self }
    }

    /// The body needs something that not every machine has. The lab has it: there the case fails without.
    pub(crate) fn needs(self, check: fn() -> Result<(), String>) -> Self {
        Self { needs: Some(check), ..self }
    }

    pub(crate) fn into_trial(self, subject: &'static Subject) -> Trial {
        Trial::ignorable_test(self.name.clone(), move || self.judge(subject))
    }

    fn judge(self, subject: &'static Subject) -> Result<Completion, Failed> {
        if let (Some(why), Kind::Other) = (self.drupe_only, subject.kind) {
            return Ok(Completion::ignored_with(format!("drupe only: {why}")));
        }
        if self.needs_machine && subject.kind == Kind::Drupe {
            match subject.machine() {
                Err(reason) if require_kvm() => {
                    return Err(format!("DRUPE_REQUIRE_KVM=1, and no machine here: {reason}").into());
                }
                Err(_) => return Ok(Completion::ignored_with("no machine here")),
                Ok(()) => {}
            }
        }
        if let Some(name) = self.needs_variable.filter(|name| env::var_os(name).is_none()) {
            let missing = format!("{name} is not set");
            return if require_kvm() { Err(missing.into()) } else { Ok(Completion::ignored_with(missing)) };
        }
        if let Some(Err(missing)) = self.needs.map(|check| check()) {
            let in_lab = env::var_os("LAB").is_some();
            return if in_lab { Err(missing.into()) } else { Ok(Completion::ignored_with(missing)) };
        }
        let stage = Stage::new(subject);
        let body = self.body;
        panic::catch_unwind(AssertUnwindSafe(|| {
            body(&stage);
            stage.assert_nothing_left();
        }))
        .map_err(|_| Failed::from(LAST_PANIC.take()))?;
        Ok(Completion::Completed)
    }
}

/// Whether a missing machine is a failure: `DRUPE_REQUIRE_KVM=1`.
pub(crate) fn require_kvm() -> bool {
    env::var_os("DRUPE_REQUIRE_KVM").is_some_and(|value| value == "1")
}

/// A count, ten times as large when `DRUPE_TEST_SCALE=soak`.
pub(crate) fn scaled(count: u32) -> u32 {
    if is_soak() { count * 10 } else { count }
}

/// Whether there is time: `DRUPE_TEST_SCALE=soak`.
pub(crate) fn is_soak() -> bool {
    env::var_os("DRUPE_TEST_SCALE").is_some_and(|value| value == "soak")
}

thread_local! {
    /// What the last panic on this thread said, and where.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for the verdict, instead of printing it amid the verdicts of other cases.
pub(crate) fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("panicked");
        let place = info.location().map(|place| format!("\n  at {place}")).unwrap_or_default();
        LAST_PANIC.replace(format!("{text}{place}"));
    }));
}

/// The cases that `DRUPE_TEST_SHARD` and `DRUPE_TEST_ONLY` leave.
pub(crate) fn selected(cases: Vec<Case>) -> Vec<Case> {
    let mut cases = shard(cases, env::var("DRUPE_TEST_SHARD").ok().as_deref());
    if let Ok(only) = env::var("DRUPE_TEST_ONLY") {
        cases.retain(|case| only.split_whitespace().any(|name| name == case.name));
    }
    cases
}

/// The part `K/N` of the cases: each case, the longest first, goes to the part that has least so far.
fn shard(mut cases: Vec<Case>, part: Option<&str>) -> Vec<Case> {
    let Some(part) = part else { return cases };
    let numbers = part.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let Some((wanted, count)) = numbers.filter(|&(k, n): &(usize, usize)| 1 <= k && k <= n) else {
        panic!("DRUPE_TEST_SHARD={part}: not K/N with K from 1 to N");
    };
    cases.sort_by_key(|case| std::cmp::Reverse(case.cost));
    let mut load = vec![0; count];
    cases.retain(|case| {
        let (least, _) = load.iter().enumerate().min_by_key(|entry| entry.1).expect("N is at least 1");
        load[least] += case.cost;
        least == wanted - 1
    });
    cases
}
