//! `drupe resume`: the machine's processors go on.

use super::{Failure, find, query};
use crate::cli::{GlobalArgs, ResumeArgs};
use crate::container::Verb;
use crate::control::Request;

pub(crate) fn resume(global: &GlobalArgs, args: &ResumeArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Resume)?;
    query::done(&container, &Request::Resume)?;
    Ok(0)
}
