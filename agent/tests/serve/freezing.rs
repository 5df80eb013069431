//! Containers that stand still.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use drupe_protocol::{
    Answer, CgroupSetting, ExitStatus, GuestMessage, HostMessage, IdMode, Question, SignalTarget,
};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("freezing::nothing_runs_until_the_thaw", nothing_runs_until_the_thaw),
    ("freezing::a_frozen_container_can_be_asked", a_frozen_container_can_be_asked),
    ("freezing::before_the_start", before_the_start),
    ("freezing::a_signal_waits_for_the_thaw", a_signal_waits_for_the_thaw),
    ("freezing::a_deadly_signal_ends_it_before_the_answer", a_deadly_signal_ends_it_before_the_answer),
    ("freezing::an_exec_waits_for_the_thaw", an_exec_waits_for_the_thaw),
    ("freezing::about_nobody", about_nobody),
];

const COUNTER: &str = "n=0; while :; do n=$((n + 1)); echo $n >/tmp/new; mv /tmp/new /tmp/count; done";

fn send(host: &mut Host, number: u32, question: Question) {
    host.send(&HostMessage::Ask { container: "c1".into(), number, question });
}

fn ask(host: &mut Host, question: Question) -> Answer {
    send(host, 7, question);
    answer(host, 7)
}

fn answer(host: &mut Host, expected: u32) -> Answer {
    match host.receive() {
        GuestMessage::Answer { number, answer, .. } if number == expected => answer,
        other => panic!("{other:?}"),
    }
}

/// An answer with the number of its question.
fn numbered(host: &mut Host) -> (u32, Answer) {
    match host.receive() {
        GuestMessage::Answer { number, answer, .. } => (number, answer),
        other => panic!("{other:?}"),
    }
}

fn count(host: &Host) -> Option<u64> {
    fs::read_to_string(host.share("root").join("tmp/count")).ok()?.trim().parse().ok()
}

fn await_count(host: &Host, above: Option<u64>) {
    while count(host) <= above {
        sleep(Duration::from_millis(5));
    }
}

fn await_file(path: &Path) {
    while !path.exists() {
        sleep(Duration::from_millis(5));
    }
}

/// Not a measure: in this time what is not frozen counts on.
fn assert_still(host: &Host) {
    let before = count(host);
    sleep(Duration::from_millis(300));
    assert_eq!(count(host), before);
}

fn nothing_runs_until_the_thaw() {
    let mut host = Host::new();
    host.run(&script(COUNTER));
    await_count(&host, None);
    for _ in 0..3 {
        assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
        assert_still(&host);
        assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen, "freezing twice is freezing once");
        assert_still(&host);
        let before = count(&host);
        assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed);
        await_count(&host, before);
    }
    assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed, "what runs can be let go");
    send(&mut host, 1, Question::Freeze);
    send(&mut host, 2, Question::Thaw);
    let mut answers = [numbered(&mut host), numbered(&mut host)];
    answers.sort_by_key(|answer| answer.0);
    // It stood still before it was let go, or was let go before.
    assert!(
        matches!(&answers, [(1, Answer::Frozen | Answer::Failed(_)), (2, Answer::Thawed)]),
        "{answers:?}"
    );
    let before = count(&host);
    await_count(&host, before);
}

fn a_frozen_container_can_be_asked() {
    let mut host = Host::new();
    host.run(&script(COUNTER));
    await_count(&host, None);
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    let before = count(&host);
    let Answer::Processes(processes) = ask(&mut host, Question::Processes) else { panic!("no processes") };
    assert!(processes.iter().any(|process| process.command.starts_with("sh -c")), "{processes:?}");
    assert!(matches!(ask(&mut host, Question::Statistics), Answer::Statistics(_)));
    let setting = |file: &str, value: &str| CgroupSetting {
        field: "linux.resources".into(),
        file: file.into(),
        value: value.into(),
    };
    let depth = |host: &Host| fs::read_to_string(host.cgroup.join("drupe/c1/cgroup.max.depth")).unwrap();
    let settings = vec![setting("cgroup.max.depth", "3"), setting("cgroup.max.descendants", "many")];
    assert!(matches!(ask(&mut host, Question::Update(settings)), Answer::Failed(_)));
    assert_eq!(depth(&host), "max\n");
    assert_eq!(ask(&mut host, Question::Update(vec![setting("cgroup.max.depth", "3")])), Answer::Updated);
    assert_eq!(depth(&host), "3\n");
    assert_eq!(count(&host), before);
    assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed);
    await_count(&host, before);
}

fn before_the_start() {
    let mut host = Host::new();
    host.configure(&script("exit 3")).unwrap();
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed);
    host.start("c1").unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Code(3));
}

fn a_signal_waits_for_the_thaw() {
    let mut host = Host::new();
    host.run(&script("trap 'echo >/tmp/got; exit 4' TERM; echo >/tmp/up; while :; do sleep 0.01; done"));
    await_file(&host.share("root").join("tmp/up"));
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    host.signal("c1", SignalTarget::Main, 15);
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    assert!(!host.share("root").join("tmp/got").exists());
    assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed);
    assert_eq!(host.exited("c1"), ExitStatus::Code(4));
}

/// Whatever is about to end has ended when the host is answered: nothing of it is left for after the pause.
fn a_deadly_signal_ends_it_before_the_answer() {
    for (mode, signal) in [(IdMode::Init, 9), (IdMode::BehindInit, 9), (IdMode::BehindInit, 15)] {
        let mut host = Host::new();
        let mut config = command(&["sleep", "1000"]);
        config.namespaces.pid = mode;
        for _ in 0..20 {
            host.run(&config);
            assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
            host.signal("c1", SignalTarget::Main, signal);
            send(&mut host, 8, Question::Freeze);
            assert_eq!(host.exited("c1"), ExitStatus::Signal(u8::try_from(signal).unwrap()));
            let Answer::Failed(failure) = answer(&mut host, 8) else { panic!("nobody is left") };
            assert!(failure.message.contains("c1"), "{failure:?}");
        }
    }
}

fn an_exec_waits_for_the_thaw() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    let process = Box::new(script("exit 5").process);
    host.send(&HostMessage::Exec { container: "c1".into(), exec: 1, process });
    assert_eq!(ask(&mut host, Question::Freeze), Answer::Frozen);
    assert!(matches!(ask(&mut host, Question::Processes), Answer::Processes(_)));
    assert_eq!(ask(&mut host, Question::Thaw), Answer::Thawed);
    assert!(matches!(host.receive(), GuestMessage::ExecStarted { exec: 1, .. }));
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(5));
}

fn about_nobody() {
    let mut host = Host::new();
    for question in [Question::Freeze, Question::Thaw] {
        let Answer::Failed(failure) = ask(&mut host, question) else { panic!("there is nobody") };
        assert_eq!(failure.message, "\"c1\": no such container");
    }
}
