//! `drupe state`

use crate::cli::{GlobalArgs, StateArgs};

use super::Failure;

pub(crate) fn state(_global: &GlobalArgs, _args: &StateArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("state: not available in this build", 1))
}
