//! `drupe delete`: what is left of a container goes away.

use super::find::Refused;
use super::{Failure, find, removal};
use crate::cli::{DeleteArgs, GlobalArgs};
use crate::container::status::Refusal;
use crate::container::{Container, Status, Store, Verb};

pub(crate) fn delete(global: &GlobalArgs, args: &DeleteArgs) -> Result<u8, Failure> {
    let verb = if args.force { Verb::ForceDelete } else { Verb::Delete };
    let Some(mut container) = find::find(global, &args.id, verb)? else {
        // Of a removal that was cut short there may be a directory that has no id any more.
        if let Some(store) = Store::find(&find::root(global)?)? {
            store.sweep();
        }
        return Ok(0);
    };
    let id = container.entry.name().to_owned();
    let gone = || if args.force { Ok(0) } else { Err(Refused::new(Refusal::DoesNotExist, &id).into()) };
    if container.status != Status::Stopped {
        removal::end(&container)?;
        // What there is to remove is in the record that was written last.
        let Some(ended) = Container::look(container.entry)? else { return gone() };
        container = ended;
    }
    if removal::remove(container)? { Ok(0) } else { gone() }
}
