//! `drupe pause`: the container's processes are frozen, then the machine's processors stop.

use super::{Failure, find, query};
use crate::cli::{GlobalArgs, PauseArgs};
use crate::container::Verb;
use crate::control::Request;

pub(crate) fn pause(global: &GlobalArgs, args: &PauseArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Pause)?;
    query::done(&container, &Request::Pause)?;
    Ok(0)
}
