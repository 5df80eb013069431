//! How the kernel treats the process: filters, scheduling, personality. For the main process and for execs.

use drupe_protocol::{CpuAffinity, ExitStatus, Failure, GuestConfig, Process, Scheduler, SeccompFilter};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("policy::seccomp", seccomp),
    ("policy::seccomp_comes_last_with_no_new_privileges", seccomp_comes_last_with_no_new_privileges),
    ("policy::seccomp_is_for_the_program_alone", seccomp_is_for_the_program_alone),
    ("policy::seccomp_without_faccessat2", seccomp_without_faccessat2),
    ("policy::seccomp_that_cannot_be_loaded", seccomp_that_cannot_be_loaded),
    ("policy::scheduler", scheduler),
    ("policy::io_priority", io_priority),
    ("policy::personality", personality),
    ("policy::of_an_exec", of_an_exec),
];

const ALLOW: u64 = 0x0006_0000_7fff_0000;
const ERRNO: u64 = 0x0006_0000_0005_0000;

/// A filter in which these calls fail with EADDRNOTAVAIL, an error that none of them has by itself.
pub(crate) fn deny(calls: &[libc::c_long]) -> SeccompFilter {
    deny_with(calls, libc::EADDRNOTAVAIL)
}

/// A filter in which these calls fail with an error.
pub(crate) fn deny_with(calls: &[libc::c_long], errno: i32) -> SeccompFilter {
    let mut program = vec![0x0020_0000_0000_0000];
    for call in calls {
        program.push(0x0015_0001_0000_0000 | u64::try_from(*call).unwrap());
        program.push(ERRNO | u64::try_from(errno).unwrap());
    }
    program.push(ALLOW);
    SeccompFilter { flags: 0, program }
}

fn seccomp() {
    let mut host = Host::new();
    let text =
        "while read -r name value; do case $name in Seccomp:) echo $value;; esac; done </proc/self/status
                uname -n; hostname other; hostname";
    let mut config = script(text);
    config.hostname = Some("before".into());
    assert_eq!(host.output(config.clone()), "0\nbefore\nother\n");
    config.process.seccomp = Some(deny(&[libc::SYS_sethostname]));
    for (uid, nnp) in [(0, false), (0, true), (1000, false), (1000, true)] {
        config.process.user.uid = uid;
        config.process.no_new_privileges = nnp;
        let outcome = host.try_run(config.clone()).unwrap();
        assert_eq!(outcome.stdout, "2\nbefore\nbefore\n", "uid {uid}, no_new_privileges {nnp}");
        assert!(outcome.stderr.contains("Cannot assign requested address"), "{outcome:?}");
    }
}

fn seccomp_comes_last_with_no_new_privileges() {
    let mut host = Host::new();
    // Everything that the agent does between the start of the preparation and exec.
    let calls = [
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setgroups,
        libc::SYS_capset,
        libc::SYS_prctl,
        libc::SYS_chdir,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
    ];
    let mut config = command(&["readlink", "/proc/self/cwd"]);
    config.process.seccomp = Some(deny(&calls));
    config.process.no_new_privileges = true;
    config.process.user.uid = 1000;
    config.process.cwd = "/tmp".into();
    assert_eq!(host.output(config), "/tmp\n");
}

/// Without no_new_privileges the filter is there before the user changes: what the agent does then takes no sockets.
fn seccomp_is_for_the_program_alone() {
    let mut host = Host::new();
    let calls = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_shutdown,
        libc::SYS_clone3,
        libc::SYS_memfd_create,
    ];
    let mut config = command(&["readlink", "/proc/self/cwd"]);
    config.process.seccomp = Some(deny(&calls));
    config.process.user.uid = 1000;
    config.process.cwd = "/tmp".into();
    assert_eq!(host.output(config.clone()), "/tmp\n");
    config.process.args = vec!["/absent".into()];
    let failure = host.try_run(config.clone()).unwrap_err();
    assert_eq!(failure.message, "\"/absent\": no such file or directory");
    config.process.args = ["sleep", "1000"].map(String::from).to_vec();
    host.run(&config);
    let exec = |args: &[&str]| Process {
        args: args.iter().map(ToString::to_string).collect(),
        ..config.process.clone()
    };
    let outcome = host.exec("c1", 1, exec(&["readlink", "/proc/self/cwd"])).unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(0), "/tmp\n"));
    let failure = host.exec("c1", 2, exec(&["/absent"])).unwrap_err();
    assert_eq!(failure.message, "\"/absent\": no such file or directory");
    stop(&mut host, &config);
}

/// Some profiles do not know the call. What asks whether a file can be executed is not what decides it.
fn seccomp_without_faccessat2() {
    let mut host = Host::new();
    let mut config = command(&["true"]);
    for calls in [&[libc::SYS_faccessat2][..], &[libc::SYS_faccessat2, libc::SYS_faccessat]] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            config.process.seccomp = Some(deny_with(calls, errno));
            assert_eq!(host.output(config.clone()), "", "{calls:?}: {errno}");
        }
    }
}

fn seccomp_that_cannot_be_loaded() {
    let mut host = Host::new();
    let mut config = script("true");
    for nnp in [false, true] {
        config.process.no_new_privileges = nnp;
        config.process.seccomp = Some(SeccompFilter { flags: 0, program: vec![0x00ff_0000_0000_0000] });
        let failure = host.try_run(config.clone()).unwrap_err();
        assert_eq!(
            (failure.field.as_str(), failure.message.as_str()),
            ("linux.seccomp", "filter of 1 instructions with flags 0x0: cannot be loaded: invalid argument")
        );
        config.process.seccomp = Some(SeccompFilter { flags: 1 << 31, ..deny(&[]) });
        assert!(host.try_run(config.clone()).unwrap_err().message.contains("flags 0x80000000"));
    }
}

/// Prints nice value, real-time priority and policy: fields 19, 40 and 41 of /proc/PID/stat.
const SCHEDULING: &str = "read -r line </proc/self/stat; set -- $line; echo ${19} ${40} ${41}";

fn scheduler() {
    let mut host = Host::new();
    let mut config = script(SCHEDULING);
    // A nice value that is not set is that of who runs the tests.
    assert!(host.output(config.clone()).ends_with(" 0 0\n"));
    let scheduler = Scheduler::default();
    for (scheduler, seen) in [
        (Scheduler { policy: 3, nice: 5, ..scheduler }, "5 0 3\n"),
        (Scheduler { policy: 1, priority: 7, ..scheduler }, " 7 1\n"),
        (Scheduler { policy: 0, nice: -3, flags: 1, ..scheduler }, "-3 0 0\n"),
        (Scheduler { policy: 5, ..scheduler }, " 0 5\n"),
    ] {
        config.process.scheduler = Some(scheduler);
        config.process.user.uid = 1000;
        let output = host.output(config.clone());
        assert!(output.ends_with(seen), "{output:?}: {scheduler:?}");
    }
    config.process.scheduler = Some(Scheduler { policy: 2, priority: 200, ..scheduler });
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.scheduler", "SCHED_RR, nice 0, priority 200, flags 0x0: invalid argument")
    );
}

fn io_priority() {
    let mut host = Host::new();
    let mut config = command(&["ionice"]);
    config.process.io_priority = Some(2 << 13 | 6);
    assert_eq!(host.output(config.clone()), "best-effort: prio 6\n");
    config.process.io_priority = Some(1 << 13 | 3);
    config.process.user.uid = 1000;
    assert_eq!(host.output(config.clone()), "realtime: prio 3\n");
    config.process.io_priority = Some(7 << 13);
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.ioPriority", "class 7, priority 0: invalid argument")
    );
}

fn personality() {
    let mut host = Host::new();
    let mut config = command(&["cat", "/proc/self/personality"]);
    assert_eq!(host.output(config.clone()), "00000000\n");
    config.process.personality = Some(0x0004_0008);
    assert_eq!(host.output(config), "00040008\n");
}

fn of_an_exec() {
    let mut host = Host::new();
    let config = command(&["sleep", "1000"]);
    host.configure(&config).unwrap();
    host.start("c1").unwrap();
    let exec = |text: &str| Process {
        args: ["sh", "-c", text].map(String::from).to_vec(),
        ..config.process.clone()
    };
    let text = format!(
        "{SCHEDULING}; ionice; cat /proc/self/personality; hostname x 2>/dev/null || echo denied
                        grep Cpus_allowed_list /proc/self/status"
    );
    let process = Process {
        scheduler: Some(Scheduler { policy: 3, nice: 1, ..Scheduler::default() }),
        io_priority: Some(2 << 13 | 2),
        personality: Some(8),
        seccomp: Some(deny(&[libc::SYS_sethostname])),
        cpu_affinity: CpuAffinity { initial: vec![], last: vec![0] },
        ..exec(&text)
    };
    let outcome = host.exec("c1", 1, process.clone()).unwrap();
    assert_eq!(
        outcome.stdout, "1 0 3\nbest-effort: prio 2\n00000008\ndenied\nCpus_allowed_list:\t0\n",
        "{outcome:?}"
    );
    // Where it enters matters to nobody afterwards, unless there is no such processor.
    let mut affinity = |exec, initial: &[u32], last: &[u32]| {
        let cpu_affinity = CpuAffinity { initial: initial.to_vec(), last: last.to_vec() };
        let outcome = host.exec("c1", exec, Process { cpu_affinity, ..process.clone() })?;
        Ok(outcome.stdout.lines().last().unwrap().to_owned())
    };
    let all = affinity(10, &[], &[]).unwrap();
    assert_eq!(affinity(11, &[0], &[]).unwrap(), all);
    assert_eq!(affinity(12, &[0], &[0]).unwrap(), "Cpus_allowed_list:\t0");
    let failure: Failure = affinity(13, &[1000], &[]).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.execCPUAffinity.initial", "[1000]: invalid argument")
    );
    let nowhere =
        |cpu| Process { cpu_affinity: CpuAffinity { initial: vec![], last: vec![cpu] }, ..process.clone() };
    let failure = host.exec("c1", 2, nowhere(100_000)).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.execCPUAffinity.final", "100000: no such processor")
    );
    let failure = host.exec("c1", 3, nowhere(1000)).unwrap_err();
    assert_eq!(failure.message, "[1000]: invalid argument");
    stop(&mut host, &config);
}

fn stop(host: &mut Host, config: &GuestConfig) {
    host.send(&drupe_protocol::HostMessage::Signal {
        container: config.id.clone(),
        target: drupe_protocol::SignalTarget::Main,
        signal: 9,
    });
    assert_eq!(host.exited(&config.id), ExitStatus::Signal(9));
}
