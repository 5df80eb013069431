//! The names that a profile may use and what each means: actions, operators of comparisons, and flags.

use super::policy::Comparison;

pub(super) const KILL_THREAD: u32 = 0;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;

/// What an action becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `SECCOMP_RET_*`.
    Plain(u32),
    /// `SECCOMP_RET_*`, with a number in its lower half.
    Numbered(u32),
    /// Known and not possible: why, as what follows the name.
    Refused(&'static str),
}

/// `SCMP_ACT_*`, in alphabetical order.
pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("SCMP_ACT_ALLOW", Action::Plain(ALLOW)),
    ("SCMP_ACT_ERRNO", Action::Numbered(ERRNO)),
    ("SCMP_ACT_KILL", Action::Plain(KILL_THREAD)),
    ("SCMP_ACT_KILL_PROCESS", Action::Plain(KILL_PROCESS)),
    ("SCMP_ACT_KILL_THREAD", Action::Plain(KILL_THREAD)),
    ("SCMP_ACT_LOG", Action::Plain(LOG)),
    (
        "SCMP_ACT_NOTIFY",
        Action::Refused("needs a listener on the host, which calls in the guest do not reach"),
    ),
    ("SCMP_ACT_TRACE", Action::Numbered(TRACE)),
    ("SCMP_ACT_TRAP", Action::Plain(TRAP)),
];

/// How an argument is compared with the numbers of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// With `value`.
    Plain(Comparison),
    /// By the bits of `value`, with `valueTwo`.
    Masked,
}

/// `SCMP_CMP_*`, in alphabetical order.
pub(super) const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_EQ", Operator::Plain(Comparison::Masked(u64::MAX))),
    ("SCMP_CMP_GE", Operator::Plain(Comparison::GreaterOrEqual)),
    ("SCMP_CMP_GT", Operator::Plain(Comparison::Greater)),
    ("SCMP_CMP_LE", Operator::Plain(Comparison::LessOrEqual)),
    ("SCMP_CMP_LT", Operator::Plain(Comparison::Less)),
    ("SCMP_CMP_MASKED_EQ", Operator::Masked),
    ("SCMP_CMP_NE", Operator::Plain(Comparison::NotEqual)),
];

/// What a flag becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// Bits of seccomp(2).
    Bits(u32),
    /// Known and not possible: why, as what follows the name.
    Refused(&'static str),
}

/// `SECCOMP_FILTER_FLAG_*`, in alphabetical order.
pub(super) const FLAGS: &[(&str, Flag)] = &[
    ("SECCOMP_FILTER_FLAG_LOG", Flag::Bits(1 << 1)),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flag::Bits(1 << 2)),
    // The filter is loaded where there is one thread.
    ("SECCOMP_FILTER_FLAG_TSYNC", Flag::Bits(0)),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        Flag::Refused("is about notifications, which are not possible"),
    ),
];

/// What a name stands for.
pub(super) fn lookup<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, meaning)| meaning)
}

/// Names of the actions that a profile may have.
pub(crate) fn actions() -> Vec<&'static str> {
    let possible = ACTIONS.iter().filter(|(_, action)| !matches!(action, Action::Refused(_)));
    possible.map(|(name, _)| *name).collect()
}

/// Names of the operators.
pub(crate) fn operators() -> Vec<&'static str> {
    OPERATORS.iter().map(|(name, _)| *name).collect()
}

/// Names of the flags that are known.
pub(crate) fn known_flags() -> Vec<&'static str> {
    FLAGS.iter().map(|(name, _)| *name).collect()
}

/// Names of the flags that a profile may have.
pub(crate) fn supported_flags() -> Vec<&'static str> {
    let possible = FLAGS.iter().filter(|(_, flag)| !matches!(flag, Flag::Refused(_)));
    possible.map(|(name, _)| *name).collect()
}
