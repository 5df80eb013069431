//! How processes end, and what the host is told about it.

use std::fs;
use std::time::Instant;

use drupe_protocol::{
    Capabilities, ExitStatus, FailureKind, GuestMessage, HostMessage, IdMode, SignalTarget,
};

use crate::host::{Host, LIMIT, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("status::all_256_exit_codes", all_256_exit_codes),
    ("status::every_terminating_signal", every_terminating_signal),
    ("status::place_in_the_pid_namespace", place_in_the_pid_namespace),
    ("status::signals_from_the_host", signals_from_the_host),
    ("status::nothing_outlives_the_main_process", nothing_outlives_the_main_process),
    ("status::programs_that_cannot_run", programs_that_cannot_run),
    ("status::messages_out_of_order", messages_out_of_order),
    ("status::several_containers_in_one_guest", several_containers_in_one_guest),
    ("status::host_hangs_up", host_hangs_up),
    ("status::malformed_message_ends_everything", malformed_message_ends_everything),
];

fn all_256_exit_codes() {
    let mut host = Host::new();
    for code in 0..=u8::MAX {
        let config = script(&format!("exit {code}"));
        host.configure(&config).unwrap();
        host.start("c1").unwrap();
        assert_eq!(host.exited("c1"), ExitStatus::Code(code));
    }
}

fn every_terminating_signal() {
    // Not among them: those that are ignored by default (CHLD, CONT, URG, WINCH) or stop (STOP, TSTP, TTIN, TTOU).
    let signals = (1..=64_u8).filter(|signal| !matches!(signal, 17 | 18 | 19 | 20 | 21 | 22 | 23 | 28));
    let mut host = Host::new();
    for signal in signals {
        let mut config = command(&["sleep", "1000"]);
        config.namespaces.pid = IdMode::BehindInit;
        host.configure(&config).unwrap();
        host.start("c1").unwrap();
        host.send(&HostMessage::Signal {
            container: "c1".into(),
            target: SignalTarget::Main,
            signal: signal.into(),
        });
        assert_eq!(host.exited("c1"), ExitStatus::Signal(signal));
    }
}

fn place_in_the_pid_namespace() {
    let mut host = Host::new();
    assert_eq!(host.output(script("echo $$ $PPID")), "1 0\n");
    let mut config = script(
        "echo $$ $PPID; ps -o pid,comm; readlink /proc/1/root; ls -a /proc/1/root; ls /proc/1/fd; \
                             grep Cap /proc/1/status",
    );
    config.namespaces.pid = IdMode::BehindInit;
    let text = host.output(config);
    assert!(text.starts_with("2 0\n"), "{text}");
    assert!(text.contains("    1 init\n"), "{text}");
    // No file, descriptor or capability of the agent is to be had from it.
    assert!(text.contains("\n.\n..\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"), "{text}");
}

fn signals_from_the_host() {
    let mut host = Host::new();
    // The first process of a namespace is ended by what it handles, and by SIGKILL.
    host.configure(&script("trap 'exit 7' TERM; while :; do sleep 0.01; done")).unwrap();
    host.start("c1").unwrap();
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 10 });
    std::thread::sleep(std::time::Duration::from_millis(200));
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 15 });
    assert_eq!(host.exited("c1"), ExitStatus::Code(7));
    host.configure(&command(&["sleep", "1000"])).unwrap();
    host.start("c1").unwrap();
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 9 });
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
    // Before the start there is a process as well.
    host.configure(&command(&["true"])).unwrap();
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 9 });
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
    // A program starts with no signal blocked or ignored.
    let text = host.output(command(&["grep", "^Sig[BI]", "/proc/self/status"]));
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn nothing_outlives_the_main_process() {
    let mut host = Host::new();
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let begin = Instant::now();
        let mut config = script("(trap '' TERM HUP; sleep 1000) & sleep 1000 & echo started; exit 3");
        config.namespaces.pid = pid;
        // The sleepers hold stdout: its end comes all the same, and only after they are gone.
        let outcome = host.try_run(config).unwrap();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(3), "started\n"));
        assert!(begin.elapsed() < LIMIT / 2);
        let agent = host.agent_pid();
        let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap();
        assert_eq!(children, "", "processes are left");
    }
}

fn programs_that_cannot_run() {
    let mut host = Host::new();
    let root = host.share("root");
    fs::write(root.join("bin/text"), "not a program").unwrap();
    fs::write(root.join("bin/no-interpreter"), "#!/absent\n").unwrap();
    fs::write(root.join("bin/private"), "#!/bin/sh\n").unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("bin/text", 0o755);
    mode("bin/no-interpreter", 0o755);
    mode("bin/private", 0o700);
    let mut fails = |program: &str, uid: u32| {
        let mut config = command(&[program]);
        config.process.user.uid = uid;
        config.process.capabilities = Capabilities::default();
        let failure = host.try_run(config).unwrap_err();
        assert_eq!(failure.field, "process.args[0]");
        assert!(failure.message.contains(program), "{failure:?}");
        assert!(!host.cgroup.join("drupe/c1").exists());
        failure.kind
    };
    // Found before `Ready`.
    assert_eq!(fails("absent", 0), FailureKind::NotFound);
    assert_eq!(fails("/absent/program", 0), FailureKind::NotFound);
    assert_eq!(fails("/etc", 0), FailureKind::NotExecutable);
    assert_eq!(fails("/etc/passwd", 0), FailureKind::NotExecutable);
    assert_eq!(fails("private", 1000), FailureKind::NotExecutable);
    // Found by exec.
    assert_eq!(fails("text", 0), FailureKind::NotExecutable);
    assert_eq!(fails("no-interpreter", 0), FailureKind::NotFound);
    assert_eq!(host.output(script("echo alive")), "alive\n");
}

fn messages_out_of_order() {
    let mut host = Host::new();
    assert_eq!(host.start("nobody").unwrap_err().field, "id");
    host.send(&HostMessage::Signal { container: "nobody".into(), target: SignalTarget::Main, signal: 9 });
    host.configure(&script("exit 5")).unwrap();
    let failure = host.configure(&script("exit 6")).unwrap_err();
    assert_eq!((failure.field.as_str(), failure.message.as_str()), ("id", "\"c1\": exists"));
    host.start("c1").unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Code(5));
    let mut config = script("true");
    config.id = "../c1".into();
    assert_eq!(host.configure(&config).unwrap_err().field, "id");
    // Split anywhere, a message is the same.
    host.send_slowly(&HostMessage::Configure { config: Box::new(script("exit 8")) });
    assert!(matches!(host.receive(), GuestMessage::Ready { .. }));
    host.start("c1").unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Code(8));
}

fn several_containers_in_one_guest() {
    let mut host = Host::new();
    for n in 0..20_u8 {
        let mut config = script(&format!("trap 'exit {n}' TERM; while :; do sleep 0.01; done"));
        config.id = format!("c{n}");
        host.configure(&config).unwrap();
        host.start(&config.id).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    for n in (0..20_u8).rev() {
        host.send(&HostMessage::Signal {
            container: format!("c{n}"),
            target: SignalTarget::Main,
            signal: 15,
        });
        assert_eq!(host.exited(&format!("c{n}")), ExitStatus::Code(n));
    }
}

fn host_hangs_up() {
    let mut host = Host::new();
    for (id, start) in [("a", true), ("b", false)] {
        let mut config = command(&["sleep", "1000"]);
        config.id = id.into();
        host.configure(&config).unwrap();
        if start {
            host.start(id).unwrap();
        }
    }
    let cgroup = host.cgroup.join("drupe");
    assert!(host.hang_up(), "the agent ends orderly");
    let left = |id| fs::read_to_string(cgroup.join(id).join("cgroup.procs")).unwrap_or_default();
    assert_eq!((left("a"), left("b")), (String::new(), String::new()));
    for id in ["a", "b"] {
        let _ = fs::remove_dir(cgroup.join(id));
    }
}

fn malformed_message_ends_everything() {
    let mut host = Host::new();
    host.send_bytes(&u32::MAX.to_le_bytes());
    assert!(!host.hang_up(), "the agent says that the conversation broke");
}
