//! `drupe events`: what a container uses, and when its memory runs out, as lines of JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;

use drupe_protocol::Answer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::query::{self, QueryError};
use super::{Failure, find};
use crate::cli::{EventsArgs, GlobalArgs};
use crate::container::{Container, Verb};
use crate::control::{Client, FilesystemCounts, Request};
use crate::stats::{self, Stats};

#[derive(Debug, thiserror::Error)]
enum EventsError {
    #[error("stdout")]
    Output(#[source] io::Error),
    #[error("--interval")]
    Interval(#[source] io::Error),
    #[error("waiting for the container's monitor")]
    Wait(#[source] io::Error),
}

/// One line.
#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

pub(crate) fn events(global: &GlobalArgs, args: &EventsArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Events)?;
    let mut client = query::connect(&container)?;
    if args.stats {
        let files = statistics(&container, &mut client)?;
        let filesystem = query::filesystem(&container, &mut client)?;
        print(&stats_event(&args.id, &files, filesystem))?;
        return Ok(0);
    }
    let interval =
        Timespec::try_from(args.interval).map_err(|error| EventsError::Interval(io::Error::other(error)))?;
    let mut kills = None;
    while is_there(&client, &interval)? {
        let asked = statistics(&container, &mut client)
            .and_then(|files| Ok((files, query::filesystem(&container, &mut client)?)));
        let (files, filesystem) = match asked {
            Ok(answers) => answers,
            Err(QueryError::Over(_)) => break,
            // The guest has much else to answer, say.
            Err(QueryError::Denied(reason)) => {
                log::debug!("no statistics: {reason}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let count = stats::oom_kills(&files);
        if kills.is_some_and(|before| count > before) {
            print(&Event { kind: "oom", id: &args.id, data: None })?;
        }
        kills = Some(count);
        print(&stats_event(&args.id, &files, filesystem))?;
    }
    Ok(0)
}

/// Waits for the interval; false when the container has ended by then.
fn is_there(client: &Client, interval: &Timespec) -> Result<bool, EventsError> {
    let mut fds = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN)];
    match poll(&mut fds, Some(interval)) {
        // Nobody has asked anything: what comes is the end.
        Ok(ready) => Ok(ready == 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(EventsError::Wait(errno.into())),
    }
}

fn statistics(container: &Container, client: &mut Client) -> Result<BTreeMap<String, String>, QueryError> {
    match query::answer(container, client, &Request::Statistics)? {
        Answer::Statistics(files) => Ok(files),
        _ => Err(QueryError::Confused),
    }
}

fn stats_event<'a>(id: &'a str, files: &BTreeMap<String, String>, filesystem: FilesystemCounts) -> Event<'a> {
    Event { kind: "stats", id, data: Some(Stats::new(files).with_filesystem(filesystem)) }
}

fn print(event: &Event<'_>) -> Result<(), EventsError> {
    let line = serde_json::to_string(event).map_err(|error| EventsError::Output(error.into()))?;
    writeln!(io::stdout(), "{line}").map_err(EventsError::Output)
}
