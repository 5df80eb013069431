//! A profile whose names have been understood: actions as the kernel's numbers, conditions as comparisons.

use super::names::{ACTIONS, Action, FLAGS, Flag, OPERATORS, Operator, lookup};
use super::names::{ALLOW, ERRNO, LOG, TRACE};
use super::profile::{Argument, Profile, Syscall};
use super::{SeccompError, abi};

pub(super) const ENOSYS: u32 = ERRNO | libc::ENOSYS.cast_unsigned();

const ARGUMENTS: u32 = 6;

/// A checked profile.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(super) flags: u32,
    /// `SECCOMP_RET_*` of syscalls without a rule that applies.
    pub(super) default: u32,
    /// Names of the architectures.
    pub(super) architectures: &'a [String],
    /// Rules by name of syscall, those with the default's action included.
    pub(super) rules: Vec<(&'a str, Rule)>,
}

/// What to do with a syscall whose arguments fulfil all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    /// `SECCOMP_RET_*`.
    pub(super) action: u32,
}

/// A comparison of an argument with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, below 6.
    pub(super) index: u32,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    /// With these bits of the argument alone; all of them is equality.
    Masked(u64),
}

impl<'a> Policy<'a> {
    pub(super) fn new(profile: &'a Profile) -> Result<Self, SeccompError> {
        let notify = "notifications to a listener on the host are not possible: the calls are the guest's";
        if profile.listener_path.as_deref().is_some_and(|path| !path.is_empty()) {
            return Err(SeccompError::new("listenerPath", notify));
        }
        if profile.listener_metadata.as_deref().is_some_and(|data| !data.is_empty()) {
            return Err(SeccompError::new("listenerMetadata", notify));
        }
        for (index, name) in profile.architectures.iter().enumerate() {
            if !abi::ARCHITECTURES.contains(&name.as_str()) {
                let field = format_args!("architectures[{index}]");
                return Err(SeccompError::new(field, format!("{name:?} is not an architecture")));
            }
        }
        let mut rules = Vec::new();
        for (index, syscall) in profile.syscalls.iter().enumerate() {
            rules.extend(rules_of(syscall, &format!("syscalls[{index}]"))?);
        }
        Ok(Self {
            flags: flags(&profile.flags)?,
            default: action(
                &profile.default_action,
                profile.default_errno_ret,
                "defaultAction",
                "defaultErrnoRet",
            )?,
            architectures: &profile.architectures,
            rules,
        })
    }

    /// Whether syscalls newer than the profile are to give `ENOSYS`: not where unknown ones are let through.
    pub(super) fn hides_newer(&self) -> bool {
        !(matches!(self.default, ALLOW | LOG) || self.default & 0xffff_0000 == TRACE)
    }
}

fn rules_of<'a>(syscall: &'a Syscall, field: &str) -> Result<Vec<(&'a str, Rule)>, SeccompError> {
    if syscall.names.is_empty() {
        return Err(SeccompError::new(
            format_args!("{field}.names"),
            "empty: a rule names at least one syscall",
        ));
    }
    if let Some(index) = syscall.names.iter().position(String::is_empty) {
        return Err(SeccompError::new(
            format_args!("{field}.names[{index}]"),
            "\"\" is not the name of a syscall",
        ));
    }
    let number = format!("{field}.errnoRet");
    let action = action(&syscall.action, syscall.errno_ret, &format!("{field}.action"), &number)?;
    let conditions = syscall.args.iter().enumerate();
    let conditions = conditions
        .map(|(index, argument)| condition(argument, &format!("{field}.args[{index}]")))
        .collect::<Result<Vec<_>, _>>()?;
    let twice = (0..ARGUMENTS)
        .any(|index| conditions.iter().filter(|condition| condition.index == index).count() > 1);
    let rules = if twice {
        conditions.into_iter().map(|condition| Rule { conditions: vec![condition], action }).collect()
    } else {
        vec![Rule { conditions, action }]
    };
    let names = syscall.names.iter();
    Ok(names.flat_map(|name| rules.iter().map(move |rule| (name.as_str(), rule.clone()))).collect())
}

fn action(name: &str, errno: Option<u32>, field: &str, errno_field: &str) -> Result<u32, SeccompError> {
    let (action, default) = match lookup(ACTIONS, name) {
        Some(Action::Plain(action)) => (action, None),
        Some(Action::Numbered(action)) => (action, Some(libc::EPERM.cast_unsigned())),
        Some(Action::Refused(reason)) => return Err(SeccompError::new(field, format!("{name} {reason}"))),
        None => return Err(SeccompError::new(field, format!("{name:?} is not an action"))),
    };
    match (errno, default) {
        (None, default) => Ok(action | default.unwrap_or(0)),
        (Some(errno), Some(_)) if errno <= u32::from(u16::MAX) => Ok(action | errno),
        (Some(errno), Some(_)) => Err(SeccompError::new(errno_field, format!("{errno} is above 65535"))),
        (Some(errno), None) => {
            Err(SeccompError::new(errno_field, format!("{errno}: {name} takes no number")))
        }
    }
}

fn condition(argument: &Argument, field: &str) -> Result<Condition, SeccompError> {
    let &Argument { index, value, value_two, ref op } = argument;
    if index >= ARGUMENTS {
        return Err(SeccompError::new(
            format_args!("{field}.index"),
            format!("{index}: a syscall has {ARGUMENTS} arguments"),
        ));
    }
    let Some(operator) = lookup(OPERATORS, op) else {
        return Err(SeccompError::new(format_args!("{field}.op"), format!("{op:?} is not an operator")));
    };
    let (comparison, value) = match operator {
        Operator::Plain(comparison) => (comparison, value),
        Operator::Masked => (Comparison::Masked(value), value_two & value),
    };
    Ok(Condition { index, comparison, value })
}

fn flags(names: &[String]) -> Result<u32, SeccompError> {
    let mut flags = 0;
    for (index, name) in names.iter().enumerate() {
        let field = format_args!("flags[{index}]");
        flags |= match lookup(FLAGS, name) {
            Some(Flag::Bits(bits)) => bits,
            Some(Flag::Refused(reason)) => return Err(SeccompError::new(field, format!("{name} {reason}"))),
            None => return Err(SeccompError::new(field, format!("{name:?} is not a flag"))),
        };
    }
    Ok(flags)
}
