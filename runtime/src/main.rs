//! The `drupe` program: all of it is in the library, so that the shim and the benches can use the same parts.

use std::process::ExitCode;

fn main() -> ExitCode {
    drupe::run(std::env::args_os())
}
