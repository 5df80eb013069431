//! `events`: what the container uses, in runc's JSON.

use serde_json::Value;

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("verbs::events::statistics_once_and_again", statistics).cost(3)]
}

fn statistics(stage: &Stage) {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo worked; sleep 1000 & wait";
    let container = Container::started(stage.bundle(&["sh", "-c", script]));
    container.says("worked");
    let text = container.ok("events --stats ID");
    assert_eq!(text.lines().count(), 1, "{text}");
    check(&container, &text);
    let mut events = Running::start(&mut container.line("events --interval 200ms ID"));
    for _ in 0..2 {
        let line = events.line();
        check(&container, &line);
    }
    drop(events);
    let output = container.call("events --interval nonsense ID");
    assert!(output.status == 1 && output.stderr_text().contains("nonsense"), "{output:?}");
    container.end();
}

fn check(container: &Container<'_>, line: &str) {
    let event: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(&*container.bundle.id)));
    let data = &event["data"];
    let number = |pointer: &str| {
        data.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}: {event}"))
    };
    let total = number("/cpu/usage/total");
    // Nanoseconds: a loop of 20000 rounds takes more than a millisecond anywhere, and less than an hour.
    assert!((1_000_000..3_600_000_000_000).contains(&total), "{event}");
    assert!(number("/cpu/usage/user") + number("/cpu/usage/kernel") <= total + 10_000_000, "{event}");
    assert_eq!(number("/pids/current"), 2, "{event}");
    let memory = number("/memory/usage/usage");
    assert!((4096..1 << 30).contains(&memory), "{event}");
}
