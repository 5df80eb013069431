//! `events`: what the container uses, in runc's JSON.

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::events::statistics_once_and_again", statistics).cost(3),
        Case::new("verbs::events::the_json_has_the_keys_that_clients_read", keys).cost(2),
    ]
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

/// Every key of the JSON at this place, sorted.
fn keys_of<'a>(data: &'a Value, pointer: &str) -> Vec<&'a str> {
    let object = data.pointer(pointer).and_then(Value::as_object);
    object.unwrap_or_else(|| panic!("no {pointer}: {data}")).keys().map(String::as_str).collect()
}

fn keys(stage: &Stage) {
    let bundle = stage.bundle(&["sh", "-c", "echo begun; sleep 1000 & wait"]).with(|config| {
        config["linux"]["resources"] = json!({
            "pids": { "limit": 50 },
            "memory": { "limit": 134_217_728 },
            "cpu": { "quota": 90_000, "period": 100_000 },
        });
    });
    let container = Container::started(bundle);
    container.says("begun");
    let event: Value = serde_json::from_str(&container.ok("events --stats ID")).expect("JSON");
    assert_eq!(keys_of(&event, ""), ["data", "id", "type"]);
    let data = &event["data"];
    let areas = ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"];
    // What runc has no word for.
    let known: Vec<_> = keys_of(data, "").into_iter().filter(|key| *key != "filesystem").collect();
    assert_eq!(known, areas);
    for (place, needed, possible) in [
        ("/cpu", "throttling usage", "psi"),
        ("/cpu/usage", "kernel total user", ""),
        ("/cpu/throttling", "periods", "throttledPeriods throttledTime"),
        ("/memory", "cache kernel kernelTCP raw swap usage", "psi"),
        ("/memory/usage", "failcnt limit usage", "max"),
        ("/memory/swap", "failcnt limit usage", "max"),
        ("/memory/kernel", "failcnt limit", "usage max"),
        ("/memory/kernelTCP", "failcnt limit", "usage max"),
        ("/pids", "current limit", ""),
        ("/hugetlb/2MB", "failcnt", "usage max"),
    ] {
        let there = keys_of(data, place);
        for key in needed.split(' ') {
            assert!(there.contains(&key), "{place} has no {key}: {data}");
        }
        let known = |key: &&str| needed.split(' ').chain(possible.split(' ')).any(|known| known == *key);
        assert!(there.iter().all(known), "{place} has others than {needed} {possible}: {data}");
        let numbers = data.pointer(place).and_then(Value::as_object).into_iter().flat_map(|all| all.values());
        let are_numbers = numbers.clone().all(|value| value.is_u64() || value.is_object());
        assert!(are_numbers, "{place}: {data}");
    }
    for key in ["anon", "file", "inactive_file", "kernel_stack", "pgfault", "slab"] {
        assert!(data["memory"]["raw"][key].is_u64(), "{key}: {data}");
    }
    assert_eq!((&data["pids"]["limit"], &data["pids"]["current"]), (&json!(50), &json!(2)));
    assert_eq!(data["memory"]["usage"]["limit"], 134_217_728);
    assert_eq!((&data["intel_rdt"], &data["network_interfaces"]), (&json!({}), &Value::Null));
    container.end();
}
