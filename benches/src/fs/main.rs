//! The shared filesystem of drupe beside QEMU's microvm with the C virtiofsd: the same tree, the same guest kernel, the same
//! programs in the guest.
//!
//! `run` unpacks the tree, starts a machine and writes what it has measured; `work` is what runs in the guest; `compare` and
//! `budget` judge results. `benches/fs` calls them.

mod error;
mod machine;
mod marks;
mod report;
mod results;
mod steps;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use error::FsError;
use results::Results;

/// Measures a shared filesystem from inside its guest.
#[derive(Debug, Parser)]
#[command(name = "drupe-bench-fs", version)]
enum Arguments {
    /// Run all steps in a container of drupe, or under QEMU with virtiofsd; needs root and KVM
    Run(machine::RunArguments),
    /// In the guest: run all steps in the current directory
    Work {
        /// How the host is told that a step begins and ends
        #[arg(long, value_enum)]
        marks: marks::Marks,
    },
    /// Print a markdown table of drupe beside virtiofsd
    Compare {
        /// Results of drupe
        drupe: PathBuf,
        /// Results of virtiofsd with its requests counted
        requests: PathBuf,
        /// Results of virtiofsd with nothing counted
        times: PathBuf,
    },
    /// Fail when a step of drupe has more requests than its budget by over 1 %
    Budget {
        /// Results of drupe
        results: PathBuf,
        /// File of budgets
        budgets: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drupe-bench-fs: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn run(arguments: Arguments) -> Result<(), FsError> {
    match arguments {
        Arguments::Run(run) => machine::run(&run),
        Arguments::Work { marks } => work::all(marks),
        Arguments::Compare { drupe, requests, times } => {
            let text =
                report::table(&Results::read(&drupe)?, &Results::read(&requests)?, &Results::read(&times)?);
            println!("{text}");
            Ok(())
        }
        Arguments::Budget { results, budgets } => report::judge(&Results::read(&results)?, &budgets),
    }
}
