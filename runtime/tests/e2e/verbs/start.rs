//! `start`: the program runs when it returns.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::case::Case;
use crate::container::{Container, until};
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::start::a_program_that_ends_leaves_a_stopped_container", |stage| {
            let container = Container::started(stage.bundle(&["sh", "-c", "echo done; exit 5"]));
            container.becomes("stopped");
            assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("done\n", ""));
            container.refused("start ID", "stopped");
            container.ok("delete ID");
        })
        .cost(2),
        Case::new("verbs::start::waits_for_a_create_that_is_under_way", under_way)
            .drupe_only("elsewhere a container that is being made does not exist yet")
            .cost(2),
    ]
}

/// A hook holds `create` up until the test lets it go on.
fn under_way(stage: &Stage) {
    let (entered, go_on) = (stage.path("entered"), stage.path("go-on"));
    let script = format!(
        "#!/bin/sh\ntouch {}\nwhile ! [ -e {} ]; do sleep 0.1; done\n",
        entered.display(),
        go_on.display()
    );
    let hook = stage.file("hook", &script);
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("own file");
    let bundle = stage.bundle(&["sh", "-c", "echo on; exec sleep 1000"]);
    let container = Container::new(
        bundle.with(|config| config["hooks"] = json!({ "createRuntime": [{ "path": hook }] })),
    );
    std::thread::scope(|scope| {
        let create = scope.spawn(|| container.make("create -b BUNDLE ID"));
        assert!(until(|| entered.exists()), "the hook does not run: {}", container.stderr());
        container.assert_status("creating");
        let start = Running::start(&mut container.line("start ID"));
        fs::write(&go_on, "").expect("own file");
        assert_eq!(create.join().expect("create").status, 0);
        start.finish().assert(0, "");
    });
    container.says("on");
    container.end();
}
