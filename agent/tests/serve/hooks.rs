//! `hooks.startContainer`: in the container, after the start, before the program.

use drupe_protocol::{ExitStatus, Failure, FailureKind, GuestConfig, HostMessage, Rlimit, StartHook};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("hooks::run_in_the_container_before_the_program", run_in_the_container_before_the_program),
    ("hooks::failures", failures),
    ("hooks::timeout", timeout),
    ("hooks::filter", filter),
    ("hooks::filter_without_new_calls", filter_without_new_calls),
    ("hooks::file_size_limit", file_size_limit),
    ("hooks::state_that_is_not_read", state_that_is_not_read),
];

fn hook(text: &str) -> StartHook {
    StartHook {
        field: "hooks.startContainer[0]".into(),
        path: "/bin/sh".into(),
        args: ["sh", "-c", text, "hook"].map(String::from).to_vec(),
        env: vec!["PATH=/bin".into()],
        timeout: None,
    }
}

fn run_in_the_container_before_the_program() {
    let mut host = Host::new();
    let mut config = script("cat /tmp/log; echo program");
    config.hostname = Some("inside".into());
    config.process.user.uid = 1000;
    config.process.cwd = "/tmp".into();
    std::fs::set_permissions(
        host.share("root").join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    config.start_hooks = vec![
        hook("{ cat; echo; hostname; env; echo $0; id -u; pwd; ls /proc/self/fd; } >>log"),
        StartHook { path: "/bin/true".into(), env: vec![], args: vec![], ..hook("") },
    ];
    host.configure(&config).unwrap();
    assert!(!host.share("root").join("tmp/log").exists(), "before the start");
    let state = format!("{{\"id\":\"c1\",\"annotations\":{{\"large\":\"{}\"}}}}", "x".repeat(100_000));
    host.send(&HostMessage::Start { container: "c1".into(), state: state.clone() });
    assert!(matches!(host.receive(), drupe_protocol::GuestMessage::Started { .. }));
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
    let log = std::fs::read_to_string(host.share("root").join("tmp/log")).unwrap();
    let log = log.strip_prefix(&state).expect("the state");
    let mut lines: Vec<&str> = log.trim().lines().collect();
    let descriptors = lines.split_off(lines.len() - 4);
    assert_eq!(lines, ["inside", "SHLVL=1", "PATH=/bin", "PWD=/tmp", "hook", "1000", "/tmp"]);
    // The fourth is the listing's own.
    assert_eq!(descriptors, ["0", "1", "2", "3"]);
}

fn fails(host: &mut Host, config: &GuestConfig) -> Failure {
    host.configure(config).unwrap();
    let failure = host.start("c1").unwrap_err();
    assert!(!host.cgroup.join("drupe/c1").exists(), "the cgroup is left");
    assert_eq!((failure.kind, failure.field.as_str()), (FailureKind::Setup, "hooks.startContainer[0]"));
    failure
}

fn failures() {
    let mut host = Host::new();
    let mut config = script("touch /tmp/program");
    for (hook, message) in [
        (hook("echo this; echo that >&2; exit 3"), "\"/bin/sh\": exit status 3: this that"),
        (hook("kill -9 $$"), "\"/bin/sh\": ended by signal 9"),
        (
            StartHook { path: "/absent".into(), ..hook("") },
            "\"/absent\": exit status 127: no such file or directory",
        ),
        // Much output is no reason to wait for ever, nor are children that keep it open.
        (hook("dd if=/dev/zero bs=1M count=1 2>/dev/null; sleep 1000 & echo end; exit 1"), "end"),
    ] {
        config.start_hooks = vec![hook];
        let failure = fails(&mut host, &config);
        assert!(failure.message.ends_with(message), "{failure:?}");
    }
    assert!(!host.share("root").join("tmp/program").exists());
}

fn timeout() {
    let mut host = Host::new();
    let mut config = command(&["true"]);
    config.start_hooks = vec![StartHook { timeout: Some(1), ..hook("sleep 1000") }];
    let failure = fails(&mut host, &config);
    assert_eq!(failure.message, "\"/bin/sh\": killed after its timeout of 1 s");
    config.start_hooks = vec![StartHook { timeout: Some(1000), ..hook("exit 0") }];
    assert_eq!(host.output(config), "");
}

/// Hooks are under the filter of the process, also where that is loaded after them.
fn filter() {
    let mut host = Host::new();
    let mut config = script("cat /tmp/log");
    config.start_hooks = vec![hook("hostname other 2>/dev/null || echo denied >/tmp/log")];
    config.process.seccomp = Some(crate::policy::deny(&[libc::SYS_sethostname]));
    for nnp in [false, true] {
        config.process.no_new_privileges = nnp;
        assert_eq!(host.output(config.clone()), "denied\n");
        std::fs::remove_file(host.share("root").join("tmp/log")).unwrap();
    }
}

/// As in the default profile of clients: programs are to fall back to what clone(2) can do.
fn filter_without_new_calls() {
    let mut host = Host::new();
    let mut config = script("cat /tmp/log");
    config.start_hooks = vec![hook("echo hook >/tmp/log")];
    config.process.seccomp = Some(crate::policy::deny_with(&[libc::SYS_clone3], libc::ENOSYS));
    assert_eq!(host.output(config), "hook\n");
}

/// The limit of the process is none for what the agent tells the hook.
fn file_size_limit() {
    let mut host = Host::new();
    let mut config = script("cat /tmp/log");
    config.start_hooks = vec![hook("dd of=/dev/null 2>/dev/null; : >/tmp/log; echo hook")];
    config.process.rlimits = vec![Rlimit { name: "RLIMIT_FSIZE".into(), soft: 0, hard: 0 }];
    host.configure(&config).unwrap();
    let state = "x".repeat(100_000);
    host.send(&HostMessage::Start { container: "c1".into(), state });
    assert!(matches!(host.receive(), drupe_protocol::GuestMessage::Started { .. }));
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn state_that_is_not_read() {
    let mut host = Host::new();
    let mut config = script("true");
    let closed = "exec <&-; sleep 1";
    config.start_hooks = vec![hook("true"), hook(closed), StartHook { timeout: Some(1000), ..hook("true") }];
    host.configure(&config).unwrap();
    host.send(&HostMessage::Start { container: "c1".into(), state: "x".repeat(200_000) });
    assert!(matches!(host.receive(), drupe_protocol::GuestMessage::Started { .. }));
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}
