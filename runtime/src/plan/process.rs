//! A `process` object -> what the agent applies to a process of the container.

use std::collections::BTreeSet;

use drupe_protocol::{
    Capabilities, PosixUser, Process, Rlimit, SeccompFilter, StdioPorts, TerminalConfig, WindowSize,
};
use oci_spec::runtime::{Linux, LinuxCapabilities, LinuxPersonalityDomain};

use super::scheduling;
use super::support::Warning;
use crate::bundle::{Config, FieldError, Problem, ProcessObject};
use crate::seccomp::{self, Profile};

/// Host ports of the container's streams.
const STDIO: StdioPorts = StdioPorts {
    stdin: Some(drupe_protocol::CONTROL_PORT + 1),
    stdout: Some(drupe_protocol::CONTROL_PORT + 2),
    stderr: Some(drupe_protocol::CONTROL_PORT + 3),
    terminal: None,
};

/// Host port of the container's terminal.
const TERMINAL: StdioPorts =
    StdioPorts { stdin: None, stdout: None, stderr: None, terminal: Some(drupe_protocol::CONTROL_PORT + 4) };

/// PER_LINUX32 of personality(2).
const LINUX32: u64 = 0x0008;

/// The process that the container is.
pub(crate) fn process(config: &Config) -> Result<Process, FieldError> {
    let process = of_object(config.process(), config)?;
    let stdio = if process.terminal.is_some() { TERMINAL } else { STDIO };
    Ok(Process { stdio, ..process })
}

/// A process of the container with this configuration, without ports for its streams.
pub(super) fn of_object(process: &ProcessObject, container: &Config) -> Result<Process, FieldError> {
    let spec = process.spec();
    let user = spec.user();
    Ok(Process {
        args: process.args().to_vec(),
        env: last_of_each(spec.env().as_deref().unwrap_or_default()),
        cwd: spec.cwd().to_string_lossy().into_owned(),
        user: PosixUser {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        rlimits: spec
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| Rlimit { name: limit.typ().to_string(), soft: limit.soft(), hard: limit.hard() })
            .collect(),
        capabilities: spec.capabilities().as_ref().map(capabilities).unwrap_or_default(),
        no_new_privileges: spec.no_new_privileges().unwrap_or(false),
        oom_score_adj: oom_score_adj(process)?,
        io_priority: scheduling::io_priority(process)?,
        scheduler: scheduling::scheduler(process)?,
        personality: personality(container.linux()),
        seccomp: seccomp(container)?,
        terminal: terminal(process)?,
        ..Process::default()
    })
}

/// Names of capabilities that were left out, which the specification wants warned about.
pub(super) fn unknown_capabilities(process: &ProcessObject) -> impl Iterator<Item = Warning> {
    process.unknown_capabilities().iter().map(|unknown| Warning {
        field: unknown.field.clone(),
        reason: format!("{:?}: unknown capability", unknown.name),
    })
}

fn oom_score_adj(process: &ProcessObject) -> Result<Option<i32>, FieldError> {
    match process.spec().oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => Err(FieldError::number(
            process.field("oomScoreAdj"),
            score.into(),
            Problem::Invalid("must be -1000 to 1000"),
        )),
        score => Ok(score),
    }
}

fn personality(linux: &Linux) -> Option<u64> {
    match linux.personality().as_ref()?.domain() {
        LinuxPersonalityDomain::PerLinux => None,
        LinuxPersonalityDomain::PerLinux32 => Some(LINUX32),
    }
}

fn seccomp(container: &Config) -> Result<Option<SeccompFilter>, FieldError> {
    let Some(profile) = container.raw().pointer("/linux/seccomp") else { return Ok(None) };
    let filter = Profile::from_json(profile).and_then(|profile| seccomp::compile(&profile));
    filter.map(Some).map_err(|error| FieldError::new(error.field, Problem::Reason(error.reason)))
}

/// The size means nothing without a terminal, says the specification.
fn terminal(process: &ProcessObject) -> Result<Option<TerminalConfig>, FieldError> {
    let spec = process.spec();
    if !spec.terminal().unwrap_or(false) {
        return Ok(None);
    }
    let Some(asked) = spec.console_size() else { return Ok(Some(TerminalConfig::default())) };
    let characters = |name: &str, count: u64| {
        u16::try_from(count).map_err(|_| {
            let field = process.field(&format!("consoleSize.{name}"));
            FieldError::unsigned(field, count, Problem::TooLarge(u16::MAX.into()))
        })
    };
    let rows = characters("height", asked.height())?;
    let columns = characters("width", asked.width())?;
    Ok(Some(TerminalConfig { size: Some(WindowSize { rows, columns }) }))
}

/// Of variables that are given twice the last counts, as for runc: execve(2) would pass both on, and most
/// programs would take the first.
pub(super) fn last_of_each(env: &[String]) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut kept: Vec<_> = env
        .iter()
        .rev()
        .filter(|variable| names.insert(variable.split('=').next().unwrap_or_default()))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

fn capabilities(sets: &LinuxCapabilities) -> Capabilities {
    let names = |set: &Option<oci_spec::runtime::Capabilities>| {
        // A set has no order of its own; sorted, equal bundles make equal plans.
        let names: BTreeSet<_> = set.iter().flatten().map(|capability| format!("CAP_{capability}")).collect();
        names.into_iter().collect()
    };
    Capabilities {
        bounding: names(sets.bounding()),
        effective: names(sets.effective()),
        inheritable: names(sets.inheritable()),
        permitted: names(sets.permitted()),
        ambient: names(sets.ambient()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::text::chain;

    fn planned(fields: Value) -> Result<Process, String> {
        let mut process = json!({ "args": ["a"], "cwd": "/" });
        process.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let config = json!({ "ociVersion": "1.0.0", "process": process, "root": { "path": "r" } });
        let config = Config::parse(config.to_string().as_bytes(), Path::new("config.json")).unwrap();
        super::process(&config).map_err(|error| chain(&error))
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let env = ["A=1", "B=2", "A=3=4", "AB=5"].map(str::to_owned);
        assert_eq!(last_of_each(&env), ["B=2", "A=3=4", "AB=5"]);
    }

    #[test]
    fn a_terminal_has_the_size_that_is_asked_for() {
        let size = json!({ "height": 25, "width": 80 });
        let process = planned(json!({ "terminal": true, "consoleSize": size })).unwrap();
        let size = Some(WindowSize { rows: 25, columns: 80 });
        assert_eq!(process.terminal, Some(TerminalConfig { size }));
        assert_eq!(
            planned(json!({ "terminal": true })).unwrap().terminal,
            Some(TerminalConfig { size: None })
        );
        let size = json!({ "height": 1 << 20, "width": 80 });
        assert_eq!(planned(json!({ "consoleSize": size })).unwrap().terminal, None);
        assert_eq!(
            planned(json!({ "terminal": true, "consoleSize": size })).unwrap_err(),
            "process.consoleSize.height: 1048576: above the maximum of 65535"
        );
    }

    #[test]
    fn a_score_that_the_kernel_would_not_take_is_named() {
        let error = planned(json!({ "oomScoreAdj": 1001 })).unwrap_err();
        assert_eq!(error, "process.oomScoreAdj: 1001: must be -1000 to 1000");
    }
}
