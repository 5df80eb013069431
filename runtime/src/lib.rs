//! `drupe`, an OCI runtime that runs each container in a KVM virtual machine of its own.
//!
//! Read it in the direction of the data:
//!
//! ```text
//! cli -> commands::{create, run} -> bundle (config.json, checked) -> plan (pure: what machine, guest and host get)
//!                                -> container (its directory) -> files (every fd that the machine needs)
//!                                -> launch -> monitor (builds and runs the machine, talks to the agent)
//!        commands::*             -> container (what state is it in?) -> control (the monitor's socket)
//! ```
//!
//! The OCI types of the `oci-spec` crate stop at [`plan`]: what comes after it is our own plain data.
#![deny(missing_docs)]

mod arch;
pub mod bundle;
mod cgroup;
pub mod cli;
mod commands;
mod console;
mod container;
mod control;
mod descriptors;
pub mod device_program;
pub mod document;
mod ext4;
mod files;
mod handover;
pub mod hooks;
mod idmap;
mod image;
mod inherited;
mod kvm;
mod labels;
mod launch;
mod lexical;
mod log;
mod monitor;
mod pid_file;
mod pidfd;
pub mod plan;
mod process_table;
pub mod resources;
pub mod seccomp;
pub mod settings;
mod signal_name;
mod stage;
mod stats;
mod sys;
mod text;
mod time;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

pub use container::{ContainerId, IdError};

/// Runs the program with these arguments, the first being its own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut stages = stage::Stages::begin();
    inherited::remember();
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(answer) => return answer.print(),
    };
    if let Err(error) = log::init(&cli.global, cli.verb.shares_stderr()) {
        return log::report(&error, &cli.global);
    }
    stages.mark("start");
    match commands::run(&cli, &mut stages) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            log::report(&*failure.error, &cli.global);
            ExitCode::from(failure.status)
        }
    }
}
