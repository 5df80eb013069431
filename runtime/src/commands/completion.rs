//! `drupe completion SHELL`

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, CompletionShell};

/// Prints the shell's completion script.
pub(crate) fn print(shell: CompletionShell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(Shell::from(shell), &mut Cli::command(), "drupe", &mut script);
    u8::from(std::io::stdout().write_all(&script).is_err())
}
