//! `ps`: the processes of the container.

use serde_json::Value;

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("verbs::ps::the_processes_of_the_container_and_no_other", processes).cost(3)]
}

fn processes(stage: &Stage) {
    let script = "sleep 1111 & sleep 2222 & echo up; wait";
    let container = Container::started(stage.bundle(&["sh", "-c", script]));
    container.says("up");
    let table = container.ok("ps ID");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].split_whitespace().any(|word| word == "PID"), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    for command in ["sleep 1111", "sleep 2222"] {
        assert!(lines.iter().any(|line| line.ends_with(command)), "{table}");
    }
    let pids: Vec<i64> = serde_json::from_str(&container.ok("ps --format json ID")).expect("a list of pids");
    assert_eq!(pids.len(), 3);
    let table = container.ok("ps ID -o pid,args");
    let pid_of = |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    let mut listed: Vec<_> = table.lines().filter_map(pid_of).collect();
    listed.sort_unstable();
    let mut pids = pids;
    pids.sort_unstable();
    assert_eq!(listed, pids, "{table}");
    container.refused("ps --format yaml ID", "format");
    let empty = Value::Array(Vec::new());
    assert_ne!(serde_json::from_str::<Value>(&container.ok("ps -f json ID")).expect("JSON"), empty);
    container.end();
}
