//! `drupe pause`

use crate::cli::{GlobalArgs, PauseArgs};

use super::Failure;

pub(crate) fn pause(_global: &GlobalArgs, _args: &PauseArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("pause: not available in this build", 1))
}
