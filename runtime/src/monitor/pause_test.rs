//! The monitor with clients that pause a container, and ask about it meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use drupe_protocol::{
    Answer, ExitStatus, Failure, FailureKind, GuestMessage, HostMessage, Question, SignalTarget,
};

use super::supervisor::Ending;
use super::tasks_test::{LIMIT, asks, exec, exec_started, kill, reply_to, running};
use super::tests::{Scene, exited, hello, ready, started};
use crate::control::{Client, ClientError, Reply, Request};

/// What the guest was asked last.
fn asked(scene: &mut Scene) -> (u32, Question) {
    let told = scene.received();
    let Some(HostMessage::Ask { number, question, .. }) = told.last() else { panic!("{told:?}") };
    (*number, question.clone())
}

fn answers(scene: &mut Scene, number: u32, answer: Answer) {
    scene.send(&GuestMessage::Answer { container: "c".into(), number, answer });
}

fn failure() -> Failure {
    Failure { kind: FailureKind::Setup, field: "freeze".into(), message: "no".into() }
}

fn is_silent(client: &mut Client) -> bool {
    matches!(client.reply(Some(Duration::from_millis(1))), Err(ClientError::Silent))
}

/// A client that pauses the container, and the question that the guest gets for it.
fn pausing(scene: &mut Scene) -> (Client, u32) {
    let client = asks(scene, &Request::Pause, &[]);
    let (number, question) = asked(scene);
    assert_eq!(question, Question::Freeze);
    (client, number)
}

fn pause(scene: &mut Scene) {
    let (mut client, number) = pausing(scene);
    answers(scene, number, Answer::Frozen);
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert!(scene.machine.is_paused());
}

fn resume(scene: &mut Scene) {
    let mut client = asks(scene, &Request::Resume, &[]);
    let (number, question) = asked(scene);
    assert_eq!(question, Question::Thaw);
    answers(scene, number, Answer::Thawed);
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert!(!scene.machine.is_paused());
}

/// A scene after the pause whose guest takes too long for everything.
fn paused_in_vain() -> Scene {
    let scene = Scene::with_patience(true, Duration::from_millis(1));
    let mut scene = scene.connect().then(&[hello(), ready(), started()]);
    let (mut client, _) = pausing(&mut scene);
    assert_eq!(until_reply(&mut scene, &mut client), Reply::Done);
    assert!(scene.machine.is_paused());
    scene
}

fn until_reply(scene: &mut Scene, client: &mut Client) -> Reply {
    loop {
        scene.turn();
        match client.reply(Some(Duration::from_millis(5))) {
            Err(ClientError::Silent) => {}
            reply => return reply.unwrap(),
        }
    }
}

#[test]
fn processes_are_frozen_before_the_processors_stop() {
    let mut scene = running();
    assert_eq!(reply_to(&mut scene, &Request::Resume), Reply::failed("container not paused"));
    let (mut client, number) = pausing(&mut scene);
    assert!(!scene.machine.is_paused() && is_silent(&mut client));
    assert_eq!(scene.told.borrow()[2..], [""; 0], "it is not paused yet");
    answers(&mut scene, number, Answer::Frozen);
    assert!(scene.machine.is_paused());
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert_eq!(reply_to(&mut scene, &Request::Pause), Reply::failed("container not running"));
    assert_eq!(scene.told.borrow()[2..], ["paused"]);
}

#[test]
fn the_guest_has_the_time_of_day_before_its_processes_go_on() {
    let mut scene = running();
    pause(&mut scene);
    scene.clocks();
    let mut client = asks(&mut scene, &Request::Resume, &[]);
    assert!(!scene.machine.is_paused());
    let told = scene.receive_all();
    let [HostMessage::Clock { .. }, HostMessage::Ask { number, question: Question::Thaw, .. }] = told[..]
    else {
        panic!("{told:?}")
    };
    assert!(is_silent(&mut client));
    assert_eq!(scene.told.borrow()[2..], ["paused"], "its processes stand still as yet");
    answers(&mut scene, number, Answer::Thawed);
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}

#[test]
fn a_container_is_paused_before_its_start_as_well() {
    let mut scene = Scene::setting(false).connect().then(&[hello(), ready()]);
    pause(&mut scene);
    let refused = reply_to(&mut scene, &Request::Start);
    assert_eq!(refused, Reply::failed("cannot start a container in the paused state"));
    resume(&mut scene);
    assert_eq!(scene.told.borrow()[1..], ["paused", "created"]);
}

#[test]
fn a_start_that_is_told_late_leaves_it_paused() {
    let mut scene = Scene::after(&[hello(), ready()]);
    pause(&mut scene);
    scene.send(&started());
    assert_eq!(scene.told.borrow()[1..], ["paused", "started", "paused"]);
    assert!(scene.machine.is_paused());
    resume(&mut scene);
    assert_eq!(scene.told.borrow().last().unwrap(), "running");
}

#[test]
fn the_processors_run_for_as_long_as_a_question_is_open() {
    let mut scene = running();
    pause(&mut scene);
    let update = Request::Update { settings: Vec::new() };
    for (request, answer) in [
        (Request::Processes, Answer::Processes(Vec::new())),
        (Request::Statistics, Answer::Statistics(BTreeMap::new())),
        (update.clone(), Answer::Updated),
        (update, Answer::Failed(failure())),
    ] {
        let mut client = asks(&mut scene, &request, &[]);
        assert!(!scene.machine.is_paused(), "{request:?}");
        let (number, _) = asked(&mut scene);
        answers(&mut scene, number, answer.clone());
        assert_eq!(client.reply(LIMIT).unwrap(), Reply::Answer(answer));
        assert!(scene.machine.is_paused(), "{request:?}");
    }
    let _first = asks(&mut scene, &Request::Processes, &[]);
    let (first, _) = asked(&mut scene);
    let gone = asks(&mut scene, &Request::Statistics, &[]);
    let (second, _) = asked(&mut scene);
    drop(gone);
    scene.turn();
    answers(&mut scene, first, Answer::Processes(Vec::new()));
    assert!(!scene.machine.is_paused(), "the second one is open");
    answers(&mut scene, second, Answer::Statistics(BTreeMap::new()));
    assert!(scene.machine.is_paused());
    assert_eq!(scene.told.borrow()[2..], ["paused"], "nobody saw it go on");
}

#[test]
fn a_signal_reaches_processes_that_stay_frozen() {
    let mut scene = running();
    pause(&mut scene);
    let request = Request::Signal { signal: libc::SIGUSR1, all: false };
    assert_eq!(reply_to(&mut scene, &request), Reply::Done);
    assert!(!scene.machine.is_paused());
    let told = scene.received();
    let signal =
        HostMessage::Signal { container: "c".into(), target: SignalTarget::Main, signal: libc::SIGUSR1 };
    assert_eq!(told[0], signal);
    let [_, HostMessage::Ask { number, question: Question::Freeze, .. }] = told[..] else {
        panic!("{told:?}")
    };
    answers(&mut scene, number, Answer::Frozen);
    assert!(scene.machine.is_paused());
    resume(&mut scene);
    assert_eq!(reply_to(&mut scene, &request), Reply::Done);
    assert_eq!(scene.received(), [signal], "what runs needs not be waited for");
}

#[test]
fn a_signal_that_comes_while_it_is_frozen_is_not_left_behind() {
    let mut scene = running();
    let (mut client, freeze) = pausing(&mut scene);
    let request = Request::Signal { signal: libc::SIGUSR1, all: true };
    assert_eq!(reply_to(&mut scene, &request), Reply::Done);
    let (number, _) = asked(&mut scene);
    answers(&mut scene, freeze, Answer::Frozen);
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert!(!scene.machine.is_paused());
    answers(&mut scene, number, Answer::Frozen);
    assert!(scene.machine.is_paused());
}

#[test]
fn the_end_of_an_exec_s_client_reaches_its_process() {
    let mut scene = running();
    let (client, ..) = exec(&mut scene);
    scene.send(&exec_started(1));
    pause(&mut scene);
    drop(client);
    scene.turn();
    assert!(!scene.machine.is_paused());
    let told = scene.received();
    let [signal, HostMessage::Ask { number, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*signal, kill(1));
    answers(&mut scene, *number, Answer::Frozen);
    assert!(scene.machine.is_paused());
}

#[test]
fn a_pause_and_a_resume_meet_a_question_that_is_open() {
    let mut scene = running();
    let mut asker = asks(&mut scene, &Request::Processes, &[]);
    let (question, _) = asked(&mut scene);
    let (mut client, freeze) = pausing(&mut scene);
    answers(&mut scene, freeze, Answer::Frozen);
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert_eq!(scene.told.borrow()[2..], ["paused"]);
    assert!(!scene.machine.is_paused());
    resume(&mut scene);
    answers(&mut scene, question, Answer::Processes(Vec::new()));
    assert_eq!(asker.reply(LIMIT).unwrap(), Reply::Answer(Answer::Processes(Vec::new())));
    assert!(!scene.machine.is_paused());
}

#[test]
fn whoever_pauses_or_resumes_at_the_same_time_is_told_the_same() {
    let mut scene = running();
    let (mut first, number) = pausing(&mut scene);
    let mut second = asks(&mut scene, &Request::Pause, &[]);
    assert_eq!(reply_to(&mut scene, &Request::Resume), Reply::failed("container not paused"));
    assert_eq!(scene.received(), []);
    answers(&mut scene, number, Answer::Frozen);
    for client in [&mut first, &mut second] {
        assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    }
    let mut first = asks(&mut scene, &Request::Resume, &[]);
    let (number, _) = asked(&mut scene);
    let mut second = asks(&mut scene, &Request::Resume, &[]);
    assert_eq!(reply_to(&mut scene, &Request::Pause), Reply::failed("container not running"));
    answers(&mut scene, number, Answer::Thawed);
    for client in [&mut first, &mut second] {
        assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    }
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}

#[test]
fn sigkill_ends_a_paused_container_at_once() {
    let mut scene = running();
    pause(&mut scene);
    let mut client = asks(&mut scene, &Request::Signal { signal: libc::SIGKILL, all: false }, &[]);
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Signal(9)));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
}

#[test]
fn a_container_can_end_while_it_is_paused() {
    let mut scene = running();
    pause(&mut scene);
    let request = Request::Signal { signal: libc::SIGTERM, all: false };
    assert_eq!(reply_to(&mut scene, &request), Reply::Done);
    scene.send(&exited(ExitStatus::Signal(15)));
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Signal(15)));
    assert!(!scene.machine.is_paused());

    let mut scene = running();
    let (mut client, _) = pausing(&mut scene);
    scene.send(&exited(ExitStatus::Code(0)));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::failed("container not running"));
}

#[test]
fn a_guest_that_cannot_freeze_is_paused_all_the_same() {
    let mut scene = running();
    let (mut client, number) = pausing(&mut scene);
    answers(&mut scene, number, Answer::Failed(failure()));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Done);
    assert!(scene.machine.is_paused());
    let mut client = asks(&mut scene, &Request::Resume, &[]);
    let (number, _) = asked(&mut scene);
    answers(&mut scene, number, Answer::Failed(failure()));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::failed("freeze: no"));
    assert!(!scene.machine.is_paused());
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}

#[test]
fn a_guest_that_never_answers_is_paused_and_resumed_all_the_same() {
    let mut scene = paused_in_vain();
    let mut client = asks(&mut scene, &Request::Statistics, &[]);
    let reply = until_reply(&mut scene, &mut client);
    assert_eq!(reply, Reply::failed("the container is paused, and its guest does not answer"));
    assert!(scene.machine.is_paused());
    let mut client = asks(&mut scene, &Request::Resume, &[]);
    assert!(matches!(until_reply(&mut scene, &mut client), Reply::Failed { .. }));
    assert!(!scene.machine.is_paused());
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}

#[test]
fn answers_that_come_too_late_change_nothing() {
    let mut scene = paused_in_vain();
    answers(&mut scene, 1, Answer::Frozen);
    assert!(scene.machine.is_paused());
    let mut client = asks(&mut scene, &Request::Resume, &[]);
    let (number, _) = asked(&mut scene);
    until_reply(&mut scene, &mut client);
    answers(&mut scene, number, Answer::Thawed);
    assert!(!scene.machine.is_paused() && scene.record.borrow().result.is_none());
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}

#[test]
fn a_guest_that_owes_every_answer_is_paused_at_once() {
    let mut scene = running();
    let mut askers: Vec<Client> = Vec::new();
    for _ in 0..64 {
        askers.push(asks(&mut scene, &Request::Processes, &[]));
    }
    scene.received();
    assert_eq!(reply_to(&mut scene, &Request::Pause), Reply::Done);
    assert_eq!(scene.told.borrow()[2..], ["paused"]);
    assert!(matches!(reply_to(&mut scene, &Request::Resume), Reply::Failed { .. }));
    assert!(!scene.machine.is_paused());
    assert_eq!(scene.told.borrow()[2..], ["paused", "running"]);
}
