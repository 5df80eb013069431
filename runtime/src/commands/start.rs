//! `drupe start`

use crate::cli::{GlobalArgs, StartArgs};

use super::Failure;

pub(crate) fn start(_global: &GlobalArgs, _args: &StartArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("start: not available in this build", 1))
}
