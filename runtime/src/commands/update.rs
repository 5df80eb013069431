//! `drupe update`: other limits for a container, in its guest's cgroup and in the host's.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use drupe_protocol::Answer;
use serde_json::Value;

use super::query::{self, QueryError};
use super::{Failure, find};
use crate::bundle::{FieldError, Problem};
use crate::cli::{GlobalArgs, UpdateArgs};
use crate::container::{Container, Lock, Record, Verb};
use crate::control::Request;
use crate::resources::{self, Resources};
use crate::text::chain;
use crate::update::Update;

/// What the new limits are called in messages.
const FIELD: &str = "resources";

#[derive(Debug, thiserror::Error)]
enum UpdateError {
    #[error("--resources {path}")]
    Read { path: String, source: io::Error },
    #[error("--resources {path}")]
    Json { path: String, source: serde_json::Error },
    #[error("--{0}: not supported: cache and bandwidth classes are not set")]
    Rdt(&'static str),
}

pub(crate) fn update(global: &GlobalArgs, args: &UpdateArgs) -> Result<u8, Failure> {
    let container = find::existing(global, &args.id, Verb::Update)?;
    let change = change(args)?;
    let record = container.record.as_ref().map_err(|stale| Failure::from(io::Error::other(chain(stale))))?;
    // Until the new limits are kept: each update builds on the one before.
    let _turn = container.entry.hold_in_turn(Lock::Updating)?;
    let limits = match container.entry.read_limits() {
        Some(limits) => limits,
        None => configured(record)?,
    };
    let update = Update::plan(&limits, &change, record.drupe.machine, FIELD)?;
    if update.limits.memory.check_before_update == Some(true) {
        let mut client = query::connect(&container)?;
        match query::answer(&container, &mut client, &Request::Statistics)? {
            Answer::Statistics(files) => update.check_usage(&files, FIELD)?,
            _ => return Err(QueryError::Confused.into()),
        }
    }
    let cgroup = &record.drupe.cgroup;
    let applied =
        cgroup.update(&update.host, FIELD).map_err(Failure::from).and_then(|()| guest(&container, &update));
    if applied.is_err() {
        let before = limits.for_host(record.drupe.machine.memory, record.drupe.machine.vcpus);
        if let Err(error) = cgroup.update(&before, FIELD) {
            log::debug!("{}", chain(&error));
        }
    }
    applied?;
    container.entry.write_limits(&update.limits)?;
    Ok(0)
}

fn guest(container: &Container, update: &Update) -> Result<(), Failure> {
    if update.guest.is_empty() {
        return Ok(());
    }
    let request = Request::Update { settings: update.guest.clone() };
    match query::answer(container, &mut query::connect(container)?, &request)? {
        Answer::Updated => Ok(()),
        _ => Err(QueryError::Confused.into()),
    }
}

/// The limits that config.json has.
fn configured(record: &Record) -> Result<Resources, FieldError> {
    let given = record.drupe.config.pointer("/linux/resources").unwrap_or(&Value::Null);
    Resources::parse(given, resources::FIELD)
}

/// What is to change: the file says it, or the options do.
fn change(args: &UpdateArgs) -> Result<Resources, Failure> {
    for (name, given) in [("l3-cache-schema", &args.l3_cache_schema), ("mem-bw-schema", &args.mem_bw_schema)]
    {
        if given.as_deref().is_some_and(|schema| !schema.is_empty()) {
            return Err(UpdateError::Rdt(name).into());
        }
    }
    let value = match &args.resources {
        Some(path) => read(path)?,
        None => serde_json::to_value(options(args))
            .map_err(|error| FieldError::new(FIELD, Problem::Type(error)))?,
    };
    Ok(Resources::parse_part(&value, FIELD)?)
}

fn read(path: &Path) -> Result<Value, UpdateError> {
    let name = path.display().to_string();
    let text = if name == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|source| UpdateError::Read { path: name.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| UpdateError::Json { path: name, source })
}

fn options(args: &UpdateArgs) -> Resources {
    let mut change = Resources::default();
    let cpu = &mut change.cpu;
    cpu.period = args.cpu_period;
    cpu.quota = args.cpu_quota;
    cpu.burst = args.cpu_burst;
    cpu.shares = args.cpu_share;
    cpu.realtime_period = args.cpu_rt_period;
    cpu.realtime_runtime = args.cpu_rt_runtime;
    cpu.idle = args.cpu_idle;
    cpu.cpus.clone_from(&args.cpuset_cpus);
    cpu.mems.clone_from(&args.cpuset_mems);
    let memory = &mut change.memory;
    memory.limit = args.memory;
    memory.reservation = args.memory_reservation;
    memory.swap = args.memory_swap;
    memory.kernel = args.kernel_memory;
    memory.kernel_tcp = args.kernel_memory_tcp;
    change.pids.limit = args.pids_limit;
    change.block_io.weight = args.blkio_weight;
    change
}
