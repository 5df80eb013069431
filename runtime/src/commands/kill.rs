//! `drupe kill`

use crate::cli::{GlobalArgs, KillArgs};

use super::Failure;

pub(crate) fn kill(_global: &GlobalArgs, _args: &KillArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("kill: not available in this build", 1))
}
