//! Container ids: what runc accepts, as long as a directory can be named by it.

use std::fmt;
use std::str::FromStr;

/// Longest id: it names a directory.
const LONGEST: usize = 255;

/// The id of a container, checked: it is one harmless path component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId(String);

/// Why text is not a container id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It is empty.
    #[error("an id must not be empty")]
    Empty,
    /// It is longer than a directory's name can be.
    #[error("an id has at most {LONGEST} characters")]
    TooLong,
    /// It is `.` or `..`.
    #[error("an id must not be \".\" or \"..\"")]
    Dots,
    /// It has a character that ids do not have.
    #[error("an id has only letters, digits and \"_+-.\", not {0:?}")]
    Character(char),
}

impl ContainerId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(id: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        match id {
            "" => Err(IdError::Empty),
            "." | ".." => Err(IdError::Dots),
            _ => match id.chars().find(|&c| !allowed(c)) {
                Some(c) => Err(IdError::Character(c)),
                None if id.len() > LONGEST => Err(IdError::TooLong),
                None => Ok(Self(id.to_owned())),
            },
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_runc_that_fit_a_directory_name() {
        let longest = "x".repeat(LONGEST);
        for id in ["a", "A_b+c-d.9", "...", ".hidden", "-dash", &longest] {
            assert_eq!(id.parse::<ContainerId>().map(|id| id.to_string()).as_deref(), Ok(id));
        }
        for (id, error) in [
            ("", IdError::Empty),
            (".", IdError::Dots),
            ("..", IdError::Dots),
            ("a/b", IdError::Character('/')),
            ("../a", IdError::Character('/')),
            ("a b", IdError::Character(' ')),
            ("a\0", IdError::Character('\0')),
            ("é", IdError::Character('é')),
            (&"x".repeat(LONGEST + 1), IdError::TooLong),
        ] {
            assert_eq!(id.parse::<ContainerId>(), Err(error), "{id:?}");
        }
    }
}
