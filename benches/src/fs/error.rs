//! What can go wrong while measuring.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why there is no measurement, or why it is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FsError {
    /// A file could not be used, or a program not be started.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// A program failed.
    #[error("{0}: {1}")]
    Program(String, ExitStatus),
    /// The machine did not say what it was to say.
    #[error("{0}: {1}")]
    Unexpected(PathBuf, String),
    /// There are more requests than there should be.
    #[error("{0}: budget exceeded: {1}")]
    Exceeded(PathBuf, String),
}

impl FsError {
    /// For `map_err`: names the file or program.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io(path.as_ref().to_owned(), error)
    }

    /// A file that has not what it should have.
    pub(crate) fn unexpected(path: impl AsRef<Path>, what: impl ToString) -> Self {
        Self::Unexpected(path.as_ref().to_owned(), what.to_string())
    }
}
