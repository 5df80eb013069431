//! `create`: the container is ready, and nothing of its program has run.

use std::fs::{self, File};
use std::process::Stdio;

use crate::caller;
use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::create::the_program_runs_at_start_and_not_before", before_start).cost(2),
        Case::new(
            "verbs::create::the_pid_file_names_a_process_that_ends_as_the_container_does",
            caller_waits,
        )
        .cost(2),
        Case::new("verbs::create::stdin_is_the_callers", |stage| {
            let input = stage.file("input", "one\ntwo\n");
            let container = Container::new(stage.bundle(&["sh", "-c", "cat; echo end"]));
            let mut create = container.line("create -b BUNDLE ID");
            create.stdin(Stdio::from(File::open(input).expect("own file")));
            container.make_with(&mut create).assert(0, "");
            container.ok("start ID");
            container.becomes("stopped");
            assert_eq!(container.stdout(), "one\ntwo\nend\n");
            container.ok("delete ID");
        })
        .cost(2),
        Case::new("verbs::create::what_fails_leaves_nothing", |stage| {
            let container = Container::new(stage.bundle(&["/no/such/program"]));
            let output = container.make("create -b BUNDLE ID");
            // Some runtimes notice when they prepare, others when they execute.
            if output.status == 0 {
                container.refused("start ID", "/no/such/program");
                container.ok("delete --force ID");
            } else {
                assert!(output.stderr_text().contains("/no/such/program"), "{output:?}");
            }
            container.assert_status("none");
        }),
        Case::new("verbs::create::a_pid_file_that_cannot_be_written", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            let output = container.make("create -b BUNDLE --pid-file /no/such/dir/pid ID");
            assert_eq!((output.status, output.stdout_text().as_str()), (1, ""));
            assert!(output.stderr_text().contains("/no/such/dir/"), "{output:?}");
            container.assert_status("none");
        }),
        Case::new("verbs::create::an_id_that_is_a_path", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            for id in ["../x", "a/b", "..", ""] {
                let output = container.make_with(&mut container.words(&["create", "-b", "BUNDLE", id]));
                assert_ne!(output.status, 0, "{id:?}");
            }
        })
        .before_any_machine(),
    ]
}

fn before_start(stage: &Stage) {
    let data = stage.directory("data");
    let bundle = stage.bundle(&["sh", "-c", "echo ran >/data/ran; echo out; exec sleep 1000"]);
    let container = Container::new(bundle.bind(&data, "/data", &["rbind"]));
    let pid_file = stage.path("pid");
    let mut create = container.words(&["create", "--bundle", "BUNDLE", "--pid-file"]);
    container.make_with(create.arg(&pid_file).arg(&container.bundle.id)).assert(0, "");
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(fs::read_to_string(&pid_file).expect("the pid file"), state["pid"].to_string());
    assert!(fs::exists(format!("/proc/{}", state["pid"])).expect("/proc"));
    assert!(!data.join("ran").exists());

    container.ok("start ID");
    container.says("out");
    let running = container.state();
    assert_eq!((&running["status"], &running["pid"]), (&"running".into(), &state["pid"]));
    assert_eq!(fs::read_to_string(data.join("ran")).expect("written by the program"), "ran\n");
    assert_eq!(container.stderr(), "");
    container.end();
}

/// As conmon does: the process of the pid file becomes a child of the caller, which waits for it.
fn caller_waits(stage: &Stage) {
    for (script, status) in [("exit 23", 23), ("kill -KILL $$; sleep 1000", 137)] {
        let container = Container::new(stage.bundle(&["sh", "-c", script]).without_namespace("pid"));
        assert_eq!(caller::waits(&container), status);
        container.assert_status("stopped");
        container.ok("delete ID");
    }
}
