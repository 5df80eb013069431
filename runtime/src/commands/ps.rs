//! `drupe ps`: the processes of a container, by their ids in it.

use std::io::{self, Write};
use std::time::SystemTime;

use drupe_protocol::Answer;

use super::query::{self, QueryError};
use super::{Failure, find};
use crate::cli::{GlobalArgs, ListFormat, PsArgs};
use crate::container::Verb;
use crate::control::Request;
use crate::process_table;

#[derive(Debug, thiserror::Error)]
#[error("stdout")]
struct OutputError(#[from] io::Error);

pub(crate) fn ps(global: &GlobalArgs, args: &PsArgs) -> Result<u8, Failure> {
    let columns = process_table::columns(&args.options)?;
    let container = find::existing(global, &args.id, Verb::Ps)?;
    let answer = query::answer(&container, &mut query::connect(&container)?, &Request::Processes)?;
    let Answer::Processes(processes) = answer else { return Err(QueryError::Confused.into()) };
    let text = match args.format {
        ListFormat::Table => process_table::render(&processes, &columns, SystemTime::now()),
        ListFormat::Json => {
            let pids: Vec<i32> = processes.iter().map(|process| process.container_pid).collect();
            serde_json::to_string(&pids)? + "\n"
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(OutputError)?;
    Ok(0)
}
