//! What the host asks about a container, signals for all of it, and the time of day.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use drupe_protocol::{
    Answer, CgroupSetting, ExitStatus, Failure, GuestMessage, GuestProcess, HostMessage, IdMode, Question,
    SignalTarget,
};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("questions::processes", processes),
    ("questions::processes_behind_init", processes_behind_init),
    ("questions::processes_with_strange_names", processes_with_strange_names),
    ("questions::many_at_once", many_at_once),
    ("questions::answers_that_are_not_read", answers_that_are_not_read),
    ("questions::about_nobody", about_nobody),
    ("questions::statistics", statistics),
    ("questions::update", update),
    ("questions::update_is_all_or_nothing", update_is_all_or_nothing),
    ("questions::update_of_no_cgroup_file", update_of_no_cgroup_file),
    ("questions::signals_for_all", signals_for_all),
    ("questions::signals_for_all_behind_init", signals_for_all_behind_init),
    ("questions::time_of_day", time_of_day),
];

fn ask(host: &mut Host, container: &str, question: Question) -> Answer {
    host.send(&HostMessage::Ask { container: container.into(), number: 7, question });
    match host.receive() {
        GuestMessage::Answer { container: about, number, answer } => {
            assert_eq!((about.as_str(), number), (container, 7));
            answer
        }
        other => panic!("{other:?}"),
    }
}

fn list(host: &mut Host) -> Vec<GuestProcess> {
    match ask(host, "c1", Question::Processes) {
        Answer::Processes(processes) => processes,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn setting(field: &str, file: &str, value: &str) -> CgroupSetting {
    CgroupSetting { field: field.into(), file: file.into(), value: value.into() }
}

/// Waits until the workload has come to this point.
fn await_file(host: &Host, name: &str) {
    while !host.share("root").join(name).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn processes() {
    let mut host = Host::new();
    host.run(&script("sleep 1000 & echo >/tmp/ready; wait"));
    let mut process = command(&["sleep", "2000"]).process;
    process.user.uid = 1000;
    let exec = host.exec_start("c1", 1, process).unwrap();
    await_file(&host, "tmp/ready");
    let mut found = list(&mut host);
    while !found.iter().any(|process| process.command == "sleep 1000") {
        found = list(&mut host);
    }
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.is_sorted_by_key(|process| process.pid), "{found:?}");
    let main = &found[0];
    assert_eq!((main.container_pid, main.uid), (1, 0));
    assert!(
        "RS".contains(main.state)
            && main.rss > 0
            && main.vsize > 0
            && main.age_ms < 600_000
            && main.tty.is_none(),
        "{main:?}"
    );
    let exec = found.iter().find(|process| process.pid == exec).unwrap();
    assert_eq!((exec.uid, exec.command.as_str()), (1000, "sleep 2000"));
    let child = found.iter().find(|process| process.command == "sleep 1000").unwrap();
    assert_eq!(child.parent, main.pid);
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Signal(9));
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn processes_behind_init() {
    let mut host = Host::new();
    let mut config = command(&["sleep", "1000"]);
    config.namespaces.pid = IdMode::BehindInit;
    host.run(&config);
    let found = list(&mut host);
    let pids: Vec<_> =
        found.iter().map(|process| (process.container_pid, process.command.as_str())).collect();
    assert_eq!(pids, [(2, "sleep 1000")]);
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn processes_with_strange_names() {
    let mut host = Host::new();
    let name = format!("a) R 1 (b\n\u{1}\u{1}{}", "\u{2}".repeat(100_000));
    let mut config = script(
        "n=0; while [ $n -lt 200 ]; do sh -c 'sleep 1000; true' \"$0\" & n=$((n+1)); done; echo >/tmp/ready; wait",
    );
    config.process.args.push(name);
    host.run(&config);
    await_file(&host, "tmp/ready");
    let found = list(&mut host);
    assert!(found.iter().filter(|p| p.command.starts_with("sh -c")).count() > 20, "{}", found.len());
    assert!(found.iter().all(|process| process.command.len() <= 4096));
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn many_at_once() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    for number in 0..500 {
        host.send(&HostMessage::Ask { container: "c1".into(), number, question: Question::Processes });
    }
    let mut seen = Vec::new();
    for _ in 0..500 {
        let GuestMessage::Answer { number, answer, .. } = host.receive() else { panic!("no answer") };
        match answer {
            Answer::Processes(processes) => assert_eq!(processes.len(), 1),
            Answer::Failed(failure) => assert_eq!(failure.message, "16 at once are the most"),
            other => panic!("{other:?}"),
        }
        seen.push(number);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<u32>>());
    assert_eq!(list(&mut host).len(), 1);
}

fn answers_that_are_not_read() {
    const COUNT: u32 = 6000;
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    let asked = (0..COUNT).map(|number| HostMessage::Ask {
        container: "c1".into(),
        number,
        question: Question::Statistics,
    });
    let writer = host.send_beside(asked.collect());
    // What nobody reads is not kept: it is not asked for.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!writer.is_finished(), "every question was taken");
    let status = fs::read_to_string(format!("/proc/{}/status", host.agent_pid())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kib: u64 = rss.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 32 << 10, "{rss}");
    for number in 0..COUNT {
        let GuestMessage::Answer { number: answered, .. } = host.receive() else { panic!("no answer") };
        assert_eq!(answered, number);
    }
    writer.join().unwrap();
    assert_eq!(list(&mut host).len(), 1);
}

fn about_nobody() {
    let mut host = Host::new();
    for question in [Question::Processes, Question::Statistics, Question::Update(vec![])] {
        let failure = refused(ask(&mut host, "nobody", question));
        assert_eq!(failure.message, "\"nobody\": no such container");
    }
}

fn statistics() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    let Answer::Statistics(files) = ask(&mut host, "c1", Question::Statistics) else {
        panic!("no statistics")
    };
    assert!(files["cpu.stat"].starts_with("usage_usec "), "{files:?}");
    // As many as the hierarchy of this machine has, and each as it is.
    let directory = host.cgroup.join("drupe/c1");
    for name in ["memory.max", "pids.current", "pids.max", "io.stat"] {
        let content = fs::read_to_string(directory.join(name)).ok();
        assert_eq!(files.get(name), content.as_ref(), "{name}");
    }
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn update() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    let settings = vec![
        setting("linux.resources.a", "cgroup.max.descendants", "20"),
        setting("linux.resources.b", "cgroup.max.depth", "3"),
    ];
    assert_eq!(ask(&mut host, "c1", Question::Update(settings)), Answer::Updated);
    let read = |name| fs::read_to_string(host.cgroup.join("drupe/c1").join(name)).unwrap();
    assert_eq!((read("cgroup.max.descendants").as_str(), read("cgroup.max.depth").as_str()), ("20\n", "3\n"));
}

fn update_is_all_or_nothing() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    let settings = vec![
        setting("linux.resources.a", "cgroup.max.descendants", "20"),
        setting("linux.resources.a", "cgroup.max.descendants", "30"),
        setting("linux.resources.b", "cgroup.max.depth", "many"),
        setting("linux.resources.c", "cgroup.max.depth", "5"),
    ];
    let failure = refused(ask(&mut host, "c1", Question::Update(settings)));
    assert_eq!(failure.field, "linux.resources.b");
    assert_eq!(failure.message, "\"many\": cgroup.max.depth: invalid argument");
    let read = |name| fs::read_to_string(host.cgroup.join("drupe/c1").join(name)).unwrap();
    assert_eq!(
        (read("cgroup.max.descendants").as_str(), read("cgroup.max.depth").as_str()),
        ("max\n", "max\n")
    );
}

fn update_of_no_cgroup_file() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    for file in ["../c1/cgroup.max.depth", "/etc/passwd", "", "..", "absent.max"] {
        let settings = vec![setting("linux.resources", file, "1")];
        assert_eq!(
            refused(ask(&mut host, "c1", Question::Update(settings))).field,
            "linux.resources",
            "{file}"
        );
    }
    assert_eq!(list(&mut host).len(), 1);
}

fn signals_for_all() {
    let mut host = Host::new();
    let text = "for n in 1 2 3; do sh -c \"trap 'echo $n >/tmp/got$n; exit' USR1; echo >/tmp/up$n; \
                while :; do sleep 0.01; done\" & done; trap 'wait; exit 9' USR1; echo >/tmp/up5; while :; do sleep 0.01; done";
    host.run(&script(text));
    host.exec_start(
        "c1",
        1,
        script("trap 'exit 8' USR1; echo >/tmp/up4; while :; do sleep 0.01; done").process,
    )
    .unwrap();
    (1..6).for_each(|n| await_file(&host, &format!("tmp/up{n}")));
    host.signal("c1", SignalTarget::All, 10);
    // In whichever order they end.
    let mut ends = vec![host.receive(), host.receive()];
    ends.sort_by_key(|end| matches!(end, GuestMessage::Exited { .. }));
    assert!(matches!(&ends[1], GuestMessage::Exited { status: ExitStatus::Code(9), .. }), "{ends:?}");
    (1..4).for_each(|n| assert!(host.share("root").join(format!("tmp/got{n}")).exists(), "{n}"));
    host.run(&command(&["sleep", "1000"]));
    host.signal("c1", SignalTarget::All, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn signals_for_all_behind_init() {
    let mut host = Host::new();
    let mut config =
        script("sleep 1000 & trap 'wait; exit 3' TERM; echo >/tmp/ready; while :; do sleep 0.01; done");
    config.namespaces.pid = IdMode::BehindInit;
    host.run(&config);
    await_file(&host, "tmp/ready");
    host.signal("c1", SignalTarget::All, 15);
    // Its own end, not that of its namespace.
    assert_eq!(host.exited("c1"), ExitStatus::Code(3));
    host.run(&config);
    host.signal("c1", SignalTarget::All, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn time_of_day() {
    let mut host = Host::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // The machine's clock is right, and stays as it is.
    host.send(&HostMessage::Clock { unix_ns: u64::try_from(now.as_nanos()).unwrap() });
    assert_eq!(host.output(script("echo alive")), "alive\n");
}
