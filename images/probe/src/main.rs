//! probe: runs inside a test container and prints what it sees there, or does what a test asks for.
//!
//! ```text
//! probe                          one JSON object: the whole report
//! probe exit N                   ends with status N
//! probe fault KIND               segv, bus, fpe, ill, trap, abrt or sys: ends by that fault, not by kill(2)
//! probe kill-self N              sends itself signal N; ends with status 0 if that has no effect
//! probe wait-signal NAME...      prints `ready`, then the name of each signal that comes; ends after the last one named
//! probe resumed PATH             prints `ready`; when it has stood still for over a second: makes a file, then prints what time it
//!                                was before that and how long it took, in nanoseconds
//! probe write PATH TEXT          writes a file; prints 0 or the errno
//! probe remount-rw PATH          remounts read-write, the mount and its superblock; prints both errnos
//! probe record DIR SEED [unsynced] writes files in many ways until it fails; prints what must be there from then on
//! probe recorded DIR [KIND N]... prints what of it is not there; all of each kind up to N was acknowledged
//! probe SECONDS                  sleeps so long, as a sleep(1) of any name would
//! probe flood BYTES [FD [STATUS]] writes the pattern of `pattern` to a descriptor, then ends at once
//! ```
//!
//! It is one static file and needs nothing in the container, not even /proc: what cannot be read is `null`.
//! Exit status 64: wrong usage. Status 70: what was asked for had no effect.

mod act;
mod arch;
mod pattern;
mod record;
mod report;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().map_while(|word| word.to_str()).collect();
    match run(&words) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nothing can be done about a stderr that is closed.
            let _ = writeln!(io::stderr(), "probe: {}: {error}", words.join(" "));
            ExitCode::from(USAGE)
        }
    }
}

fn run(words: &[&str]) -> io::Result<u8> {
    match words {
        [] => say(&report::report().to_string()),
        ["exit", status] => number(status),
        ["fault", kind] => act::fault(kind),
        ["kill-self", signal] => act::kill_self(number(signal)?),
        ["wait-signal", names @ ..] => act::wait_signals(names, say),
        ["resumed", path] => act::resumed(path, say),
        ["write", path, text] => say(&act::write(path, text).to_string()),
        ["remount-rw", path] => {
            let (mount, superblock) = act::remount_rw(path);
            say(&format!("{mount} {superblock}"))
        }
        ["flood", bytes] => act::flood(number(bytes)?, 1, 0),
        ["flood", bytes, fd] => act::flood(number(bytes)?, number(fd)?, 0),
        ["flood", bytes, fd, status] => act::flood(number(bytes)?, number(fd)?, number(status)?),
        ["record", dir, seed] => record::record(dir, number(seed)?, true, say),
        ["record", dir, seed, "unsynced"] => record::record(dir, number(seed)?, false, say),
        ["recorded", dir, last @ ..] => record::recorded(dir, last, say),
        [seconds] if seconds.bytes().all(|byte| byte.is_ascii_digit()) => {
            std::thread::sleep(Duration::from_secs(number(seconds)?));
            Ok(0)
        }
        _ => Err(io::Error::other("unknown request")),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word}: not a number in range")))
}

fn say(line: &str) -> io::Result<u8> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(0)
}
