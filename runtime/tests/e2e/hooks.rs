//! Hooks: when they run, what they are told, and what becomes of the container when one fails.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::{Container, until};
use crate::stage::Stage;
use crate::subject::Kind;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("hooks::each_runs_in_its_place_and_is_told_the_state", in_order).cost(3),
        Case::new("hooks::one_that_fails_prevents_the_container", |stage| {
            for name in ["prestart", "createRuntime", "createContainer"] {
                let container = Container::new(failing(stage, name));
                let output = container.make("create -b BUNDLE ID");
                assert!(output.status != 0, "{name}: {output:?}");
                assert!(output.stderr_text().contains("hook"), "{name}: {output:?}");
                container.assert_status("none");
            }
        })
        .cost(3),
        Case::new("hooks::one_that_fails_in_the_container_prevents_its_program", |stage| {
            let container = Container::created(failing(stage, "startContainer"));
            let output = container.call("start ID");
            // runc does not wait for its hook.
            assert!(output.status == 1 || stage.subject.kind == Kind::Other, "{output:?}");
            container.becomes("stopped");
            assert_eq!(container.stdout(), "");
            container.ok("delete ID");
        })
        .cost(2),
        Case::new("hooks::one_that_fails_afterwards_ends_the_container", |stage| {
            let container = Container::created(failing(stage, "poststart"));
            let output = container.call("start ID");
            assert!(output.status == 1 && output.stderr_text().contains("hooks.poststart[0]"), "{output:?}");
            container.becomes("stopped");
            container.ok("delete ID");
        })
        .drupe_only("runc 1.1 runs poststart at the end of create")
        .cost(2),
        Case::new("hooks::one_that_fails_afterwards_ends_run", |stage| {
            for line in ["run -b BUNDLE ID", "run -d -b BUNDLE ID"] {
                let container = Container::new(failing(stage, "poststart"));
                let output = container.make(line);
                assert!(output.status == 1 && output.stderr_text().contains("hook"), "{line}: {output:?}");
                container.assert_status("none");
            }
        })
        .cost(3),
        Case::new("hooks::those_of_the_runtime_are_no_part_of_the_container", |stage| {
            let data = stage.directory("data");
            let script = "umask; pwd; cat /proc/self/cgroup; exec grep SigBlk /proc/self/status";
            let script = format!("{{ {script}; }} >{}", data.join("hook").display());
            let hook =
                json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] });
            let bundle = stage.bundle(&["sleep", "1000"]).with(|config| {
                config["hooks"] = json!({ "createRuntime": [hook] });
            });
            let container = Container::created(bundle);
            let said = fs::read_to_string(data.join("hook")).expect("written by the hook");
            let own = fs::read_to_string("/proc/self/cgroup").expect("the kernel has cgroups");
            let dir = container.bundle.dir.to_str().expect("UTF-8");
            assert_eq!(said, format!("0022\n{dir}\n{own}SigBlk:\t0000000000000000\n"));
        }),
        Case::new("hooks::one_that_fails_at_the_end_does_not_keep_the_container", |stage| {
            let container = Container::started(failing(stage, "poststop"));
            container.ok("kill ID KILL");
            container.becomes("stopped");
            container.ok("delete ID");
            container.assert_status("none");
        })
        .cost(2),
        Case::new("hooks::one_that_takes_too_long_fails", |stage| {
            let hooks = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }] });
            let bundle = stage.bundle(&["true"]).with(|config| config["hooks"] = hooks);
            let container = Container::new(bundle);
            assert_ne!(container.make("create -b BUNDLE ID").status, 0);
            container.assert_status("none");
        }),
    ]
}

/// A bundle whose hook of this kind exits with 1.
fn failing<'stage>(stage: &'stage Stage, name: &str) -> crate::bundle::Bundle<'stage> {
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo complaint >&2; exit 1"] });
    stage
        .bundle(&["sh", "-c", "echo ran; exec sleep 1000"])
        .with(|config| config["hooks"] = json!({ name: [hook] }))
}

/// The kinds, each with the status that it is told.
const KINDS: [(&str, &str); 6] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("startContainer", "created"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

fn in_order(stage: &Stage) {
    let data = stage.directory("data");
    let hook = |kind: &str, number: u32| {
        // The one in the container sees the directory at another place.
        let dir = if kind == "startContainer" { Path::new("/data") } else { &data };
        let script = format!(
            "cd {} && cat >{kind}{number}.json && echo {kind} {number} $MARK $HOME >>order",
            dir.display()
        );
        json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["MARK=seen", "PATH=/bin:/usr/bin"] })
    };
    let hooks: serde_json::Map<_, _> =
        KINDS.iter().map(|(kind, _)| ((*kind).to_owned(), json!([hook(kind, 1), hook(kind, 2)]))).collect();
    let bundle = stage.bundle(&["sleep", "1000"]).bind(&data, "/data", &["rbind"]);
    let bundle = bundle.with(|config| {
        config["hooks"] = Value::Object(hooks);
        config["annotations"] = json!({ "key": "value" });
    });
    let order = || fs::read_to_string(data.join("order")).unwrap_or_default();
    let expected = |kinds: &[(&str, &str)]| {
        kinds.iter().map(|(kind, _)| format!("{kind} 1 seen\n{kind} 2 seen\n")).collect::<String>()
    };

    let container = Container::created(bundle);
    if stage.subject.kind == Kind::Drupe {
        assert_eq!(order(), expected(&KINDS[..3]));
    }
    let pid = container.state()["pid"].clone();
    container.ok("start ID");
    // runc 1.1 runs poststart at the end of create, and does not wait for what runs in the container.
    if stage.subject.kind == Kind::Drupe {
        assert_eq!(order(), expected(&KINDS[..5]));
    }
    assert!(until(|| order().lines().count() == 10), "{:?}", order());
    container.ok("kill ID KILL");
    container.becomes("stopped");
    container.ok("delete ID");
    if stage.subject.kind == Kind::Drupe {
        assert_eq!(order(), expected(&KINDS));
    }
    assert_eq!(order().lines().count(), 12);

    for (kind, status) in KINDS {
        let text = fs::read(data.join(format!("{kind}2.json"))).expect("written by the hook");
        let state: Value = serde_json::from_slice(&text).expect("the state on stdin");
        // runc 1.1 runs poststart when the container is only created.
        if kind != "poststart" || stage.subject.kind == Kind::Drupe {
            assert_eq!(state["status"], status, "{kind}");
        }
        assert_eq!(state["id"], container.bundle.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], container.bundle.dir.to_str().expect("UTF-8"), "{kind}");
        assert_eq!(state["annotations"]["key"], "value", "{kind}");
        if ["createRuntime", "poststart"].contains(&kind) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}
