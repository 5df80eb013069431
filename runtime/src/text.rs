//! Text for one line: the chain of an error, and strings that a guest or a stranger chose.

use std::error::Error;
use std::fmt::Write;

/// Longest piece of foreign text that a message repeats.
const LONGEST: usize = 1024;

/// An error and its causes, joined by `: `, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = printable(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&printable(&error.to_string()));
        cause = error.source();
    }
    line
}

/// The text without control characters (a terminal would obey them) and of bounded length.
pub(crate) fn printable(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() > LONGEST {
            line.push_str("...");
            break;
        }
        if c == '\n' {
            line.push(' ');
        } else if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a.json")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_is_one_line() {
        let error = Outer(std::io::Error::other("bad\nthing"));
        assert_eq!(chain(&error), "a.json: bad thing");
    }

    #[test]
    fn foreign_text_cannot_drive_a_terminal_or_flood_it() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert!(printable(&"x".repeat(1 << 20)).len() < 1100);
    }
}
