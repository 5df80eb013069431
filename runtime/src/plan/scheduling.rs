//! `scheduler`, `ioPriority` and `execCPUAffinity` of a process -> numbers of system calls.

use drupe_protocol::{CpuAffinity, Scheduler};
use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority};

use super::cpu_list;
use super::support::Warning;
use crate::bundle::{FieldError, Problem, ProcessObject, SchedulerObject};

/// The bits of an I/O priority above its level (linux/ioprio.h).
const IOPRIO_CLASS_SHIFT: i32 = 13;
/// The lowest I/O priority of a class.
const IOPRIO_LEVEL_MAX: i64 = 7;
/// The processors that the kernel can have at most (`CONFIG_NR_CPUS` of any architecture).
const MAX_CPUS: u32 = 8192;

/// Policies of sched(7), as linux/sched.h numbers them. `SCHED_ISO` was never implemented.
const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags of `struct sched_attr`, as linux/sched.h numbers them.
const FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// The value of ioprio_set(2) for a process.
pub(crate) fn io_priority(process: &ProcessObject) -> Result<Option<i32>, FieldError> {
    let Some(asked) = process.spec().io_priority() else { return Ok(None) };
    level(process, asked).map(|level| Some((class(asked.class()) << IOPRIO_CLASS_SHIFT) | level))
}

fn class(class: IOPriorityClass) -> i32 {
    match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    }
}

fn level(process: &ProcessObject, asked: &LinuxIOPriority) -> Result<i32, FieldError> {
    let priority = asked.priority();
    let problem = match priority {
        ..0 => Problem::TooSmall(0),
        0..=IOPRIO_LEVEL_MAX => return Ok(i32::try_from(priority).unwrap_or(0)),
        _ => Problem::TooLarge(IOPRIO_LEVEL_MAX.unsigned_abs()),
    };
    Err(FieldError::number(process.field("ioPriority.priority"), priority, problem))
}

/// The scheduling policy of a process, and its parameters.
pub(crate) fn scheduler(process: &ProcessObject) -> Result<Option<Scheduler>, FieldError> {
    let Some(asked) = process.scheduler() else { return Ok(None) };
    let field = |name: &str| process.field(&format!("scheduler.{name}"));
    let policy = known(POLICIES, &asked.policy, "no scheduling policy of Linux")
        .map_err(|problem| FieldError::text(field("policy"), &asked.policy, problem))?;
    let mut flags = 0;
    for (index, flag) in asked.flags.iter().flatten().enumerate() {
        flags |= known(FLAGS, flag, "no flag of sched_setattr(2)")
            .map_err(|problem| FieldError::text(field(&format!("flags[{index}]")), flag, problem))?;
    }
    parameters_fit(asked, &field)?;
    Ok(Some(Scheduler {
        policy,
        flags,
        nice: asked.nice.unwrap_or(0),
        priority: asked.priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0),
        runtime: asked.runtime.unwrap_or(0),
        deadline: asked.deadline.unwrap_or(0),
        period: asked.period.unwrap_or(0),
    }))
}

fn known<T: Copy>(table: &[(&str, T)], name: &str, why: &'static str) -> Result<T, Problem> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value).ok_or(Problem::Invalid(why))
}

/// Parameters belong to policies: the kernel would take some of the rest for nothing.
fn parameters_fit(asked: &SchedulerObject, field: &dyn Fn(&str) -> String) -> Result<(), FieldError> {
    let nice = asked.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        let problem = Problem::Invalid("must be -20 to 19");
        return Err(FieldError::number(field("nice"), nice.into(), problem));
    }
    let priority = asked.priority.unwrap_or(0);
    let realtime = matches!(asked.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if priority != 0 && !realtime {
        let problem = Problem::Invalid("only SCHED_FIFO and SCHED_RR have priorities");
        return Err(FieldError::number(field("priority"), priority.into(), problem));
    }
    if realtime && !(1..=99).contains(&priority) {
        let problem = Problem::Invalid("must be 1 to 99");
        return Err(FieldError::number(field("priority"), priority.into(), problem));
    }
    if asked.policy == "SCHED_DEADLINE" {
        return Ok(());
    }
    for (name, value) in [("runtime", asked.runtime), ("deadline", asked.deadline), ("period", asked.period)]
    {
        if let Some(value) = value.filter(|&value| value != 0) {
            let problem = Problem::Invalid("only SCHED_DEADLINE has it");
            return Err(FieldError::unsigned(field(name), value, problem));
        }
    }
    Ok(())
}

/// The processors of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors<'a> {
    /// Those of the host that it may run on (`linux.resources.cpu.cpus`), when it is bound to some.
    pub(crate) of_host: Option<&'a str>,
    /// How many its machine has.
    pub(crate) vcpus: u32,
}

impl Processors<'_> {
    /// The guest's processor that stands for one of the host: the first for the first that the container may run on.
    fn in_guest(self, cpu: u32) -> Option<u32> {
        let place = match self.of_host.map(cpu_list::parse) {
            None => Some(cpu),
            Some(ranges) => {
                let mut before = 0_u32;
                ranges?.into_iter().find_map(|(first, last)| {
                    let place = (first..=last).contains(&cpu).then(|| before.saturating_add(cpu - first));
                    before = (last - first).saturating_add(1).saturating_add(before);
                    place
                })
            }
        };
        place.filter(|place| *place < self.vcpus)
    }
}

/// The processors of a process that enters a running container. Those that the guest has none for are left out, but
/// not all that the container is bound to.
pub(crate) fn affinity(
    process: &ProcessObject,
    processors: Processors<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<CpuAffinity, FieldError> {
    let mut cpus = |name: &str, list: &Option<String>| {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { return Ok(Vec::new()) };
        let field = process.field(&format!("execCPUAffinity.{name}"));
        let error = |problem| FieldError::text(field.clone(), list, problem);
        let ranges = cpu_list::parse(list).ok_or_else(|| error(Problem::CpuList))?;
        if ranges.iter().any(|&(_, last)| last >= MAX_CPUS) {
            return Err(error(Problem::TooLarge(u64::from(MAX_CPUS) - 1)));
        }
        let asked = ranges.into_iter().flat_map(|(first, last)| first..=last);
        let (found, missing): (Vec<_>, Vec<_>) =
            asked.map(|cpu| (cpu, processors.in_guest(cpu))).partition(|(_, place)| place.is_some());
        if found.is_empty() && processors.of_host.is_some() {
            return Err(error(Problem::Invalid("none of them is one of linux.resources.cpu.cpus")));
        }
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(|(cpu, _)| cpu.to_string()).collect();
            let reason = format!("{list:?}: the guest has no processor for {}", missing.join(","));
            warnings.push(Warning { field: field.clone(), reason });
        }
        Ok(found.into_iter().filter_map(|(_, place)| place).collect())
    };
    let asked = process.affinity();
    Ok(CpuAffinity { initial: cpus("initial", &asked.initial)?, last: cpus("final", &asked.last)? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::chain;

    fn process(fields: Value) -> ProcessObject {
        let mut object = json!({ "args": ["a"], "cwd": "/" });
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ProcessObject::parse(&object, "process").unwrap()
    }

    #[test]
    fn io_priorities_are_class_and_level() {
        for (asked, value) in [
            (json!({ "class": "IOPRIO_CLASS_RT", "priority": 0 }), 1 << 13),
            (json!({ "class": "IOPRIO_CLASS_BE", "priority": 7 }), 2 << 13 | 7),
            (json!({ "class": "IOPRIO_CLASS_IDLE" }), 3 << 13),
        ] {
            assert_eq!(
                io_priority(&process(json!({ "ioPriority": asked }))).unwrap(),
                Some(value),
                "{asked}"
            );
        }
        assert_eq!(io_priority(&process(json!({}))).unwrap(), None);
        for (priority, error) in [(-1, "below the minimum of 0"), (8, "above the maximum of 7")] {
            let asked = json!({ "class": "IOPRIO_CLASS_RT", "priority": priority });
            let got = chain(&io_priority(&process(json!({ "ioPriority": asked }))).unwrap_err());
            assert_eq!(got, format!("process.ioPriority.priority: {priority}: {error}"));
        }
    }

    #[test]
    fn schedulers_are_numbers() {
        let scheduler = |asked: Value| scheduler(&process(json!({ "scheduler": asked }))).unwrap().unwrap();
        let nice = scheduler(json!({ "policy": "SCHED_BATCH", "nice": 19 }));
        assert_eq!(nice, Scheduler { policy: 3, nice: 19, ..Scheduler::default() });
        let flags = ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"];
        let realtime = scheduler(json!({ "policy": "SCHED_FIFO", "priority": 50, "flags": flags }));
        assert_eq!(realtime, Scheduler { policy: 1, flags: 5, priority: 50, ..Scheduler::default() });
        let deadline =
            scheduler(json!({ "policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3 }));
        let expected = Scheduler { policy: 6, runtime: 1, deadline: 2, period: 3, ..Scheduler::default() };
        assert_eq!(deadline, expected);
    }

    #[test]
    fn a_scheduler_that_cannot_be_is_named() {
        for (asked, error) in [
            (json!({ "policy": "SCHED_ISO" }), "policy: \"SCHED_ISO\": no scheduling policy of Linux"),
            (json!({ "policy": "fifo" }), "policy: \"fifo\": no scheduling policy of Linux"),
            (
                json!({ "policy": "SCHED_OTHER", "flags": ["X"] }),
                "flags[0]: \"X\": no flag of sched_setattr(2)",
            ),
            (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "nice: 20: must be -20 to 19"),
            (
                json!({ "policy": "SCHED_BATCH", "priority": 1 }),
                "priority: 1: only SCHED_FIFO and SCHED_RR have priorities",
            ),
            (json!({ "policy": "SCHED_RR" }), "priority: 0: must be 1 to 99"),
            (json!({ "policy": "SCHED_OTHER", "runtime": 9 }), "runtime: 9: only SCHED_DEADLINE has it"),
        ] {
            let got = chain(&scheduler(&process(json!({ "scheduler": asked }))).unwrap_err());
            assert_eq!(got, format!("process.scheduler.{error}"));
        }
    }

    fn affinity_of(
        asked: Value,
        of_host: Option<&str>,
        vcpus: u32,
    ) -> (Result<CpuAffinity, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let object = process(json!({ "execCPUAffinity": asked }));
        let affinity = affinity(&object, Processors { of_host, vcpus }, &mut warnings);
        (
            affinity.map_err(|error| chain(&error)),
            warnings.into_iter().map(|warning| warning.reason).collect(),
        )
    }

    #[test]
    fn affinities_are_lists_of_processors() {
        let (lists, warnings) = affinity_of(json!({ "initial": "0-2,7", "final": "" }), None, 8);
        assert_eq!(lists, Ok(CpuAffinity { initial: vec![0, 1, 2, 7], last: vec![] }));
        assert_eq!(warnings, [""; 0]);
        for (list, error) in [
            ("0-", "\"0-\": not a list of processors such as 0-3,5"),
            ("0-4294967295", "\"0-4294967295\": above the maximum of 8191"),
        ] {
            let (refused, _) = affinity_of(json!({ "final": list }), None, 8);
            assert_eq!(refused, Err(format!("process.execCPUAffinity.final: {error}")));
        }
    }

    #[test]
    fn the_guest_s_processors_stand_for_those_of_the_container() {
        let of_host = Some("12,4-6");
        for (asked, got) in [("4", vec![0]), ("5-6", vec![1, 2]), ("12", vec![3]), ("6,12", vec![2, 3])] {
            let (lists, warnings) = affinity_of(json!({ "final": asked }), of_host, 4);
            assert_eq!((lists.unwrap().last, warnings), (got, vec![]), "{asked}");
        }
        let (lists, warnings) = affinity_of(json!({ "initial": "4,7-8" }), of_host, 4);
        assert_eq!(lists.unwrap().initial, [0]);
        assert_eq!(warnings, ["\"4,7-8\": the guest has no processor for 7,8"]);
        let (refused, _) = affinity_of(json!({ "initial": "0-3" }), of_host, 4);
        let error =
            "process.execCPUAffinity.initial: \"0-3\": none of them is one of linux.resources.cpu.cpus";
        assert_eq!(refused, Err(error.to_owned()));
        // A container that is bound to none has what its machine has.
        let (lists, warnings) = affinity_of(json!({ "initial": "1-2", "final": "7" }), None, 2);
        assert_eq!(lists, Ok(CpuAffinity { initial: vec![1], last: vec![] }));
        assert_eq!(warnings.len(), 2);
    }
}
