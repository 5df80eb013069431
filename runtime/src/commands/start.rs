//! `drupe start`: the monitor executes the program of a container that was created.

use super::{Failure, find};
use crate::cli::{GlobalArgs, StartArgs};
use crate::container::{Entry, Verb};
use crate::control::{Client, Reply, Request};

/// What the monitor says against it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

pub(crate) fn start(global: &GlobalArgs, args: &StartArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Start)?;
    execute(&container.entry)?;
    Ok(0)
}

/// Has the program executed.
pub(super) fn execute(entry: &Entry) -> Result<(), Failure> {
    match Client::connect(entry)?.ask(&Request::Start, &[], None)? {
        Reply::Failed { message, status } => Err(Failure::with_status(Denied(message), status)),
        _ => Ok(()),
    }
}
