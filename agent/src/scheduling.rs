//! When and where a process runs: `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`.

use drupe_protocol::{CpuAffinity, Process, Scheduler};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::failure::{Named, Result, setup};
use crate::sys::{self, SchedAttr};

const POLICIES: [(u32, &str); 7] = [
    (0, "SCHED_OTHER"),
    (1, "SCHED_FIFO"),
    (2, "SCHED_RR"),
    (3, "SCHED_BATCH"),
    (4, "SCHED_ISO"),
    (5, "SCHED_IDLE"),
    (6, "SCHED_DEADLINE"),
];

/// Sets policy and priorities of a process, of the calling one without `pid`. Takes rights in the guest.
pub(crate) fn set_priorities(config: &Process, pid: Option<Pid>) -> Result<()> {
    if let Some(scheduler) = &config.scheduler {
        sys::set_scheduler(pid, attributes(scheduler)).named("process.scheduler", describe(scheduler))?;
    }
    if let Some(value) = config.io_priority {
        let (class, level) = (value >> 13, value & 0x1fff);
        sys::set_io_priority(pid, value)
            .named("process.ioPriority", format_args!("class {class}, priority {level}"))?;
    }
    Ok(())
}

/// Binds this process, which is about to enter a container, to the processors of `execCPUAffinity.initial`.
pub(crate) fn enter_on(affinity: &CpuAffinity) -> Result<()> {
    run_on(&affinity.initial, "process.execCPUAffinity.initial")
}

/// Binds this process, which is in its container, to those of `final`: without, to all that the container has.
pub(crate) fn stay_on(affinity: &CpuAffinity) -> Result<()> {
    if affinity.last.is_empty() && !affinity.initial.is_empty() {
        let all: Vec<u32> = (0..).take(CpuSet::MAX_CPU).collect();
        return run_on(&all, "process.execCPUAffinity.initial");
    }
    run_on(&affinity.last, "process.execCPUAffinity.final")
}

fn run_on(cpus: &[u32], field: &str) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        let index = usize::try_from(*cpu).ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
        set.set(index.ok_or_else(|| setup(field, format_args!("{cpu}: no such processor")))?);
    }
    sched_setaffinity(None, &set).named(field, format_args!("{cpus:?}"))
}

fn attributes(scheduler: &Scheduler) -> SchedAttr {
    SchedAttr {
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..SchedAttr::default()
    }
}

fn describe(scheduler: &Scheduler) -> String {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = scheduler;
    let name = POLICIES.iter().find(|(number, _)| number == policy);
    let name = name.map_or_else(|| format!("policy {policy}"), |(_, name)| (*name).to_owned());
    let times = if *runtime == 0 && *deadline == 0 && *period == 0 {
        String::new()
    } else {
        format!(", runtime {runtime}, deadline {deadline}, period {period}")
    };
    format!("{name}, nice {nice}, priority {priority}, flags {flags:#x}{times}")
}
