//! fscalls: makes a random sequence of file system calls in a directory and prints what each gives, so that two file
//! systems can be compared by comparing text.
//!
//! ```text
//! fscalls [--seed N] [--as CAST] [--first N] [--count N] [--only N,N...] [--without NAME,NAME...] DIRECTORY
//! fscalls dump DIRECTORY         the tree that the last run has left there
//! ```
//!
//! Every operation prints one line: its number, who made it, the call, what came of it, and what can be seen
//! afterwards. Two processes make them, one at a time. After each 1000 the tree is printed, an entry on each line, and a
//! new one begun; the last one stays. The directory is its own: what else is in it is removed.
//!
//! What an operation is and what it is given depends on the seed and its number alone. So a part can be run alone:
//! `--first` and `--count`, or `--only` some; `--without` leaves kinds of operations out.
//!
//! CAST is who makes the calls: `root`; `user`, mostly 1000:1000 in the groups 1001 and 2000; `bare`, mostly root without
//! the capabilities that override permissions, or keep set-group-ID, or override ownership. It is to be started as
//! root with these capabilities, and with /proc.
//!
//! Exit status 64: wrong usage. Status 70: it could not go on.

mod actor;
mod calls;
mod line;
mod options;
mod pools;
mod random;
mod run;
mod sys;
mod tree;
mod world;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use options::Request;

const USAGE: u8 = 64;
const FAILED: u8 = 70;

fn main() -> ExitCode {
    let request = match options::parse(env::args_os().skip(1)) {
        Ok(request) => request,
        Err(error) => return complain(&error, USAGE),
    };
    let done = match &request {
        Request::Run(options) => run::run(options),
        Request::Dump(directory) => run::dump(directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), FAILED),
    }
}

fn complain(error: &str, status: u8) -> ExitCode {
    // Nothing can be done about a stderr that is closed.
    let _ = writeln!(io::stderr(), "fscalls: {error}");
    ExitCode::from(status)
}
