//! The container that a verb is about, if the verb fits its state.

use std::path::PathBuf;

use super::Failure;
use crate::cli::GlobalArgs;
use crate::container::status::{self, Refusal, Verdict};
use crate::container::store;
use crate::container::{Container, ContainerId, IdError, Store, StoreError, Verb};

/// An id that is none.
#[derive(Debug, thiserror::Error)]
#[error("id {id:?}")]
pub(super) struct BadId {
    id: String,
    source: IdError,
}

/// A verb that does not fit the container's state.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Refused {
    pub(super) fn new(refusal: Refusal, id: &str) -> Self {
        Self(refusal.message(id))
    }
}

/// Checks an id.
pub(super) fn id(text: &str) -> Result<ContainerId, BadId> {
    text.parse().map_err(|source| BadId { id: text.to_owned(), source })
}

/// The directory of all containers.
pub(super) fn root(global: &GlobalArgs) -> Result<PathBuf, StoreError> {
    global.root.clone().map_or_else(store::default_root, Ok)
}

/// The container, when the verb is to be carried out; `None` when there is nothing to do. A container in the making
/// is waited for where the verb needs it whole.
pub(super) fn find(global: &GlobalArgs, text: &str, verb: Verb) -> Result<Option<Container>, Failure> {
    let id = id(text)?;
    let store = Store::find(&root(global)?)?;
    let mut found = match &store {
        Some(store) => Container::find(store, &id)?,
        None => None,
    };
    loop {
        found = match (status::verdict(verb, found.as_ref().map(|found| found.status)), found) {
            (Verdict::Allowed, Some(container)) => return Ok(Some(container)),
            (Verdict::Wait, Some(container)) => container.settle()?,
            (Verdict::Refused(refusal), _) => return Err(Refused::new(refusal, id.as_str()).into()),
            (_, None) | (Verdict::Nothing, _) => return Ok(None),
        };
    }
}

/// As [`find`], for verbs that always have something to do or refuse.
pub(super) fn existing(global: &GlobalArgs, text: &str, verb: Verb) -> Result<Container, Failure> {
    match find(global, text, verb)? {
        Some(container) => Ok(container),
        None => Err(Refused::new(Refusal::DoesNotExist, text).into()),
    }
}
