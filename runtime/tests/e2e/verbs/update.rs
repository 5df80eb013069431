//! `update`: new limits of a container that runs.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("verbs::update::limits_hold_in_the_container", limits).cost(5)]
}

fn limits(stage: &Stage) {
    let bundle = stage.bundle(&["sleep", "1000"]).with(|config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 }, "memory": { "limit": 134_217_728 } });
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({ "type": "cgroup" }));
    });
    let container = Container::started(bundle);
    let file = |name: &str| {
        let output = container.exec(&["cat", &format!("/sys/fs/cgroup/{name}")]);
        output.assert_status(0);
        output.stdout_text().trim().to_owned()
    };
    assert_eq!((file("pids.max"), file("memory.max")), ("50".into(), "134217728".into()));
    container.ok("update --pids-limit 40 --memory 100M ID");
    assert_eq!((file("pids.max"), file("memory.max")), ("40".into(), "104857600".into()));
    container.ok("update --cpu-quota 20000 --cpu-period 100000 ID");
    assert_eq!(file("cpu.max"), "20000 100000");

    let resources = json!({ "pids": { "limit": 30 }, "cpu": { "quota": 50_000 } }).to_string();
    let mut update = Running::start(container.line("update --resources - ID").stdin(Stdio::piped()));
    update.stdin.as_mut().expect("a pipe").write_all(resources.as_bytes()).expect("it reads");
    update.close_stdin();
    update.finish().assert(0, "");
    assert_eq!(file("pids.max"), "30");
    assert!(file("cpu.max").starts_with("50000 "));

    for wrong in ["--memory much", "--pids-limit many", "--resources /no/such/file"] {
        let output = container.call(&format!("update {wrong} ID"));
        let value = wrong.split(' ').next_back().expect("a word");
        assert!(output.status == 1 && output.stderr_text().contains(value), "{wrong}: {output:?}");
    }
    assert_eq!(file("pids.max"), "30");
    container.end();
}
