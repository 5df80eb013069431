//! `drupe start`: the monitor executes the program of a container that was created.

use super::find::Refused;
use super::{Failure, find, removal};
use crate::cli::{GlobalArgs, StartArgs};
use crate::container::status::Refusal;
use crate::container::{Container, Verb};
use crate::control::{Client, ClientError, Reply, Request};
use crate::hooks::HookKind;
use crate::monitor::MonitorError;

/// What the monitor says against it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

pub(crate) fn start(global: &GlobalArgs, args: &StartArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Start)?;
    execute(&container)?;
    Ok(0)
}

/// Has the program executed. It takes as long as hooks in the container do, which bound themselves by their timeouts. A
/// hook that fails afterwards ends the container (runtime.md, "Lifecycle", step 10).
pub(super) fn execute(container: &Container) -> Result<(), Failure> {
    let asked =
        Client::connect(&container.entry).and_then(|mut client| client.ask(&Request::Start, &[], None));
    match asked {
        Ok(Reply::Failed { message, status }) => return Err(Failure::with_status(Denied(message), status)),
        Ok(_) => {}
        // It has ended since it was looked up.
        Err(ClientError::Gone) => {
            return Err(Refused::new(Refusal::HasStopped, container.entry.name()).into());
        }
        Err(error) => return Err(error.into()),
    }
    let Ok(record) = &container.record else { return Ok(()) };
    if let Err(error) = record.run_hooks(HookKind::Poststart) {
        removal::end(container)?;
        return Err(MonitorError::Hook(error).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Store;
    use crate::container::record::tests::record;

    #[test]
    fn a_container_that_has_just_ended_is_said_to_have_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let (entry, _creating) = store.create(&"x".parse().unwrap(), &record("x")).unwrap();
        let container = Container::look(entry).unwrap().unwrap();
        let failure = execute(&container).unwrap_err();
        assert_eq!(failure.error.to_string(), "cannot start a container that has stopped");
    }
}
