//! `drupe features`

use crate::cli::{FeaturesArgs, GlobalArgs};

use super::Failure;

pub(crate) fn features(_global: &GlobalArgs, _args: &FeaturesArgs) -> Result<u8, Failure> {
    Err(Failure::with_status("features: not available in this build", 1))
}
