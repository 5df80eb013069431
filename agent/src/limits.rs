//! The files of a container's cgroup: read for statistics, written to change limits.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use drupe_protocol::CgroupSetting;

use crate::cgroup;
use crate::failure::{Named, Result, setup};

/// Files that statistics are made of; those of `hugetlb` have the page size in their name.
const STATISTICS: [&str; 19] = [
    "cpu.stat",
    "cpu.pressure",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.stat",
    "memory.events",
    "memory.pressure",
    "memory.swap.current",
    "memory.swap.max",
    "memory.swap.peak",
    "memory.swap.events",
    "pids.current",
    "pids.max",
    "io.stat",
    "io.pressure",
    "cgroup.stat",
];
/// Bytes of one file.
const MAX_FILE: u64 = 64 << 10;
/// Files of `hugetlb`: three for each page size that a processor may have.
const MAX_HUGETLB: usize = 32;

/// The files that there are, by name.
pub(crate) fn statistics(root: &Path, id: &str) -> BTreeMap<String, String> {
    let directory = cgroup::path(root, id);
    let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(io::Result::ok);
    let hugetlb = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("hugetlb."))
        .take(MAX_HUGETLB);
    let names = STATISTICS.iter().map(ToString::to_string).chain(hugetlb);
    names.filter_map(|name| Some((name.clone(), read(&directory.join(name)).ok()?))).collect()
}

/// Writes all of the settings, or leaves every file as it was.
pub(crate) fn update(root: &Path, id: &str, settings: &[CgroupSetting]) -> Result<()> {
    let directory = cgroup::path(root, id);
    let mut undo = Vec::new();
    for setting in settings {
        let changed = change(&directory, setting, &mut undo);
        if changed.is_err() {
            for (file, value) in undo.iter().rev() {
                if let Err(error) = write(&directory.join(file), value) {
                    crate::log::note(format_args!(
                        "cgroup of {id:?}: {file}: {value:?} not restored: {error}"
                    ));
                }
            }
            return changed;
        }
    }
    Ok(())
}

fn change(directory: &Path, setting: &CgroupSetting, undo: &mut Vec<(String, String)>) -> Result<()> {
    let CgroupSetting { field, file, value } = setting;
    if file.is_empty() || file.contains('/') || file.starts_with('.') {
        return Err(setup(field, format_args!("{file:?}: not a file of a cgroup")));
    }
    let path = directory.join(file);
    let what = format!("{value:?}: {file}");
    let old = read(&path).named(field, &what)?;
    undo.extend(restoring(&old, value).into_iter().map(|value| (file.clone(), value)));
    write(&path, value).named(field, &what)
}

/// What has to be written, last one first, so that a file is again as it was before `new` was written to it.
///
/// A file with a line for each device (`io.max`) keeps the lines of others, and drops one that has no limit.
fn restoring(old: &str, new: &str) -> Vec<String> {
    let Some(device) = device(new) else { return vec![old.trim_end().to_owned()] };
    let line = old.lines().find(|line| line.split_whitespace().next() == Some(device));
    let keys = new.split_whitespace().skip(1).filter_map(|pair| pair.split_once('='));
    let unlimited: Vec<String> = keys.map(|(key, _)| format!("{key}=max")).collect();
    match line {
        Some(line) => vec![line.to_owned()],
        None if unlimited.is_empty() => vec![format!("{device} default")],
        None => vec![format!("{device} {}", unlimited.join(" "))],
    }
}

/// The device that a value is for.
fn device(value: &str) -> Option<&str> {
    let first = value.split_whitespace().next()?;
    let (major, minor) = first.split_once(':')?;
    (major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok()).then_some(first)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    // With a line end: nothing would be written of an empty value, which means "all" (cpuset.cpus).
    OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_known() {
        assert_eq!(restoring("max 100000\n", "5000 100000"), ["max 100000"]);
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(restoring(io, "8:16 rbps=7"), ["8:16 rbps=2 wbps=max riops=max wiops=max"]);
        assert_eq!(restoring(io, "9:0 rbps=7 wiops=3"), ["9:0 rbps=max wiops=max"]);
        assert_eq!(restoring("default 100\n", "8:0 50"), ["8:0 default"]);
    }
}
