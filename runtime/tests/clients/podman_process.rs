//! `podman run`: what the process is, and how it ends.

use std::fs;

use crate::Case;
use crate::podman::text;
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("podman::run", run),
        Case::new("podman::run_cannot", run_cannot),
        Case::new("podman::run_on_terminal", run_on_terminal),
        Case::new("podman::run_with_input", run_with_input),
        Case::new("podman::user_and_capabilities", user_and_capabilities),
        Case::new("podman::seccomp", seccomp),
        Case::new("podman::limits", limits),
        Case::new("podman::init", init),
        Case::new("podman::network_none", network_none),
        Case::new("podman::network_host", network_host)
            .drupe_only("a virtual machine has no network of the host"),
    ]
}

fn run(subject: &Subject) {
    let podman = subject.podman();
    let script = "echo out; echo err >&2; hostname; echo $KEY; pwd; exit 7";
    let options = ["--hostname", "guest", "--env", "KEY=value", "--workdir", "/tmp"];
    let done = podman.run_once(&options, &["sh", "-c", script]);
    assert_eq!((done.status(7), done.stderr.as_str()), ("out\nguest\nvalue\n/tmp", "err\n"));
}

fn run_cannot(subject: &Subject) {
    let podman = subject.podman();
    let missing = podman.run_once(&[], &["no-such-program"]);
    missing.status(127);
    assert!(missing.stderr.contains("no-such-program"), "{missing:?}");
    podman.run_once(&[], &["/etc/passwd"]).status(126);
    podman.run_once(&["--no-such-option"], &["true"]).status(125);
}

fn run_on_terminal(subject: &Subject) {
    let script = "test -t 0 && test -t 1 && test -t 2 && tty; exit 4";
    let args = ["run", "--rm", "-it", "--network", "none", crate::podman::IMAGE, "sh", "-c", script];
    let done = subject.podman().run_on_terminal(&args);
    assert_eq!(done.status(4), "/dev/pts/0", "{done:?}");
}

fn run_with_input(subject: &Subject) {
    let args = ["run", "--rm", "-i", "--network", "none", crate::podman::IMAGE, "wc", "-c"];
    let input = "0123456789abcde\n".repeat(20_000);
    assert_eq!(subject.podman().run_with_input(&args, &input).ok(), "320000");
}

fn user_and_capabilities(subject: &Subject) {
    let podman = subject.podman();
    let script =
        "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status; ulimit -n; umask";
    let options = [
        "--user",
        "1000:1000",
        "--group-add",
        "29",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=123:456",
        "--security-opt",
        "no-new-privileges",
        "--umask",
        "027",
    ];
    let none = "0000000000000000";
    assert_eq!(
        podman.run_once(&options, &["sh", "-c", script]).ok(),
        format!(
            "1000\n1000\n1000 29\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1\n123\n0027"
        )
    );
    let options = ["--cap-drop", "ALL", "--cap-add", "CHOWN"];
    let done = podman.run_once(&options, &["grep", "CapEff", "/proc/self/status"]);
    assert_eq!(done.ok(), "CapEff:\t0000000000000001");
}

fn seccomp(subject: &Subject) {
    let podman = subject.podman();
    let script = "chmod 700 /tmp; echo $?; mkdir /tmp/a; echo $?; grep Seccomp: /proc/self/status";
    let by_default = podman.run_once(&[], &["sh", "-c", script]);
    assert_eq!(by_default.ok(), "0\n0\nSeccomp:\t2");
    let profile = podman.path("seccomp.json");
    let rules = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":
        [{"names":["chmod","fchmodat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    fs::write(&profile, rules).unwrap();
    let option = format!("seccomp={}", text(&profile));
    let done = podman.run_once(&["--security-opt", &option], &["sh", "-c", script]);
    assert_eq!(done.ok(), "1\n0\nSeccomp:\t2");
    assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
    let done = podman.run_once(&["--security-opt", "seccomp=unconfined"], &["sh", "-c", script]);
    assert_eq!(done.ok(), "0\n0\nSeccomp:\t0");
}

fn limits(subject: &Subject) {
    let script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "77"];
    let done = subject.podman().run_once(&options, &["sh", "-c", script]);
    assert_eq!(done.ok(), "67108864\n50000 100000\n77");
}

fn init(subject: &Subject) {
    let done = subject.podman().run_once(&["--init"], &["sh", "-c", "cat /proc/1/comm; exit 9"]);
    assert_eq!(done.status(9), "podman-init");
}

fn network_none(subject: &Subject) {
    let done = subject.podman().run_once(&[], &["ls", "/sys/class/net"]);
    assert_eq!(done.ok(), "lo");
}

fn network_host(subject: &Subject) {
    let podman = subject.podman();
    let done = podman.run(&["run", "--rm", "--network", "host", crate::podman::IMAGE, "true"]);
    assert!(done.status == 125 || done.status == 126, "{done:?}");
    assert!(done.stderr.contains("network"), "{done:?}");
}
