//! `drupe list`

use crate::cli::{GlobalArgs, ListArgs};

use super::Failure;

pub(crate) fn list(_global: &GlobalArgs, _args: &ListArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("list: not available in this build", 1))
}
