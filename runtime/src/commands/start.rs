//! `drupe start`: the monitor executes the program of a container that was created.

use super::{Failure, find};
use crate::cli::{GlobalArgs, StartArgs};
use crate::container::{Container, Verb};
use crate::control::{Client, Reply, Request};
use crate::monitor;

/// What the monitor says against it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

pub(crate) fn start(global: &GlobalArgs, args: &StartArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Start)?;
    execute(&container)?;
    Ok(0)
}

/// Has the program executed.
pub(super) fn execute(container: &Container) -> Result<(), Failure> {
    if let Reply::Failed { message, status } =
        Client::connect(&container.entry)?.ask(&Request::Start, &[], None)?
    {
        return Err(Failure::with_status(Denied(message), status));
    }
    if let Ok(record) = &container.record {
        monitor::run_poststart_hooks(record);
    }
    Ok(())
}
