//! `resume`: the container goes on as if nothing had been.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::resume::the_clock_is_right_again", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            container.ok("pause ID");
            // Longer than what is allowed below, so that a clock that stood still is noticed.
            thread::sleep(Duration::from_secs(5));
            container.ok("resume ID");
            let before = now();
            let output = container.exec(&["date", "+%s"]);
            output.assert_status(0);
            let seen: u64 = output.stdout_text().trim().parse().expect("seconds");
            assert!((before.saturating_sub(2)..=now() + 2).contains(&seen), "{before} {seen} {}", now());
            container.end();
        })
        .cost(3),
        Case::new("verbs::resume::no_process_sees_a_clock_that_stood_still", first_instant).cost(3),
        Case::new("verbs::resume::a_container_that_was_not_started_is_created_again", |stage| {
            let container = Container::created(stage.bundle(&["sh", "-c", "echo ran"]));
            container.ok("pause ID");
            container.assert_status("paused");
            container.ok("resume ID");
            container.assert_status("created");
            container.ok("start ID");
            container.says("ran");
            container.becomes("stopped");
            container.ok("delete ID");
        })
        .cost(2),
    ]
}

/// The container tells what time it was, and how long it took from then on to make a file. When that was made is known
/// by the host's clock too.
fn first_instant(stage: &Stage) {
    const TOLERANCE_NS: i128 = 100_000_000;
    let data = stage.directory("data");
    let bundle = stage.probe(&["/probe", "resumed", "/data/made"]).bind(&data, "/data", &["rbind"]);
    let container = Container::started(bundle);
    container.says("ready");
    let made = data.join("made");
    container.ok("pause ID");
    assert!(!made.exists(), "the container thinks that it stood still before");
    thread::sleep(Duration::from_secs(2));
    container.ok("resume ID");
    container.becomes("stopped");
    let output = container.stdout();
    let numbers: Vec<i128> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[seen, took] = &numbers[..] else { panic!("{output:?}; {:?}", container.stderr()) };
    let metadata = fs::metadata(&made).expect("a file of the container");
    let host = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let apart = host - seen;
    let right = (-TOLERANCE_NS..=took + TOLERANCE_NS).contains(&apart);
    assert!(right, "{apart} ns apart, of which the making of the file took at most {took}");
    container.ok("delete ID");
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
