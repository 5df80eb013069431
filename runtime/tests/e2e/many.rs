//! Several containers, and containers whose runtime is killed.

use rustix::process::Signal;

use crate::bad_input::assert_refused;
use crate::bundle::Image;
use crate::case::{Case, scaled};
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("many::20_at_once", at_once).cost(20),
        Case::new("many::an_id_can_be_used_again", |stage| {
            let bundle = stage.bundle(&["sh", "-c", "echo $((2 + 2)); exit 2"]);
            for _ in 0..3 {
                bundle.run().assert(2, "4\n");
            }
        })
        .cost(3),
        Case::new("many::a_killed_run_leaves_no_process", killed)
            .drupe_only("elsewhere a container outlives the command that runs it")
            .cost(3),
        Case::new("many::an_id_in_use_is_refused", id_in_use).cost(2),
    ]
}

/// All are seen running at the same time, before any of them may end.
fn at_once(stage: &Stage) {
    let args = ["sh", "-c", "echo ready; read -r word; echo $((word * word)); exit $word"];
    let count = if scaled(1) == 1 { 20 } else { 40 };
    let mut all: Vec<_> = (0..count).map(|_| stage.shared(Image::Busybox, &args).start()).collect();
    for running in &mut all {
        assert_eq!(running.line(), "ready");
    }
    for (n, running) in all.iter_mut().enumerate() {
        assert!(!running.ended());
        running.send(format!("{n}\n").as_bytes());
    }
    for (n, running) in (0..).zip(all) {
        running.finish().assert(n, &format!("{}\n", n * n));
    }
}

/// SIGKILL at different moments, then the same id once more. That nothing is left at the end is checked for
/// every case; here nothing but the state may be left after each kill.
fn killed(stage: &Stage) {
    let mut container = Container::new(stage.bundle(&["sh", "-c", "echo ready; sleep 1000"]));
    for early in [false, true] {
        let mut running = container.bundle.start();
        if !early {
            assert_eq!(running.line(), "ready");
            assert!(stage.processes().iter().any(|(pid, _)| *pid == running.pid()));
        }
        running.signal(Signal::KILL);
        assert_eq!(running.finish_by_signal(), Some(9));
        let gone = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            stage.processes().is_empty()
        });
        assert!(gone, "still there: {:?}", stage.processes());
        if early {
            container.ok("delete --force ID");
        } else {
            container.assert_status("stopped");
            container.ok("delete ID");
        }
    }
    container.bundle.config["process"]["args"][2] = serde_json::json!("echo again; exit 8");
    container.bundle.run().assert(8, "again\n");
}

/// The second is refused, and the first does not notice.
fn id_in_use(stage: &Stage) {
    let bundle = stage.bundle(&["sh", "-c", "echo ready; read -r word; echo \"$word\""]);
    let mut first = bundle.start();
    assert_eq!(first.line(), "ready");
    let second = bundle.run();
    assert_refused(stage, &second, 1, &["container with given ID already exists"]);
    first.send(b"unharmed\n");
    first.finish().assert(0, "unharmed\n");
}
