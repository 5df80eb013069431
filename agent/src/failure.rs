//! Turns errors of system calls into the [`Failure`] that the host shows: field, value, cause, on one line.

use std::fmt::Display;
use std::io;

use drupe_protocol::{Failure, FailureKind};

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Says which field of the configuration an operation was for.
pub(crate) trait Named<T> {
    /// `what` names the value and the action that failed; the cause is added to it.
    fn named(self, field: impl Into<String>, what: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Named<T> for Result<T, E> {
    fn named(self, field: impl Into<String>, what: impl Display) -> Result<T> {
        self.map_err(|error| setup(field, format_args!("{what}: {}", cause(&error.into()))))
    }
}

/// A failure with no error of the system behind it.
pub(crate) fn setup(field: impl Into<String>, message: impl Display) -> Failure {
    of_kind(FailureKind::Setup, field, message)
}

/// A failure that decides the exit status.
pub(crate) fn of_kind(kind: FailureKind, field: impl Into<String>, message: impl Display) -> Failure {
    Failure { kind, field: field.into(), message: message.to_string().replace(['\n', '\r'], " ") }
}

/// The text of an error in the style of ours: lower case, without the number.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_field_value_and_cause() {
        let failed: Result<()> =
            Err(io::Error::from_raw_os_error(libc::ENOENT)).named("process.cwd", "\"/a\": cannot enter");
        let failure = failed.unwrap_err();
        assert_eq!(failure.field, "process.cwd");
        assert_eq!(failure.message, "\"/a\": cannot enter: no such file or directory");
        assert_eq!(setup("a", "two\nlines").message, "two lines");
    }
}
