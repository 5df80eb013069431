//! `drupe delete`

use crate::cli::{DeleteArgs, GlobalArgs};

use super::Failure;

pub(crate) fn delete(_global: &GlobalArgs, _args: &DeleteArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("delete: not available in this build", 1))
}
