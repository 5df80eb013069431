//! `state`: the JSON that callers read.

use std::fs;

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::state::the_json_of_every_status", fields).cost(2),
        Case::new("verbs::state::an_unknown_id_does_not_exist", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            container.refused("state ID", "does not exist");
            let log = stage.path("log");
            let mut state = container.words(&["--log-format", "json", "--log"]);
            let output = state.arg(&log).args(["state", &container.bundle.id]).output().expect("the runtime");
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
            // On stderr too, for callers that show it.
            assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"), "{output:?}");
            let text = fs::read_to_string(log).expect("the log");
            let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
            assert_eq!(last["level"], "error");
            assert!(last["msg"].as_str().expect("msg").contains("does not exist"), "{last}");
            assert!(last["time"].is_string());
        })
        .before_any_machine(),
    ]
}

fn fields(stage: &Stage) {
    let bundle = stage.bundle(&["sleep", "1000"]);
    let annotations = json!({ "org.example.key": "value", "b": "" });
    let container = Container::created(bundle.with(|config| config["annotations"] = annotations.clone()));
    let created = container.state();
    container.ok("start ID");
    let running = container.state();
    container.ok("kill ID KILL");
    container.becomes("stopped");
    let stopped = container.state();
    for (status, state) in [("created", &created), ("running", &running), ("stopped", &stopped)] {
        assert_eq!(state["status"], status);
        assert_eq!(state["id"], container.bundle.id.as_str());
        assert_eq!(state["bundle"], container.bundle.dir.to_str().expect("UTF-8"));
        assert_eq!(state["rootfs"], container.bundle.rootfs().to_str().expect("UTF-8"));
        assert_eq!(state["annotations"], annotations);
        assert!(state["ociVersion"].as_str().expect("ociVersion").starts_with("1."));
        assert_eq!(state["created"], created["created"]);
        assert_eq!(state["owner"], "");
    }
    assert!(created["pid"].as_u64().expect("pid") > 1);
    assert_eq!((&running["pid"], &stopped["pid"]), (&created["pid"], &json!(0)));
    let time = created["created"].as_str().expect("created");
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
    container.ok("delete ID");
}
