//! `drupe ps`

use crate::cli::{GlobalArgs, PsArgs};

use super::Failure;

pub(crate) fn ps(_global: &GlobalArgs, _args: &PsArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("ps: not available in this build", 1))
}
