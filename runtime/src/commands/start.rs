//! `drupe start`: the monitor executes the program of a container that was created.

use super::{Failure, find, removal};
use crate::cli::{GlobalArgs, StartArgs};
use crate::container::{Container, Verb};
use crate::control::{Client, Reply, Request};
use crate::monitor::{self, MonitorError};

/// What the monitor says against it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

pub(crate) fn start(global: &GlobalArgs, args: &StartArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Start)?;
    execute(&container)?;
    Ok(0)
}

/// Has the program executed. A hook that fails afterwards ends the container (runtime.md, "Lifecycle", step 10).
pub(super) fn execute(container: &Container) -> Result<(), Failure> {
    if let Reply::Failed { message, status } =
        Client::connect(&container.entry)?.ask(&Request::Start, &[], None)?
    {
        return Err(Failure::with_status(Denied(message), status));
    }
    let Ok(record) = &container.record else { return Ok(()) };
    if let Err(error) = monitor::run_poststart_hooks(record) {
        removal::end(container)?;
        return Err(MonitorError::Hook(error).into());
    }
    Ok(())
}
