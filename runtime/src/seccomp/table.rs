//! What happens to each syscall number of an architecture: ranges of numbers, and for each the rules.

use std::collections::BTreeMap;

use super::abi::{Abi, Family, X32_BIT};
use super::names::KILL_THREAD;
use super::policy::{Comparison, Condition, ENOSYS, Policy, Rule};

/// The numbers of one architecture as the kernel names it.
#[derive(Debug)]
pub(super) struct Table {
    /// `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// What happens from a number on, up to the next entry's; the first is 0.
    pub(super) ranges: Vec<(u32, Verdict)>,
}

/// What happens to a syscall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This (`SECCOMP_RET_*`), whatever its arguments.
    Always(u32),
    /// The first rule that applies.
    Rules {
        /// Each with conditions.
        rules: Vec<Rule>,
        /// Compare the lower 32 bits of arguments alone.
        narrow: bool,
        /// `SECCOMP_RET_*` when none applies.
        otherwise: u32,
    },
}

/// The tables of all architectures that the policy lets a program use.
pub(super) fn tables(family: &Family, policy: &Policy<'_>) -> Vec<Table> {
    let listed = |abi: &&Abi| policy.architectures.iter().any(|name| name == abi.name);
    let mut native = Ranges::default();
    match (&family.x32, family.x32.as_ref().filter(listed)) {
        (None, _) => native.add(&Numbers::new(&family.native, policy), 0, u32::MAX),
        (Some(_), Some(x32)) => {
            let (own, x32) = (Numbers::new(&family.native, policy), Numbers::new(x32, policy));
            native.add(&own, 0, X32_BIT - 1);
            native.add(&x32, X32_BIT, 2 * X32_BIT - 1);
            native.push(2 * X32_BIT, Verdict::Always(own.beyond));
            native.push(3 * X32_BIT, Verdict::Always(x32.beyond));
        }
        (Some(_), None) => {
            let own = Numbers::new(&family.native, policy);
            let beyond = if own.beyond == policy.default { KILL_THREAD } else { own.beyond };
            native.add(&own, 0, X32_BIT - 1);
            native.push(X32_BIT, Verdict::Always(KILL_THREAD));
            native.push(2 * X32_BIT, Verdict::Always(beyond));
            native.push(3 * X32_BIT, Verdict::Always(KILL_THREAD));
            // By this number a tracer skips a call.
            native.push(u32::MAX, Verdict::Always(policy.default));
        }
    }
    let mut tables = vec![Table { audit: family.native.audit, ranges: native.0 }];
    for abi in family.others.iter().filter(listed) {
        let mut ranges = Ranges::default();
        ranges.add(&Numbers::new(abi, policy), 0, u32::MAX);
        tables.push(Table { audit: abi.audit, ranges: ranges.0 });
    }
    tables
}

/// The rules of one ABI, by number.
struct Numbers {
    verdicts: BTreeMap<u32, Verdict>,
    /// `SECCOMP_RET_*` of numbers without a rule.
    default: u32,
    /// The largest number that the profile names, with or without effect.
    last: u32,
    /// `SECCOMP_RET_*` of larger ones.
    beyond: u32,
}

impl Numbers {
    fn new(abi: &Abi, policy: &Policy<'_>) -> Self {
        let mut rules = BTreeMap::<u32, Vec<Rule>>::new();
        let mut last = 0;
        for (name, rule) in &policy.rules {
            let number = (abi.number)(name);
            last = last.max(number.unwrap_or(0));
            if rule.action == policy.default {
                continue;
            }
            if let Some(number) = number {
                rules.entry(number).or_default().push(rule.clone());
            }
            for (_, through, first) in abi.multiplexed.iter().filter(|entry| entry.0 == *name) {
                rules.entry(*through).or_default().push(multiplexed(rule, *first));
            }
        }
        let verdict = |rules: Vec<Rule>| {
            let unconditional = rules.iter().find(|rule| rule.conditions.is_empty());
            match unconditional.map(|rule| rule.action) {
                Some(action) => Verdict::Always(action),
                None => Verdict::Rules { rules, narrow: abi.narrow, otherwise: policy.default },
            }
        };
        let hides = policy.hides_newer() && last != 0;
        Self {
            verdicts: rules.into_iter().map(|(number, rules)| (number, verdict(rules))).collect(),
            default: policy.default,
            last,
            beyond: if hides { ENOSYS } else { policy.default },
        }
    }
}

/// The rule for a call that is made through another one: its own first argument is not seen there.
fn multiplexed(rule: &Rule, first: u64) -> Rule {
    let own = Condition { index: 0, comparison: Comparison::Masked(u64::MAX), value: first };
    let others = rule.conditions.iter().filter(|condition| condition.index != 0).copied();
    Rule { conditions: std::iter::once(own).chain(others).collect(), action: rule.action }
}

#[derive(Default)]
struct Ranges(Vec<(u32, Verdict)>);

impl Ranges {
    fn push(&mut self, from: u32, verdict: Verdict) {
        self.0.pop_if(|(start, _)| *start == from);
        if self.0.last().is_none_or(|(_, last)| *last != verdict) {
            self.0.push((from, verdict));
        }
    }

    /// The numbers of an ABI, which has those from `from` to `to`.
    fn add(&mut self, numbers: &Numbers, from: u32, to: u32) {
        self.push(from, Verdict::Always(numbers.default));
        for (number, verdict) in &numbers.verdicts {
            self.push(*number, verdict.clone());
            if let Some(next) = number.checked_add(1).filter(|next| *next <= to) {
                self.push(next, Verdict::Always(numbers.default));
            }
        }
        let last = numbers.last.max(numbers.verdicts.keys().next_back().copied().unwrap_or(0));
        if let Some(next) = last.max(from).checked_add(1).filter(|next| *next <= to) {
            self.push(next, Verdict::Always(numbers.beyond));
        }
    }
}
