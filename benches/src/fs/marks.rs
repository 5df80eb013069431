//! How the guest tells the host that a step begins and ends.

use std::fs;
use std::io::{self, BufRead, Write};

use crate::error::FsError;

/// The way of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Marks {
    /// A line on standard output, and a wait for one on standard input.
    Stdio,
    /// A file that is not there is looked up: its name begins with `.mark-`.
    Lookup,
    /// Not at all.
    None,
}

impl Marks {
    /// Makes one mark, the `number`th.
    pub(crate) fn make(self, number: usize) -> Result<(), FsError> {
        match self {
            Self::Stdio => {
                let mut out = io::stdout().lock();
                writeln!(out, "{number}")
                    .and_then(|()| out.flush())
                    .map_err(FsError::io("standard output"))?;
                let mut answer = String::new();
                io::stdin().lock().read_line(&mut answer).map_err(FsError::io("standard input"))?;
            }
            Self::Lookup => drop(fs::symlink_metadata(format!(".mark-{number}"))),
            Self::None => {}
        }
        Ok(())
    }
}
