//! `drupe create`

use crate::cli::{CreateArgs, GlobalArgs};

use super::Failure;

pub(crate) fn create(_global: &GlobalArgs, _args: &CreateArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("create: not available in this build", 1))
}
