//! `resume`: the container goes on as if nothing had been.

use std::thread;
use std::time::{Duration, SystemTime};

use crate::case::Case;
use crate::container::Container;

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

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
