//! Power cuts: what a container was told is on disk is there when the disk is mounted again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::bundle::probe_program;
use crate::case::Case;
use crate::disk::Disk;
use crate::pattern;
use crate::running::Running;
use crate::stage::Stage;
use crate::{VOLUME_INSIDE, is_full};

/// How many cuts there are in all, and of how many one is made when a sample is enough.
const CUTS: u64 = 20;
const SAMPLE: usize = 10;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("power_cut::what_was_synced_is_there", synced).cost(15),
        Case::new("power_cut::what_was_not_synced_is_missed", not_synced).cost(3),
    ]
}

fn synced(stage: &Stage) {
    let disk = Disk::new(stage, 256);
    for seed in (1..=CUTS).step_by(if is_full() { 1 } else { SAMPLE }) {
        let missing = cut(stage, &disk, seed, true);
        assert_eq!(missing, "", "acknowledged before the cut with seed {seed}, and not there after it");
    }
}

/// That losses are found: with nothing synced, almost nothing is there.
fn not_synced(stage: &Stage) {
    let disk = Disk::new(stage, 256);
    let missing = cut(stage, &disk, 1, false);
    for kind in ["append ", "append-data ", "append-through ", "create ", "map ", "replace ", "sync "] {
        assert!(missing.lines().any(|line| line.starts_with(kind)), "{kind}is there: {missing}");
    }
}

/// One cut at a moment that the seed decides; what is missing afterwards.
fn cut(stage: &Stage, disk: &Disk, seed: u64, synced: bool) -> String {
    let name = format!("volume-{seed}");
    let volume = disk.directory(&name);
    let number = seed.to_string();
    let words = ["/probe", "record", VOLUME_INSIDE, &number, "unsynced"];
    let words = if synced { &words[..4] } else { &words[..] };
    let bundle = stage.probe(words).bind(&volume, VOLUME_INSIDE, &["rbind", "rw"]);
    let mut running = bundle.start();
    let (acknowledgements, delay) = moment(seed);
    let mut last = BTreeMap::new();
    for _ in 0..acknowledgements {
        note(&mut last, &running.line());
    }
    thread::sleep(delay);
    disk.shut_down();
    // What the cut made fail ends the workload. Where it did not come to that, this does.
    let mut kill = Command::new(&stage.subject.program);
    kill.arg("--root").arg(stage.state()).args(["kill", &bundle.id, "KILL"]);
    let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let output = running.finish();
    let text = output.stdout_text();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().for_each(|line| note(&mut last, line));

    disk.unmount();
    disk.mount();
    missing(&volume, &last)
}

/// How many acknowledgements to wait for, and how long after the last.
fn moment(seed: u64) -> (u64, Duration) {
    let mut bytes = [0; 4];
    pattern::fill(seed << 20, &mut bytes);
    let [first, second, ..] = bytes;
    (60 + u64::from(first) / 4, Duration::from_micros(u64::from(second) * 50))
}

/// Remembers the last record of its kind.
fn note(last: &mut BTreeMap<String, String>, line: &str) {
    let (kind, number) = line.split_once(' ').unwrap_or_else(|| panic!("not an acknowledgement: {line:?}"));
    last.insert(kind.to_owned(), number.to_owned());
}

fn missing(volume: &Path, last: &BTreeMap<String, String>) -> String {
    let mut command = Command::new(probe_program());
    command.arg("recorded").arg(volume);
    last.iter().for_each(|(kind, number)| _ = command.arg(kind).arg(number));
    let output = Running::start(command.stdin(Stdio::null())).finish();
    output.assert_status(0);
    output.stdout_text()
}
