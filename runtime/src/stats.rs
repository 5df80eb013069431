//! What a container uses: the files of its cgroup in the guest as the JSON of runc's `events --stats`.
//!
//! The guest is not trusted: what is no number there is none here. As in runc's JSON, most numbers that are 0 are left out.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::control::FilesystemCounts;
use crate::resources::list;

/// Files and their contents, as the agent sends them.
type Files = BTreeMap<String, String>;

/// Numbers of `cpuset` in the JSON have 16 bits.
const MAX_LISTED: usize = 1 << 16;

/// The `data` of an event of type `stats`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Stats {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: BTreeMap<String, Hugetlb>,
    intel_rdt: Empty,
    /// The guest's interfaces are those that the host sees, and not told here.
    network_interfaces: Option<Empty>,
    /// What runc has no word for: the shared filesystem, as the host counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    filesystem: Option<FilesystemCounts>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Empty {}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// In nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

/// Of version 1, but for the lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    /// Memory and swap together.
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    failcnt: u64,
}

/// How long tasks waited (PSI).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Pressure {
    some: PressureData,
    full: PressureData,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct PressureData {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

/// How many tasks the guest's kernel has ended because the container was out of memory.
pub(crate) fn oom_kills(files: &Files) -> u64 {
    value_of(files, "memory.events", "oom_kill")
}

/// The memory that the container uses.
pub(crate) fn memory_usage(files: &Files) -> u64 {
    number(files, "memory.current")
}

impl Stats {
    /// From the files of the container's cgroup.
    pub(crate) fn new(files: &Files) -> Self {
        Self {
            cpu: cpu(files),
            cpuset: CpuSet {
                cpus: numbers(files, "cpuset.cpus.effective"),
                mems: numbers(files, "cpuset.mems.effective"),
                ..CpuSet::default()
            },
            memory: memory(files),
            pids: Pids { current: number(files, "pids.current"), limit: number(files, "pids.max") },
            blkio: block_io(files),
            hugetlb: hugetlb(files),
            intel_rdt: Empty {},
            network_interfaces: None,
            filesystem: None,
        }
    }

    /// With what the shared filesystem has done.
    pub(crate) fn with_filesystem(self, counts: FilesystemCounts) -> Self {
        Self { filesystem: Some(counts), ..self }
    }
}

fn cpu(files: &Files) -> Cpu {
    let count = |key| value_of(files, "cpu.stat", key);
    let nanoseconds = |key| count(key).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: pressure(files, "cpu.pressure"),
    }
}

fn memory(files: &Files) -> Memory {
    let entry = |name: &str| MemoryEntry {
        limit: limit(files, &format!("{name}.max")),
        usage: number(files, &format!("{name}.current")),
        max: number(files, &format!("{name}.peak")),
        failcnt: 0,
    };
    let usage = entry("memory");
    let swap =
        if files.contains_key("memory.swap.current") { entry("memory.swap") } else { MemoryEntry::default() };
    // As in version 1 both are told together, and the most of both is not the sum of what each had at most.
    let swap = MemoryEntry {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage.saturating_add(usage.usage),
        max: 0,
        failcnt: 0,
    };
    let raw = pairs(files, "memory.stat").map(|(key, value)| (key.to_owned(), value)).collect();
    Memory {
        cache: value_of(files, "memory.stat", "file"),
        usage,
        swap,
        kernel: MemoryEntry::default(),
        kernel_tcp: MemoryEntry::default(),
        raw,
        psi: pressure(files, "memory.pressure"),
    }
}

/// Lines `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...`.
fn block_io(files: &Files) -> BlockIo {
    let mut io = BlockIo { psi: pressure(files, "io.pressure"), ..BlockIo::default() };
    for line in text(files, "io.stat").lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut io.io_service_bytes_recursive, "Write"),
                "rios" => (&mut io.io_serviced_recursive, "Read"),
                "wios" => (&mut io.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlockIoEntry { major, minor, op, value });
        }
    }
    io
}

/// `hugetlb.SIZE.current` and `hugetlb.SIZE.events`, by size.
fn hugetlb(files: &Files) -> BTreeMap<String, Hugetlb> {
    let size = |file: &str| -> Option<String> {
        let size = file.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let of_size = |size: String| {
        let usage = number(files, &format!("hugetlb.{size}.current"));
        let failcnt = value_of(files, &format!("hugetlb.{size}.events"), "max");
        (size, Hugetlb { usage, failcnt })
    };
    files.keys().filter_map(|file| size(file)).map(of_size).collect()
}

/// Two lines `some|full avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn pressure(files: &Files, file: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in files.get(file)?.lines() {
        let mut words = line.split_whitespace();
        let data = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let average = value.parse().ok().filter(|average: &f64| average.is_finite()).unwrap_or_default();
            match key {
                "avg10" => data.avg10 = average,
                "avg60" => data.avg60 = average,
                "avg300" => data.avg300 = average,
                "total" => data.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    Some(pressure)
}

fn text<'a>(files: &'a Files, file: &str) -> &'a str {
    files.get(file).map_or("", |text| text.trim())
}

/// The number that a file holds; 0 for `max` and whatever else.
fn number(files: &Files, file: &str) -> u64 {
    text(files, file).parse().unwrap_or(0)
}

/// Like [`number`], with the greatest one for `max`.
fn limit(files: &Files, file: &str) -> u64 {
    match text(files, file) {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// Lines `key value`.
fn pairs<'a>(files: &'a Files, file: &str) -> impl Iterator<Item = (&'a str, u64)> {
    text(files, file).lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

fn value_of(files: &Files, file: &str, key: &str) -> u64 {
    pairs(files, file).find(|(known, _)| *known == key).map_or(0, |(_, value)| value)
}

fn numbers(files: &Files, file: &str) -> Vec<u16> {
    let numbers = list::numbers(text(files, file)).into_iter().flatten();
    numbers.take(MAX_LISTED).filter_map(|number| u16::try_from(number).ok()).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stats(files: &[(&str, &str)]) -> Value {
        let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        serde_json::to_value(Stats::new(&files)).unwrap()
    }

    #[test]
    fn the_json_is_that_of_runc() {
        let stats = stats(&[
            (
                "cpu.stat",
                "usage_usec 15\nuser_usec 10\nsystem_usec 5\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=0\n",
            ),
            ("cpuset.cpus.effective", "0-1\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "67108864\n"),
            ("memory.peak", "8192\n"),
            ("memory.swap.current", "100\n"),
            ("memory.swap.max", "max\n"),
            ("memory.stat", "anon 1\nfile 2048\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=0 dbytes=5 dios=6\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "5\n"),
            ("hugetlb.2MB.events", "max 9\n"),
        ]);
        let entry = |major, op, value| json!({ "major": major, "op": op, "value": value });
        let expected = json!({
            "cpu": {
                "usage": { "total": 15_000, "kernel": 5_000, "user": 10_000 },
                "throttling": { "periods": 4, "throttledPeriods": 3, "throttledTime": 2_000 },
                "psi": {
                    "some": { "avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 77 },
                    "full": { "avg10": 0.0, "avg60": 0.0, "avg300": 0.25, "total": 0 },
                },
            },
            "cpuset": {
                "cpus": [0, 1], "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0,
                "sched_relax_domain_level": 0,
            },
            "memory": {
                "cache": 2048,
                "usage": { "limit": 67_108_864, "usage": 4096, "max": 8192, "failcnt": 0 },
                "swap": { "limit": u64::MAX, "usage": 4196, "failcnt": 0 },
                "kernel": { "limit": 0, "failcnt": 0 },
                "kernelTCP": { "limit": 0, "failcnt": 0 },
                "raw": { "anon": 1, "file": 2048 },
            },
            "pids": { "current": 3 },
            "blkio": {
                "ioServiceBytesRecursive": [entry(8, "Read", 1), entry(8, "Write", 2)],
                "ioServicedRecursive": [entry(8, "Read", 3), json!({ "major": 8, "op": "Write" })],
            },
            "hugetlb": { "2MB": { "usage": 2_097_152, "failcnt": 9 } },
            "intel_rdt": {},
            "network_interfaces": null,
        });
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_guest_can_say_what_it_likes() {
        for text in ["", "-1", "x y\n\n", "18446744073709551616", "9:9", "a 1", ":: rbytes=1", "0-4294967295"]
        {
            let names = [
                "cpu.stat",
                "cpu.pressure",
                "memory.stat",
                "memory.current",
                "io.stat",
                "cpuset.cpus.effective",
            ];
            let files: Vec<_> = names.iter().map(|name| (*name, text)).collect();
            let stats = stats(&files);
            assert_eq!(stats["cpu"]["usage"]["kernel"], 0, "{text}");
            assert_eq!(stats["memory"]["usage"]["limit"], 0, "{text}");
        }
        let nan = stats(&[("cpu.pressure", "some avg10=nan avg60=inf avg300=1 total=-1")]);
        assert_eq!(
            nan["cpu"]["psi"]["some"],
            json!({ "avg10": 0.0, "avg60": 0.0, "avg300": 1.0, "total": 0 })
        );
    }

    #[test]
    fn kills_are_counted() {
        let files = BTreeMap::from([("memory.events".to_owned(), "low 0\noom 3\noom_kill 2\n".to_owned())]);
        assert_eq!((oom_kills(&files), oom_kills(&BTreeMap::new())), (2, 0));
    }
}
