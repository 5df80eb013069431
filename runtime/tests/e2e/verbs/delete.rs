//! `delete`: nothing of the container stays.

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::delete::only_what_has_stopped_unless_forced", forced).cost(3),
        Case::new("verbs::delete::force_needs_no_container", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            container.refused("delete ID", "does not exist");
            container.ok("delete --force ID");
            container.ok("delete -f ID");
        })
        .before_any_machine(),
        Case::new("verbs::delete::force_ends_what_was_not_started", |stage| {
            let container = Container::created(stage.bundle(&["true"]));
            container.ok("delete -f ID");
            container.assert_status("none");
            assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("", ""));
        }),
        Case::new("verbs::delete::what_was_not_started_is_ended", |stage| {
            let container = Container::created(stage.bundle(&["echo", "ran"]));
            container.ok("delete ID");
            container.assert_status("none");
            assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("", ""));
        }),
    ]
}

fn forced(stage: &Stage) {
    let container = Container::started(stage.bundle(&["sh", "-c", "echo up; exec sleep 1000"]));
    container.says("up");
    container.refused("delete ID", "not stopped");
    container.assert_status("running");
    container.ok("delete --force ID");
    container.assert_status("none");
    container.refused("delete ID", "does not exist");
    // The id is free again.
    assert_eq!(container.make("create -b BUNDLE ID").status, 0);
    container.assert_status("created");
    container.ok("delete -f ID");
}
