//! `process.rlimits`.

use drupe_protocol::Rlimit;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, getrlimit, prlimit, setrlimit};

use crate::failure::{Named, Result, setup};

const RESOURCES: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Sets all limits of this process.
pub(crate) fn apply(limits: &[Rlimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let new = rustix::process::Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
        setrlimit(resource(index, limit)?, new).named(field(index), describe(limit))?;
    }
    Ok(())
}

/// Lifts those limits of this process that bound what all processes in a user namespace of its making have together.
pub(crate) fn lift() -> Result<(), Errno> {
    let none = rustix::process::Rlimit { current: None, maximum: None };
    [Resource::Memlock, Resource::Msgqueue, Resource::Nproc, Resource::Sigpending]
        .into_iter()
        .try_for_each(|resource| setrlimit(resource, none))
}

/// Raises the hard limits of a child, or of this process, as far as [`apply`] will need it in a user namespace.
pub(crate) fn raise(limits: &[Rlimit], process: Option<Pid>) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let resource = resource(index, limit)?;
        // It is a copy of this process.
        let mut new = getrlimit(resource);
        let higher = new.maximum.is_some_and(|now| finite(limit.hard).is_none_or(|wanted| wanted > now));
        if higher {
            new.maximum = finite(limit.hard);
            prlimit(process, resource, new).named(field(index), describe(limit))?;
        }
    }
    Ok(())
}

fn resource(index: usize, limit: &Rlimit) -> Result<Resource> {
    let found = RESOURCES.iter().find(|(name, _)| *name == limit.name).map(|(_, resource)| *resource);
    found.ok_or_else(|| {
        setup(format!("{}.type", field(index)), format_args!("{:?}: unknown limit", limit.name))
    })
}

fn field(index: usize) -> String {
    format!("process.rlimits[{index}]")
}

fn describe(limit: &Rlimit) -> String {
    format!("{} {}:{}", limit.name, limit.soft, limit.hard)
}

fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_limit_is_named() {
        let failure = apply(&[Rlimit { name: "RLIMIT_FUN".into(), soft: 1, hard: 1 }]).unwrap_err();
        assert_eq!(
            (failure.field.as_str(), failure.message.as_str()),
            ("process.rlimits[0].type", "\"RLIMIT_FUN\": unknown limit")
        );
    }
}
