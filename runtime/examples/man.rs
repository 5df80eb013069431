//! Writes the manual pages into a directory: `cargo run --example man -- DIR`. `make build` runs it.

use std::path::PathBuf;

use clap::CommandFactory;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: man DIR"));
    };
    std::fs::create_dir_all(&directory)?;
    clap_mangen::generate_to(drupe::cli::Cli::command(), directory)
}
