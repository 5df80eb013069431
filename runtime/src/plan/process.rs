//! `process` and the namespaces -> what the agent applies to the workload.

use std::collections::BTreeSet;

use drupe_protocol::{Capabilities, IdMode, Namespaces, PosixUser, Process, Rlimit, StdioPorts};
use oci_spec::runtime::{LinuxCapabilities, LinuxNamespaceType};

use super::support::Warning;
use crate::bundle::{Config, FieldError, Problem};

/// Host ports of the workload's streams.
pub(crate) const STDIO: StdioPorts = StdioPorts {
    stdin: Some(drupe_protocol::CONTROL_PORT + 1),
    stdout: Some(drupe_protocol::CONTROL_PORT + 2),
    stderr: Some(drupe_protocol::CONTROL_PORT + 3),
    terminal: None,
};

/// The process to run.
pub(crate) fn process(config: &Config) -> Process {
    let process = config.process();
    let user = process.user();
    Process {
        args: config.args().to_vec(),
        env: last_of_each(process.env().as_deref().unwrap_or_default()),
        cwd: process.cwd().to_string_lossy().into_owned(),
        user: PosixUser {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
        },
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| Rlimit { name: limit.typ().to_string(), soft: limit.soft(), hard: limit.hard() })
            .collect(),
        capabilities: process.capabilities().as_ref().map(capabilities).unwrap_or_default(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj(),
        stdio: STDIO,
        ..Process::default()
    }
}

/// Of variables that are given twice the last counts, as for runc: execve(2) would pass both on, and most
/// programs would take the first.
fn last_of_each(env: &[String]) -> Vec<String> {
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

/// The namespaces. Those of the guest are apart from the host's, whatever is asked for; what cannot be had is
/// refused (joining one by its path, user namespaces) or warned about.
pub(crate) fn namespaces(config: &Config, warnings: &mut Vec<Warning>) -> Result<Namespaces, FieldError> {
    let mut pid = IdMode::BehindInit;
    let mut network = false;
    for (index, namespace) in config.linux().namespaces().iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}]");
        if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            let why = "a namespace of the host cannot be joined from the guest";
            let path = path.to_string_lossy();
            return Err(FieldError::text(format!("{field}.path"), &path, Problem::Unsupported(why)));
        }
        match namespace.typ() {
            LinuxNamespaceType::Pid => pid = IdMode::Init,
            LinuxNamespaceType::Network => network = true,
            LinuxNamespaceType::User => {
                let why = "user namespaces come later, and without them ids would mean other users";
                return Err(FieldError::text(format!("{field}.type"), "user", Problem::Unsupported(why)));
            }
            LinuxNamespaceType::Time => warnings.push(Warning {
                field: format!("{field}.type"),
                reason: "\"time\": the container has the guest's clocks".into(),
            }),
            LinuxNamespaceType::Mount
            | LinuxNamespaceType::Cgroup
            | LinuxNamespaceType::Uts
            | LinuxNamespaceType::Ipc => {}
        }
    }
    if !network {
        warnings.push(Warning {
            field: "linux.namespaces".into(),
            reason: "without \"network\" the container would use the host's network; it has the guest's"
                .into(),
        });
    }
    Ok(Namespaces { pid, ..Namespaces::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let env = ["A=1", "B=2", "A=3=4", "AB=5"].map(str::to_owned);
        assert_eq!(last_of_each(&env), ["B=2", "A=3=4", "AB=5"]);
    }
}
