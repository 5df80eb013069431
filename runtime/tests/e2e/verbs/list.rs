//! `list`: the containers below --root.

use std::fs;

use serde_json::Value;

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::list::every_container_in_every_form", forms).cost(3),
        Case::new("verbs::list::a_root_without_containers", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            for _ in 0..2 {
                assert_eq!(container.ok("list -q"), "");
                assert_eq!(container.ok("list").lines().count(), 1);
                let json = container.ok("list --format json");
                assert!(["null", "[]"].contains(&json.trim()), "{json}");
                // Not made yet, then empty.
                fs::create_dir_all(stage.state()).expect("own directory");
            }
            container.refused("list --format yaml", "format");
        })
        .before_any_machine(),
    ]
}

fn forms(stage: &Stage) {
    let created = Container::created(stage.bundle(&["true"]));
    let running = Container::started(stage.bundle(&["sleep", "1000"]));
    let (first, second) = (&created.bundle.id, &running.bundle.id);
    assert_eq!(created.ok("list --quiet"), format!("{first}\n{second}\n"));
    let table = created.ok("list");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for (row, container, status) in [(&rows[1], &created, "created"), (&rows[2], &running, "running")] {
        let state = container.state();
        let bundle = container.bundle.dir.to_str().expect("UTF-8");
        let expected = [&container.bundle.id, &state["pid"].to_string(), status, bundle];
        assert_eq!(row[..4], expected);
        assert_eq!(row[4], state["created"].as_str().expect("created"));
        assert_eq!(row[5], "root");
    }
    let list: Value = serde_json::from_str(&created.ok("list -f json")).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    for (entry, container) in list.as_array().expect("a list").iter().zip([&created, &running]) {
        let state = container.state();
        for field in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created"] {
            assert_eq!(entry[field], state[field], "{field}");
        }
        assert_eq!(entry["owner"], "root");
    }
    created.ok("delete --force ID");
    running.end();
    assert_eq!(created.ok("list -q"), "");
}
