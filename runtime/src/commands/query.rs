//! What a verb asks of a container's monitor, and what it makes of the reply.

use std::time::Duration;

use drupe_protocol::Answer;

use super::Failure;
use crate::container::Container;
use crate::container::status::Refusal;
use crate::control::{Client, ClientError, FilesystemCounts, Reply, Request};
use crate::text::printable;

/// How long a guest may take to answer: it may be emulated, and busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// The monitor or the guest says no.
    #[error("{0}")]
    Denied(String),
    /// The container has ended.
    #[error("{0}")]
    Over(String),
    #[error("the container's monitor replied with something else than was asked for")]
    Confused,
    #[error(transparent)]
    Client(ClientError),
}

/// Connects to the container's monitor.
pub(super) fn connect(container: &Container) -> Result<Client, QueryError> {
    Client::connect(&container.entry).map_err(|error| query_error(container, error))
}

/// Asks for something that is done, or not.
pub(super) fn done(container: &Container, request: &Request) -> Result<(), Failure> {
    match reply(container, &mut connect(container)?, request)? {
        Reply::Done => Ok(()),
        _ => Err(QueryError::Confused.into()),
    }
}

/// Asks the guest.
pub(super) fn answer(
    container: &Container,
    client: &mut Client,
    request: &Request,
) -> Result<Answer, QueryError> {
    match reply(container, client, request)? {
        Reply::Answer(Answer::Failed(failure)) => {
            Err(QueryError::Denied(printable(&format!("{}: {}", failure.field, failure.message))))
        }
        Reply::Answer(answer) => Ok(answer),
        _ => Err(QueryError::Confused),
    }
}

/// Asks what the shared filesystem has done.
pub(super) fn filesystem(container: &Container, client: &mut Client) -> Result<FilesystemCounts, QueryError> {
    match reply(container, client, &Request::Filesystem)? {
        Reply::Filesystem(counts) => Ok(counts),
        _ => Err(QueryError::Confused),
    }
}

fn reply(container: &Container, client: &mut Client, request: &Request) -> Result<Reply, QueryError> {
    match client.ask(request, &[], Some(PATIENCE)) {
        Ok(Reply::Failed { message, .. }) => Err(QueryError::Denied(message)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(query_error(container, error)),
    }
}

fn query_error(container: &Container, error: ClientError) -> QueryError {
    match error {
        // It has ended since it was looked up.
        ClientError::Gone => QueryError::Over(Refusal::NotRunning.message(container.entry.name())),
        error => QueryError::Client(error),
    }
}
