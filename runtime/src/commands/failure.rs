//! Why a verb failed, and the exit status that goes with it.

use std::error::Error;

/// Any error, with an exit status: 1 unless a verb says otherwise. It is no `Error` itself, so that `?` makes one
/// of every error.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Box<dyn Error>,
    pub(crate) status: u8,
}

impl Failure {
    pub(crate) fn with_status(error: impl Into<Box<dyn Error>>, status: u8) -> Self {
        Self { error: error.into(), status }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::with_status(error, 1)
    }
}
