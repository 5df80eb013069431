//! `drupe spec`

use crate::cli::{GlobalArgs, SpecArgs};

use super::Failure;

pub(crate) fn spec(_global: &GlobalArgs, _args: &SpecArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("spec: not available in this build", 1))
}
