//! `drupe events`

use crate::cli::{EventsArgs, GlobalArgs};

use super::Failure;

pub(crate) fn events(_global: &GlobalArgs, _args: &EventsArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("events: not available in this build", 1))
}
