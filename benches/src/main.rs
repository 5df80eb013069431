//! Start-up time of a container under several OCI runtimes, measured in one run.
//!
//! In each block every runtime runs the same bundle once, in random order, so that what disturbs the machine
//! disturbs all of them alike. What counts are the ratios within one run: wall time on a shared machine does not
//! compare with that of another day.

mod measure;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use measure::{Measurement, Runtime};

/// Measures how long `RUNTIME run` of a bundle takes, from exec to exit.
#[derive(Debug, Parser)]
#[command(name = "drupe-benches", version)]
struct Arguments {
    /// Bundle to run; its process should do next to nothing.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Runtimes to compare; the first is what the others are compared with.
    #[arg(required = true, value_name = "RUNTIME")]
    runtimes: Vec<Runtime>,
    /// How often each runtime runs the bundle.
    #[arg(long, default_value_t = 30, value_name = "N")]
    blocks: usize,
    /// Print JSON, with every single figure.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            #[expect(clippy::print_stdout, reason = "the report is what the program is for")]
            {
                println!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("drupe-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, measure::MeasureError> {
    let state = std::env::temp_dir().join(format!("drupe-benches-{}", std::process::id()));
    let mut results: Vec<Vec<Measurement>> = vec![Vec::new(); arguments.runtimes.len()];
    let mut shuffle = measure::Shuffle::new(arguments.blocks as u64);
    for block in 0..arguments.blocks {
        eprint!("\rblock {} of {}", block + 1, arguments.blocks);
        for index in shuffle.order(arguments.runtimes.len()) {
            results[index].push(arguments.runtimes[index].run(&arguments.bundle, &state)?);
        }
    }
    eprintln!();
    let _ = std::fs::remove_dir(&state);
    let rows: Vec<_> = arguments.runtimes.iter().zip(&results).collect();
    Ok(if arguments.json { report::json(&rows) } else { report::table(&rows) })
}
