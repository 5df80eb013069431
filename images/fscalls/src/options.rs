//! The command line.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::actor::Cast;
use crate::calls::CALLS;

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Run(Options),
    Dump(PathBuf),
}

/// A run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) cast: Cast,
    /// Numbers of the operations, sorted.
    pub(crate) operations: Vec<u64>,
    /// Kinds that are left out.
    pub(crate) without: BTreeSet<String>,
    pub(crate) directory: PathBuf,
}

pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let args: Vec<OsString> = args.collect();
    let (mut seed, mut cast, mut first, mut count) = (1, Cast::Root, 0, 1000);
    let mut only = None;
    let mut without = BTreeSet::new();
    let mut rest = args.as_slice();
    loop {
        let (name, value, next) = match rest {
            [directory] => {
                let operations = only.unwrap_or_else(|| (first..first + count).collect());
                let directory = PathBuf::from(directory);
                return Ok(Request::Run(Options { seed, cast, operations, without, directory }));
            }
            [word, directory] if word == "dump" => return Ok(Request::Dump(directory.into())),
            [name, value, next @ ..] => (name.to_string_lossy(), value.to_string_lossy(), next),
            [] => return Err("needs a directory".to_owned()),
        };
        let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"));
        match &*name {
            "--seed" => seed = number()?,
            "--first" => first = number()?,
            "--count" => count = number()?,
            "--as" => cast = Cast::named(&value).ok_or_else(|| format!("--as {value}: not a cast"))?,
            "--only" => only = Some(numbers(&value)?),
            "--without" => without.extend(kinds(&value)?),
            _ => return Err(format!("{name}: unknown option")),
        }
        rest = next;
    }
}

fn numbers(list: &str) -> Result<Vec<u64>, String> {
    let parse = |word: &str| word.parse().map_err(|_| format!("--only {word}: not a number"));
    let mut numbers: Vec<u64> = list.split(',').map(parse).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn kinds(list: &str) -> Result<BTreeSet<String>, String> {
    let known = |word: &str| {
        let is_known = CALLS.iter().any(|(_, (name, _))| *name == word);
        is_known.then(|| word.to_owned()).ok_or_else(|| format!("--without {word}: no such operation"))
    };
    list.split(',').map(known).collect()
}
