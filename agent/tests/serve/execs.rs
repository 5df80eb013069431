//! More processes in a container that runs.

use std::fs;
use std::io::{Read, Write};

use drupe_protocol::{ExitStatus, FailureKind, GuestConfig, GuestMessage, IdMode, Process, SignalTarget};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("execs::status_and_streams", status_and_streams),
    ("execs::every_exit_code", every_exit_code),
    ("execs::a_mebibyte_both_ways", a_mebibyte_both_ways),
    ("execs::see_the_container", see_the_container),
    ("execs::are_what_they_ask_for", are_what_they_ask_for),
    ("execs::behind_init", behind_init),
    ("execs::programs_that_cannot_run", programs_that_cannot_run),
    ("execs::without_a_running_container", without_a_running_container),
    ("execs::many_beside_each_other", many_beside_each_other),
    ("execs::end_with_the_container", end_with_the_container),
    ("execs::signals", signals),
    ("execs::background_children_do_not_hold_the_end_up", background_children),
    ("execs::nothing_of_the_agent_leaks", nothing_of_the_agent_leaks),
    ("execs::container_with_cgroups_of_its_own", container_with_cgroups_of_its_own),
];

/// A container that runs until it is killed.
fn sleeper(host: &mut Host) -> GuestConfig {
    let config = command(&["sleep", "1000"]);
    host.run(&config);
    config
}

fn shell(text: &str) -> Process {
    script(text).process
}

fn kill(host: &mut Host) {
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn status_and_streams() {
    let mut host = Host::new();
    sleeper(&mut host);
    let outcome = host.exec("c1", 1, shell("echo out; echo error >&2; exit 3")).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "error\n"));
    assert_eq!(outcome.status, ExitStatus::Code(3));
    // Its last bytes come before its end is told.
    for n in 2..30 {
        let outcome = host.exec("c1", n, shell("dd if=/dev/zero bs=60000 count=1 2>/dev/null")).unwrap();
        assert_eq!(outcome.stdout.len(), 60000);
    }
    kill(&mut host);
}

fn every_exit_code() {
    let mut host = Host::new();
    sleeper(&mut host);
    for code in 0..=u8::MAX {
        let outcome = host.exec("c1", code.into(), shell(&format!("exit {code}"))).unwrap();
        assert_eq!(outcome.status, ExitStatus::Code(code));
    }
    kill(&mut host);
}

fn a_mebibyte_both_ways() {
    let mut host = Host::new();
    sleeper(&mut host);
    let mut process = shell("exec cat");
    let (port, stdin) = host.listen();
    process.stdio.stdin = Some(port);
    let (port, stdout) = host.listen();
    process.stdio.stdout = Some(port);
    host.exec_start("c1", 1, process).unwrap();
    let (mut stdin, mut stdout) = (stdin.accept().unwrap().0, stdout.accept().unwrap().0);
    let sent: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let mut got = Vec::new();
    stdout.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == sent, "{} bytes came back", got.len());
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(0));
    kill(&mut host);
}

fn see_the_container() {
    let mut host = Host::new();
    let mut config = script("echo made >/tmp/by-main; sleep 1000");
    config.hostname = Some("inside".into());
    config.mounts.push(crate::host::filesystem("tmpfs", "/tmp", ""));
    host.run(&config);
    let text = "until test -s /tmp/by-main; do sleep 0.01; done; cat /tmp/by-main; hostname; \
                for ns in mnt pid uts ipc net cgroup; do \
                test $(readlink /proc/self/ns/$ns) = $(readlink /proc/1/ns/$ns) || echo $ns differs; done; \
                grep ^0: /proc/self/cgroup; ps -o pid,comm; exit 0";
    let outcome = host.exec("c1", 1, shell(text)).unwrap();
    assert!(outcome.stdout.starts_with("made\ninside\n0::/\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("    1 sleep\n    2 sh\n"), "{outcome:?}");
    kill(&mut host);
}

fn are_what_they_ask_for() {
    let mut host = Host::new();
    sleeper(&mut host);
    let mut process = shell(
        "id -u; id -g; id -G; pwd; umask; echo $VARIABLE $HOME; grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; \
         ulimit -n; cat /proc/self/oom_score_adj; echo again >/dev/stdout",
    );
    process.user.uid = 1000;
    process.user.gid = 1001;
    process.user.additional_gids = vec![5, 6];
    process.user.umask = Some(0o027);
    process.cwd = "/tmp".into();
    process.env.push("VARIABLE=value".into());
    process.no_new_privileges = true;
    process.oom_score_adj = Some(77);
    process.rlimits = vec![drupe_protocol::Rlimit { name: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
    process.capabilities =
        drupe_protocol::Capabilities { bounding: vec!["CAP_CHOWN".into()], ..Default::default() };
    let outcome = host.exec("c1", 1, process).unwrap();
    assert_eq!(
        outcome.stdout,
        "1000\n1001\n1001 5 6\n/tmp\n0027\nvalue /home/user\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000001\nNoNewPrivs:\t1\n100\n77\nagain\n"
    );
    kill(&mut host);
}

fn behind_init() {
    let mut host = Host::new();
    let mut config = command(&["sleep", "1000"]);
    config.namespaces.pid = IdMode::BehindInit;
    host.run(&config);
    let outcome = host.exec("c1", 1, shell("ps -o pid,comm; exit 6")).unwrap();
    assert!(outcome.stdout.contains("    1 init\n    2 sleep\n    3 "), "{outcome:?}");
    assert_eq!(outcome.status, ExitStatus::Code(6));
    // The container's end ends an exec here as well.
    host.exec_start("c1", 2, command(&["sleep", "1000"]).process).unwrap();
    host.signal("c1", SignalTarget::Main, 15);
    assert_eq!(host.exec_exited("c1", 2), ExitStatus::Signal(9));
    assert_eq!(host.exited("c1"), ExitStatus::Signal(15));
}

fn programs_that_cannot_run() {
    let mut host = Host::new();
    fs::write(host.share("root").join("bin/no-interpreter"), "#!/absent\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(host.share("root").join("bin/no-interpreter"), executable).unwrap();
    sleeper(&mut host);
    let cases = [
        ("absent", "process.args[0]", FailureKind::NotFound),
        ("/etc", "process.args[0]", FailureKind::NotExecutable),
        ("no-interpreter", "process.args[0]", FailureKind::NotFound),
    ];
    for (number, (program, field, kind)) in (1..).zip(cases) {
        let failure = host.exec("c1", number, command(&[program]).process).unwrap_err();
        assert_eq!((failure.field.as_str(), failure.kind), (field, kind), "{failure:?}");
    }
    let mut process = shell("true");
    process.cwd = "/absent".into();
    assert_eq!(host.exec("c1", 9, process).unwrap_err().field, "process.cwd");
    let procs = fs::read_to_string(host.cgroup.join("drupe/c1/cgroup.procs")).unwrap();
    assert_eq!(procs.lines().count(), 1, "a process is left: {procs}");
    kill(&mut host);
}

fn without_a_running_container() {
    let mut host = Host::new();
    let failure = host.exec("nobody", 1, shell("true")).unwrap_err();
    assert_eq!(failure.message, "\"nobody\": no such container");
    host.configure(&command(&["sleep", "1000"])).unwrap();
    let failure = host.exec("c1", 1, shell("true")).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("id", "\"c1\": the container is not running")
    );
    host.start("c1").unwrap();
    // A number that is in use is refused; the process that has it is not touched.
    host.exec_start("c1", 1, command(&["sleep", "1000"]).process).unwrap();
    assert_eq!(host.exec("c1", 1, shell("true")).unwrap_err().field, "exec");
    host.signal("c1", SignalTarget::Exec(1), 9);
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Signal(9));
    kill(&mut host);
    let failure = host.exec("c1", 2, shell("true")).unwrap_err();
    assert_eq!(failure.message, "\"c1\": no such container");
}

fn many_beside_each_other() {
    const MOST: u32 = 64;
    let mut host = Host::new();
    sleeper(&mut host);
    for n in 0..MOST {
        let text = format!("trap 'exit {n}' TERM; echo >/tmp/up{n}; sleep 1000 & wait");
        host.exec_start("c1", n, shell(&text)).unwrap();
    }
    let failure = host.exec("c1", MOST, shell("true")).unwrap_err();
    assert_eq!(failure.message, "\"c1\": 64 execs at once are the most");
    for n in 0..MOST {
        while !host.share("root").join(format!("tmp/up{n}")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    for n in (0..MOST).rev() {
        host.signal("c1", SignalTarget::Exec(n), 15);
        assert_eq!(host.exec_exited("c1", n), ExitStatus::Code(u8::try_from(n).unwrap()));
    }
    assert_eq!(host.exec("c1", 1000, shell("echo room again")).unwrap().stdout, "room again\n");
    kill(&mut host);
}

fn end_with_the_container() {
    let mut host = Host::new();
    host.run(&script("trap 'exit 4' TERM; while :; do sleep 0.01; done"));
    for n in 0..5 {
        host.exec_start("c1", n, shell("trap '' TERM; sleep 1000")).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    host.signal("c1", SignalTarget::Main, 15);
    let mut ended = Vec::new();
    for _ in 0..5 {
        match host.receive() {
            GuestMessage::ExecExited { exec, status, .. } => {
                assert_eq!(status, ExitStatus::Signal(9));
                ended.push(exec);
            }
            other => panic!("{other:?}"),
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 2, 3, 4]);
    assert_eq!(host.exited("c1"), ExitStatus::Code(4));
}

fn signals() {
    let mut host = Host::new();
    sleeper(&mut host);
    for signal in [1, 2, 10, 15, 34, 64] {
        host.exec_start("c1", signal, command(&["sleep", "1000"]).process).unwrap();
        host.signal("c1", SignalTarget::Exec(signal), signal.cast_signed());
        assert_eq!(host.exec_exited("c1", signal), ExitStatus::Signal(u8::try_from(signal).unwrap()));
    }
    // Nobody to get it.
    host.signal("c1", SignalTarget::Exec(999), 9);
    kill(&mut host);
}

fn background_children() {
    let mut host = Host::new();
    sleeper(&mut host);
    let outcome = host.exec("c1", 1, shell("sleep 1000 & echo started")).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.status), ("started\n", ExitStatus::Code(0)));
    // Nor does one that writes as long as somebody reads.
    let outcome = host.exec("c1", 3, shell("(while :; do echo more; : >/tmp/going; done) & until test -e /tmp/going; do sleep 0.01; done; exit 5")).unwrap();
    assert_eq!(outcome.status, ExitStatus::Code(5));
    assert!(outcome.stdout.starts_with("more\n"));
    // It lives on, as a child of the container's first process.
    let outcome = host.exec("c1", 2, shell("ps -o comm | grep -c sleep")).unwrap();
    assert_eq!(outcome.stdout, "2\n");
    kill(&mut host);
}

fn nothing_of_the_agent_leaks() {
    let mut host = Host::new();
    // Looks at every process that appears, as fast as it can, without CAP_SYS_PTRACE.
    let mut config = script(
        "echo watching >/tmp/watching; while :; do for p in /proc/[0-9]*; do \
         e=$(readlink $p/exe) && case $e in /bin/busybox) ;; *) echo $p $e >>/tmp/seen;; esac; \
         r=$(readlink $p/root) && case $r in /) ;; *) echo $p $r >>/tmp/seen;; esac; done; done 2>/dev/null",
    );
    config.process.capabilities = drupe_protocol::Capabilities::default();
    host.run(&config);
    while !host.share("root").join("tmp/watching").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for n in 0..100 {
        let outcome = host.exec("c1", n, command(&["ls", "/proc/self/fd"]).process).unwrap();
        assert_eq!(outcome.stdout, "0\n1\n2\n3\n");
    }
    let seen = fs::read_to_string(host.share("root").join("tmp/seen")).unwrap_or_default();
    assert_eq!(seen, "");
    kill(&mut host);
}

fn container_with_cgroups_of_its_own() {
    let mut host = Host::new();
    let mut config = command(&["sleep", "1000"]);
    config.mounts.push(crate::host::filesystem("cgroup2", "/sys/fs/cgroup", ""));
    host.run(&config);
    let cgroup = host.cgroup.join("drupe/c1");
    // What a container's init does with its cgroup: itself into a leaf, controllers for the leaves.
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap();
    let Some(controller) = controllers.split_whitespace().next() else { return kill(&mut host) };
    fs::create_dir(cgroup.join("init.scope")).unwrap();
    let pid = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    fs::write(cgroup.join("init.scope/cgroup.procs"), pid.trim()).unwrap();
    fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let outcome = host.exec("c1", 1, shell("cat /proc/self/cgroup")).unwrap();
    assert_eq!(outcome.stdout, "0::/init.scope\n");
    host.signal("c1", SignalTarget::Main, 9);
    assert!(matches!(host.receive(), GuestMessage::Exited { .. }));
}
