//! Lines for whoever reads the guest's kernel log. In a guest, standard error is /dev/kmsg.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line, with one write: each write to /dev/kmsg is a record. Never fails, never panics.
pub(crate) fn note(text: Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("drupe-agent: {text}\n").as_bytes());
}
