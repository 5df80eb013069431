//! `drupe resume`

use crate::cli::{GlobalArgs, ResumeArgs};

use super::Failure;

pub(crate) fn resume(_global: &GlobalArgs, _args: &ResumeArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("resume: not available in this build", 1))
}
