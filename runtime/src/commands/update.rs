//! `drupe update`

use crate::cli::{GlobalArgs, UpdateArgs};

use super::Failure;

pub(crate) fn update(_global: &GlobalArgs, _args: &UpdateArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("update: not available in this build", 1))
}
