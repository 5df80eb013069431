//! `drupe delete`: what is left of a container goes away.

use super::{Failure, find, removal};
use crate::cli::{DeleteArgs, GlobalArgs};
use crate::container::{Status, Verb};

pub(crate) fn delete(global: &GlobalArgs, args: &DeleteArgs) -> Result<u8, Failure> {
    let verb = if args.force { Verb::ForceDelete } else { Verb::Delete };
    let Some(container) = find::find(global, &args.id, verb)? else { return Ok(0) };
    if container.status != Status::Stopped {
        removal::end(&container)?;
    }
    removal::remove(container)?;
    Ok(0)
}
