//! Standard streams that carry much, or whose other end is slow or gone.

use std::fs;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::case::Case;
use crate::pattern;
use crate::running::Running;
use crate::stage::Stage;
use crate::stdio::assert_pattern;

const MIB: u64 = 1 << 20;

/// Much more than all buffers between a workload and its reader may hold together.
const FLOOD: u64 = 24 * MIB;

/// What the runtime's memory may grow by while a reader is slow.
const GROWTH_KIB: u64 = 4096;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("streaming::100_mib_through_cat", through_cat).cost(12),
        Case::new("streaming::sha256_of_stdin", sha256_of_stdin).cost(4),
        Case::new("streaming::slow_reader_loses_nothing_and_memory_stays", slow_reader).cost(10),
        Case::new("streaming::a_workload_that_does_not_read_holds_its_writer", slow_workload).cost(3),
        Case::new("streaming::reader_that_leaves_ends_the_writer", reader_leaves),
        Case::new("streaming::reader_that_leaves_does_not_hide_the_status", status_after_reader_left),
    ]
}

/// Sends the pattern and reads it back at once; every byte is compared.
fn through_cat(stage: &Stage) {
    let size = 100 * MIB;
    let mut running = stage.bundle(&["cat"]).start();
    let mut stdin = running.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || send_pattern(&mut stdin, size));
    let mut stdout = running.stdout.take().expect("a pipe");
    let (mut got, mut expected) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut position = 0;
    loop {
        let count = stdout.read(&mut got).expect("a pipe can be read");
        if count == 0 {
            break;
        }
        pattern::fill(position, &mut expected[..count]);
        assert!(got[..count] == expected[..count], "wrong bytes between {position} and {count} later");
        position += count as u64;
    }
    writer.join().expect("the writer").expect("the container reads its stdin");
    running.finish().assert(0, "");
    assert_eq!(position, size);
}

fn send_pattern(stdin: &mut impl Write, size: u64) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    for position in (0..size).step_by(piece.len()) {
        pattern::fill(position, &mut piece);
        stdin.write_all(&piece)?;
    }
    Ok(())
}

/// The workload's own tool sees the bytes that were sent.
fn sha256_of_stdin(stage: &Stage) {
    let bytes = pattern_of(8 * MIB);
    let here = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut here = here.expect("sha256sum");
    here.stdin.take().expect("a pipe").write_all(&bytes).expect("sha256sum reads");
    let here = here.wait_with_output().expect("sha256sum");
    let there = stage.bundle(&["sha256sum"]).run_with(&bytes);
    there.assert(0, &String::from_utf8_lossy(&here.stdout));
}

/// 1 KiB a second for some seconds. The workload must be held back (else the bytes would be in somebody's
/// memory), the runtime must not grow, and in the end every byte must have come.
fn slow_reader(stage: &Stage) {
    let out = stage.directory("out");
    let script = format!("/probe flood {FLOOD}; echo >/out/done");
    let bundle = stage.probe(&["sh", "-c", &script]).bind(&out, "/out", &["rbind", "rw"]);
    let mut running = bundle.start();
    let mut got = vec![0; 1024];
    running.stdout.as_mut().expect("a pipe").read_exact(&mut got).expect("the first KiB");
    thread::sleep(Duration::from_secs(2)); // buffers fill, the machine comes to rest
    let before = memory(stage);
    assert!(before > 0, "the runtime's memory cannot be read");
    for _ in 0..4 {
        thread::sleep(Duration::from_secs(1));
        let mut piece = [0; 1024];
        running.stdout.as_mut().expect("a pipe").read_exact(&mut piece).expect("another KiB");
        got.extend(piece);
    }
    let after = memory(stage);
    assert!(!out.join("done").exists(), "the workload has written {FLOOD} bytes that nobody has read");
    assert!(after <= before + GROWTH_KIB, "the runtime grew from {before} to {after} KiB");
    let output = running.finish();
    output.assert_status(0);
    got.extend(output.stdout);
    assert_pattern(&got, usize::try_from(FLOOD).expect("fits"));
    assert!(out.join("done").exists());
}

/// The other direction: a workload that does not read stops whoever writes to it, and loses nothing.
fn slow_workload(stage: &Stage) {
    let out = stage.directory("out");
    let script = "echo ready; while [ ! -e /out/go ]; do sleep 0.1; done; sha256sum";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&out, "/out", &["rbind", "rw"]);
    let mut running = bundle.start();
    assert_eq!(running.line(), "ready");
    let mut stdin = running.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || send_pattern(&mut stdin, FLOOD));
    thread::sleep(Duration::from_secs(2));
    let before = memory(stage);
    thread::sleep(Duration::from_secs(2));
    assert!(!writer.is_finished(), "{FLOOD} bytes went to a workload that reads none");
    let after = memory(stage);
    assert!(after <= before + GROWTH_KIB, "the runtime grew from {before} to {after} KiB");
    fs::write(out.join("go"), "").expect("own directory");
    let output = running.finish();
    writer.join().expect("the writer").expect("the container reads its stdin");
    output.assert_status(0);
    let expected = stage.bundle(&["sha256sum"]).run_with(&pattern_of(FLOOD));
    assert_eq!(output.stdout, expected.stdout);
}

fn pattern_of(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).expect("fits")];
    pattern::fill(0, &mut bytes);
    bytes
}

/// Anonymous memory of all processes of the runtime, in KiB.
fn memory(stage: &Stage) -> u64 {
    stage.processes().iter().map(|(pid, _)| Running::anonymous_kib(*pid)).sum()
}

/// `yes | head -n 1`, with the pipe outside: SIGPIPE must reach the workload.
fn reader_leaves(stage: &Stage) {
    let out = stage.directory("out");
    let script = "yes; echo $? >/out/status";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&out, "/out", &["rbind", "rw"]);
    let mut running = bundle.start();
    assert_eq!(running.line(), "y");
    running.stdout = None;
    running.finish().assert(0, "");
    let status = fs::read_to_string(out.join("status")).expect("the script went on");
    assert_eq!(status, "141\n"); // 128 + SIGPIPE
}

fn status_after_reader_left(stage: &Stage) {
    let mut running = stage.bundle(&["sh", "-c", "echo ready; cat; exit 11"]).start();
    assert_eq!(running.line(), "ready");
    running.stdout = None;
    running.stderr = None;
    running.close_stdin();
    running.finish().assert(11, "");
}
