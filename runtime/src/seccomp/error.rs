//! Why a profile cannot be compiled.

use std::fmt;

/// A field of `linux.seccomp` that is wrong or cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompError {
    /// The field, from the root of config.json (`linux.seccomp.syscalls[2].action`).
    pub field: String,
    /// What is wrong with it, and its value.
    pub reason: String,
}

impl SeccompError {
    /// `field` is relative to `linux.seccomp`.
    pub(super) fn new(field: impl fmt::Display, reason: impl Into<String>) -> Self {
        let field = field.to_string();
        let dot = if field.is_empty() { "" } else { "." };
        Self { field: format!("linux.seccomp{dot}{field}"), reason: reason.into() }
    }
}

impl fmt::Display for SeccompError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for SeccompError {}
