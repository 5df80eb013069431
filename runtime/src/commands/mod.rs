//! The verbs, one file each.

mod completion;
mod run;

use crate::cli::{Cli, Verb};
use crate::stage::Stages;

pub(crate) use run::RunError;

/// Carries out a command line; the result is the exit status.
pub(crate) fn run(cli: &Cli, stages: &mut Stages) -> Result<u8, RunError> {
    match &cli.verb {
        Verb::Run(args) => run::run(&cli.global, args, stages),
        Verb::Completion { shell } => Ok(completion::print(*shell)),
    }
}
