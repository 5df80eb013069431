//! `hooks` -> programs to run on the host, and in the container.

use std::path::Path;

use drupe_protocol::StartHook;
use oci_spec::runtime::Hook as HookObject;
use serde::{Deserialize, Serialize};

use crate::bundle::{Config, FieldError, Problem, check_variable, require_absolute};
use crate::hooks::Hook;

/// Programs that the host runs, by the moment in the container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostHooks {
    /// During `create`, before all others: the old name of `create_runtime`.
    pub prestart: Vec<Hook>,
    /// During `create`, when the container's environment exists.
    pub create_runtime: Vec<Hook>,
    /// During `create`, after those, beside the monitor.
    pub create_container: Vec<Hook>,
    /// During `start`, when the program runs.
    pub poststart: Vec<Hook>,
    /// During `delete`, when the container is gone.
    pub poststop: Vec<Hook>,
}

/// The hooks of the host.
#[allow(deprecated, reason = "prestart is deprecated by the specification, and still to be run")]
pub(crate) fn host(config: &Config) -> Result<HostHooks, FieldError> {
    let Some(hooks) = config.spec().hooks() else { return Ok(HostHooks::default()) };
    Ok(HostHooks {
        prestart: all("prestart", hooks.prestart())?,
        create_runtime: all("createRuntime", hooks.create_runtime())?,
        create_container: all("createContainer", hooks.create_container())?,
        poststart: all("poststart", hooks.poststart())?,
        poststop: all("poststop", hooks.poststop())?,
    })
}

/// The hooks of the guest.
pub(crate) fn start(config: &Config) -> Result<Vec<StartHook>, FieldError> {
    let Some(hooks) = config.spec().hooks() else { return Ok(Vec::new()) };
    let hooks = all("startContainer", hooks.start_container())?;
    let start = |(index, hook): (usize, Hook)| StartHook {
        field: format!("hooks.startContainer[{index}]"),
        path: hook.path.to_string_lossy().into_owned(),
        args: hook.args,
        env: hook.env,
        timeout: hook.timeout,
    };
    Ok(hooks.into_iter().enumerate().map(start).collect())
}

fn all(moment: &str, hooks: &Option<Vec<HookObject>>) -> Result<Vec<Hook>, FieldError> {
    let hooks = hooks.as_deref().unwrap_or_default().iter().enumerate();
    hooks.map(|(index, hook)| self::hook(&format!("hooks.{moment}[{index}]"), hook)).collect()
}

fn hook(field: &str, hook: &HookObject) -> Result<Hook, FieldError> {
    require_absolute(format!("{field}.path"), Path::new(hook.path()))?;
    let env = hook.env().clone().unwrap_or_default();
    for (index, variable) in env.iter().enumerate() {
        check_variable(&format!("{field}.env[{index}]"), variable)?;
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds < 1 => {
            return Err(FieldError::number(format!("{field}.timeout"), seconds, Problem::TooSmall(1)));
        }
        Some(seconds) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    Ok(Hook { path: hook.path().clone(), args: hook.args().clone().unwrap_or_default(), env, timeout })
}
