//! `drupe kill`: a signal for the workload. SIGKILL ends the container, whatever its guest does.

use std::time::Duration;

use super::{Failure, find, removal};
use crate::cli::{GlobalArgs, KillArgs};
use crate::container::status::Refusal;
use crate::container::{Container, Status, Verb};
use crate::control::{Client, ClientError, Reply, Request};
use crate::signal_name;

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

pub(crate) fn kill(global: &GlobalArgs, args: &KillArgs) -> Result<u8, Failure> {
    let signal = signal_name::parse(&args.signal)?;
    let container = find::existing(global, &args.id, Verb::Kill)?;
    if signal == libc::SIGKILL {
        removal::end(&container)?;
    } else {
        send(container, signal, args.all)?;
    }
    Ok(0)
}

fn send(container: Container, signal: i32, all: bool) -> Result<(), Failure> {
    let mut container = container;
    loop {
        let asked = Client::connect(&container.entry)
            .and_then(|mut client| client.ask(&Request::Signal { signal, all }, &[], Some(PATIENCE)));
        let not_running = || Denied(Refusal::NotRunning.message(container.entry.name()));
        match asked {
            Ok(Reply::Failed { message, status }) => {
                return Err(Failure::with_status(Denied(message), status));
            }
            Ok(_) => return Ok(()),
            // Its monitor is not there yet.
            Err(ClientError::Gone) if container.status == Status::Creating => {
                let id = container.entry.name().to_owned();
                container = container
                    .settle()?
                    .filter(|container| container.status != Status::Stopped)
                    .ok_or_else(|| Denied(Refusal::NotRunning.message(&id)))?;
            }
            // It has ended since it was looked up.
            Err(ClientError::Gone) => return Err(not_running().into()),
            Err(error) => return Err(error.into()),
        }
    }
}
