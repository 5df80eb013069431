//! `podman exec`, and what else looks into a container that runs.

use crate::Case;
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("podman::exec", exec),
        Case::new("podman::exec_on_terminal", exec_on_terminal),
        Case::new("podman::healthcheck", healthcheck),
        Case::new("podman::stats", stats),
    ]
}

fn exec(subject: &Subject) {
    let podman = subject.podman();
    let container = podman.start("exec", &["--env", "OWN=1"], &["sleep", "1000"]);
    let script = "echo $OWN $KEY; id -u; pwd; echo err >&2; exit 5";
    let done =
        container.exec(&["--env", "KEY=2", "--user", "1000", "--workdir", "/tmp"], &["sh", "-c", script]);
    assert_eq!((done.status(5), done.stderr.as_str()), ("1 2\n1000\n/tmp", "err\n"));
    assert_eq!(container.exec(&[], &["cat", "/proc/1/comm"]).ok(), "sleep");
    container.exec(&[], &["no-such-program"]).status(127);
    container.exec(&[], &["/etc/passwd"]).status(126);
    let done = podman.run_with_input(&["exec", "-i", "exec", "cat"], "through\n");
    assert_eq!(done.ok(), "through");
    container.exec(&["--detach"], &["touch", "/tmp/detached"]).ok();
    crate::done::eventually("a detached exec", || container.exec(&[], &["ls", "/tmp/detached"]).status == 0);
}

fn exec_on_terminal(subject: &Subject) {
    let podman = subject.podman();
    let _container = podman.start("terminal", &[], &["sleep", "1000"]);
    let script = "test -t 0 && test -t 1 && tty; exit 6";
    let done = podman.run_on_terminal(&["exec", "-it", "terminal", "sh", "-c", script]);
    assert!(done.status(6).contains("/dev/pts/"), "{done:?}");
}

fn healthcheck(subject: &Subject) {
    let podman = subject.podman();
    let options =
        ["--health-cmd", "test -e /tmp/healthy", "--health-interval", "disable", "--health-retries", "1"];
    let container = podman.start("health", &options, &["sleep", "1000"]);
    container.podman(&["healthcheck", "run"]).status(1);
    container.exec(&[], &["touch", "/tmp/healthy"]).ok();
    container.podman(&["healthcheck", "run"]).ok();
    assert_eq!(container.inspect(".State.Health.Status"), "healthy");
}

fn stats(subject: &Subject) {
    let podman = subject.podman();
    let container = podman.start("stats", &["--memory", "128m"], &["sleep", "1000"]);
    let done =
        container.podman(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsageBytes}} {{.PIDs}}"]);
    let words: Vec<_> = done.ok().split(' ').collect();
    assert_eq!(words[0], "stats", "{done:?}");
    assert!(words.last().unwrap().parse::<u64>().unwrap() > 0, "{done:?}");
}
