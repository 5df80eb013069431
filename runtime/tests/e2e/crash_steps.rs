//! SIGKILL before each step that drupe takes, one after another: `delete --force` removes what is left, and the id can
//! be used again. In the soak every step, otherwise some that are spread over all of them.

use std::collections::BTreeSet;
use std::fs;

use crate::case::{Case, scaled};
use crate::container::Container;
use crate::stage::Stage;
use crate::steps::{Walk, Whose, follow};

pub(crate) fn cases() -> Vec<Case> {
    let walk = |verb: &'static str, whose: &'static str, cost, way: Way| {
        Case::new(format!("crash::of_{whose}_at_each_step_of_{verb}"), move |stage| way.walk(stage))
            .drupe_only("the promise is drupe's")
            .cost(cost)
    };
    let create =
        |monitor, every, fewest, among| Way { line: CREATE, made: false, monitor, every, fewest, among };
    let made = |line, monitor, every, fewest, among| Way { line, made: true, monitor, every, fewest, among };
    vec![
        walk(
            "create",
            "command",
            8,
            create(false, 4, 15, &["mkdirat", "openat", "lock", "renameat", "renameat2", "flock"]),
        ),
        walk(
            "create",
            "monitor",
            10,
            create(true, 6, 20, &["prctl", "setsid", "KVM_CREATE_VM", "KVM_CREATE_VCPU", "renameat"]),
        ),
        walk("start", "command", 4, made("start ID", false, 2, 3, &["connect", "exit_group"])),
        walk("start", "monitor", 4, made("start ID", true, 2, 2, &["renameat"])),
        walk(
            "delete",
            "command",
            8,
            made("delete --force ID", false, 4, 10, &["connect", "flock", "renameat2", "unlinkat"]),
        ),
        walk("delete", "monitor", 6, made("delete --force ID", true, 2, 3, &["renameat", "exit_group"])),
    ]
}

const CREATE: &str = "create -b BUNDLE --pid-file FILE ID";

/// What is followed, and what must have been seen for the case to mean something.
#[derive(Clone, Copy)]
struct Way {
    line: &'static str,
    /// The container is created before.
    made: bool,
    /// The monitor is followed, and not the command.
    monitor: bool,
    /// One step in so many is tried.
    every: usize,
    /// How many steps there are at least.
    fewest: usize,
    /// Some of them.
    among: &'static [&'static str],
}

impl Way {
    fn walk(self, stage: &Stage) {
        let container = Container::new(stage.bundle(&["sh", "-c", "echo up; exec sleep 1000"]));
        let all = self.once(&container, None).steps;
        self.assert_nothing_left(stage, &container, &all);
        assert!(all.len() >= self.fewest, "{all:?}");
        for name in self.among {
            assert!(all.iter().any(|step| step == name), "no {name} in {all:?}");
        }
        let every = if scaled(1) == 1 { self.every } else { 1 };
        let (mut tried, mut killed) = (0, BTreeSet::new());
        for last in (1..=all.len()).step_by(every) {
            tried += 1;
            let Walk { steps, killed: ended } = self.once(&container, Some(last));
            if ended {
                assert_eq!(steps.len(), last, "{steps:?}");
                killed.insert(last);
            }
            self.assert_nothing_left(stage, &container, &steps);
        }
        // How often a monitor waits, and for what, differs a little from run to run.
        assert!(killed.len() * 4 >= tried * 3, "{tried} tried, killed before {killed:?} of {all:?}");
        container.make("create -b BUNDLE ID").assert_status(0);
        container.ok("start ID");
        container.assert_status("running");
        container.end();
    }

    fn once(self, container: &Container<'_>, last: Option<usize>) -> Walk {
        if self.made {
            container.make("create -b BUNDLE ID").assert_status(0);
        }
        let whose = match (self.monitor, self.made) {
            (false, _) => Whose::Command,
            (true, false) => Whose::Child,
            (true, true) => {
                let pid = container.state()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
                Whose::Process(pid.expect("a pid"))
            }
        };
        let file = container.bundle.dir.with_extension("pid");
        let words: Vec<_> = self
            .line
            .split(' ')
            .map(|word| if word == "FILE" { file.to_str().expect("UTF-8") } else { word })
            .collect();
        let streams = || fs::File::create(container.bundle.dir.with_extension("said")).expect("an own file");
        follow(container.words(&words).stdout(streams()).stderr(streams()), whose, last)
    }

    #[track_caller]
    fn assert_nothing_left(self, stage: &Stage, container: &Container<'_>, steps: &[String]) {
        let output = container.call("delete --force ID");
        assert!(output.status == 0 && output.stderr.is_empty(), "after {steps:?}: {output:?}");
        container.assert_status("none");
        stage.assert_nothing_left();
    }
}
