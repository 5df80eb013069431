//! `drupe exec`

use crate::cli::{ExecArgs, GlobalArgs};

use super::Failure;

pub(crate) fn exec(_global: &GlobalArgs, _args: &ExecArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("exec: not available in this build", 1))
}
