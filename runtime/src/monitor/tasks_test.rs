//! The monitor with clients that exec and ask.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use drupe_protocol::{
    Answer, Descriptor, ExitStatus, Failure, FailureKind, GuestMessage, HostMessage, Process, Question,
    SignalTarget, TerminalConfig, WindowSize,
};

use super::tests::{Scene, exited, hello, ready, started};
use crate::control::{Client, ClientError, Reply, Request};

pub(super) const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

pub(super) fn running() -> Scene {
    Scene::after(&[hello(), ready(), started()])
}

/// A client whose request the monitor has got.
pub(super) fn asks(scene: &mut Scene, request: &Request, fds: &[BorrowedFd<'_>]) -> Client {
    let mut client = Client::connect(&scene.entry).unwrap();
    client.send(request, fds).unwrap();
    scene.turn();
    client
}

pub(super) fn reply_to(scene: &mut Scene, request: &Request) -> Reply {
    asks(scene, request, &[]).reply(LIMIT).unwrap()
}

fn process() -> Process {
    Process { args: vec!["id".into()], cwd: "/".into(), ..Process::default() }
}

/// An exec whose output can be read.
pub(super) fn exec(scene: &mut Scene) -> (Client, Process, std::io::PipeReader) {
    let null = File::open("/dev/null").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let request = Request::Exec { process: Box::new(process()) };
    let client = asks(scene, &request, &[null.as_fd(), writer.as_fd(), writer.as_fd()]);
    let told = scene.received();
    let [HostMessage::Exec { process, .. }] = told.as_slice() else { panic!("{told:?}") };
    (client, (**process).clone(), reader)
}

pub(super) fn exec_started(exec: u32) -> GuestMessage {
    GuestMessage::ExecStarted { container: "c".into(), exec, pid: 9 }
}

fn exec_exited(exec: u32, status: ExitStatus) -> GuestMessage {
    GuestMessage::ExecExited { container: "c".into(), exec, status }
}

pub(super) fn kill(exec: u32) -> HostMessage {
    HostMessage::Signal { container: "c".into(), target: SignalTarget::Exec(exec), signal: libc::SIGKILL }
}

#[test]
fn an_exec_is_told_from_its_start_to_the_end_of_its_output() {
    let mut scene = running();
    let (mut client, process, mut reader) = exec(&mut scene);
    scene.send(&exec_started(1));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::ExecStarted { exec: 1 });
    let (stdout, stderr) = (process.stdio.stdout.unwrap(), process.stdio.stderr.unwrap());
    let mut output = File::from(scene.machine.connect(stdout).unwrap().output.unwrap());
    output.write_all(b"hi").unwrap();
    scene.send(&exec_exited(1, ExitStatus::Code(7)));
    assert!(matches!(client.reply(Some(Duration::from_millis(1))), Err(ClientError::Silent)));
    drop(output);
    scene.machine.close(stdout);
    scene.turn();
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::ExecExited { status: ExitStatus::Code(7) });
    for port in [process.stdio.stdin.unwrap(), stdout, stderr] {
        assert!(scene.machine.connect(port).is_none(), "nobody listens any more");
    }
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi", "and then the end, though the client is still there");
}

#[test]
fn an_exec_that_fails_is_told_with_its_reason() {
    let mut scene = running();
    let (mut client, ..) = exec(&mut scene);
    let failure =
        Failure { kind: FailureKind::NotFound, field: "process.args[0]".into(), message: "no".into() };
    scene.send(&GuestMessage::ExecFailed { container: "c".into(), exec: 1, failure: failure.clone() });
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Answer(Answer::Failed(failure)));
}

#[test]
fn signals_and_sizes_go_to_the_exec_of_the_client_that_sends_them() {
    let mut scene = running();
    let (mut first, ..) = exec(&mut scene);
    let (mut second, ..) = exec(&mut scene);
    let size = WindowSize { rows: 3, columns: 4 };
    second.send(&Request::SignalExec { signal: 15 }, &[]).unwrap();
    second.send(&Request::ResizeExec { size }, &[]).unwrap();
    scene.turn();
    let signal = HostMessage::Signal { container: "c".into(), target: SignalTarget::Exec(2), signal: 15 };
    let resize = HostMessage::Resize { container: "c".into(), exec: Some(2), size };
    assert_eq!(scene.received(), [signal, resize]);
    scene.send(&exec_started(2));
    scene.send(&exec_exited(2, ExitStatus::Signal(15)));
    assert_eq!(second.reply(LIMIT).unwrap(), Reply::ExecStarted { exec: 2 });
    assert_eq!(second.reply(LIMIT).unwrap(), Reply::ExecExited { status: ExitStatus::Signal(15) });
    assert!(matches!(first.reply(Some(Duration::from_millis(1))), Err(ClientError::Silent)));
}

#[test]
fn the_end_of_a_client_is_the_end_of_its_process() {
    let mut scene = running();
    let (client, ..) = exec(&mut scene);
    scene.send(&exec_started(1));
    drop(client);
    scene.turn();
    assert_eq!(scene.received(), [kill(1)]);
    scene.send(&exec_exited(1, ExitStatus::Signal(9)));

    let (client, ..) = exec(&mut scene);
    drop(client);
    scene.turn();
    scene.received();
    scene.send(&exec_started(2));
    assert_eq!(scene.received(), [kill(2)], "it may not have been there when it was killed first");
    scene.send(&exec_exited(2, ExitStatus::Signal(9)));
    assert!(scene.record.borrow().result.is_none());
}

#[test]
fn a_terminal_and_descriptors_come_in_their_order() {
    let mut scene = running();
    let (mut pipe_reader, pipe_writer) = std::io::pipe().unwrap();
    let (terminal, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let descriptor = Descriptor { fd: 3, port: 0, read: false, write: true };
    let process =
        Process { terminal: Some(TerminalConfig::default()), descriptors: vec![descriptor], ..process() };
    let request = Request::Exec { process: Box::new(process) };
    let fds = [terminal.as_fd(), terminal.as_fd(), pipe_writer.as_fd()];
    let _client = asks(&mut scene, &request, &fds);
    let told = scene.received();
    let [HostMessage::Exec { process, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((process.stdio.stdin, process.stdio.stdout), (None, None));
    let stream = scene.machine.connect(process.stdio.terminal.unwrap()).unwrap();
    File::from(stream.output.unwrap()).write_all(b"$ ").unwrap();
    let mut prompt = [0; 2];
    (&ours).read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"$ ");
    let [Descriptor { fd: 3, port, read: false, write: true }] = process.descriptors[..] else { panic!() };
    let stream = scene.machine.connect(port).unwrap();
    File::from(stream.output.unwrap()).write_all(b"x").unwrap();
    pipe_reader.read_exact(&mut [0]).unwrap();
}

#[test]
fn an_exec_without_its_descriptors_is_refused() {
    let mut scene = running();
    let null = File::open("/dev/null").unwrap();
    let request = Request::Exec { process: Box::new(process()) };
    for fds in [&[][..], &[null.as_fd(); 2], &[null.as_fd(); 4]] {
        let reply = asks(&mut scene, &request, fds).reply(LIMIT).unwrap();
        assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
    }
    assert_eq!(scene.received(), []);
}

#[test]
fn what_the_guest_says_of_execs_that_are_none_ends_the_conversation() {
    for message in [exec_started(1), exec_exited(1, ExitStatus::Code(0))] {
        let mut scene = running();
        scene.send(&message);
        assert!(scene.error().0.contains("number 1, which is not in turn"), "{:?}", scene.error());
    }
    let mut scene = running();
    let _client = exec(&mut scene);
    scene.send(&GuestMessage::ExecStarted { container: "other".into(), exec: 1, pid: 9 });
    assert!(scene.error().0.contains("for a container \"other\""), "{:?}", scene.error());
}

#[test]
fn output_that_the_guest_does_not_end_is_given_up() {
    let mut scene = running();
    let (mut client, process, mut reader) = exec(&mut scene);
    scene.send(&exec_started(1));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::ExecStarted { exec: 1 });
    let stream = scene.machine.connect(process.stdio.stdout.unwrap()).unwrap();
    scene.send(&exec_exited(1, ExitStatus::Code(0)));
    while matches!(client.reply(Some(Duration::from_millis(20))), Err(ClientError::Silent)) {
        scene.turn();
    }
    drop(stream);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn questions_are_the_guest_s_to_answer() {
    let mut scene = running();
    let mut client = asks(&mut scene, &Request::Processes, &[]);
    let asked = HostMessage::Ask { container: "c".into(), number: 1, question: Question::Processes };
    assert_eq!(scene.received(), [asked]);
    let answer = Answer::Processes(Vec::new());
    scene.send(&GuestMessage::Answer { container: "c".into(), number: 1, answer: answer.clone() });
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::Answer(answer));

    let gone = asks(&mut scene, &Request::Statistics, &[]);
    drop(gone);
    scene.turn();
    let answer = Answer::Statistics(std::collections::BTreeMap::new());
    scene.send(&GuestMessage::Answer { container: "c".into(), number: 2, answer });
    assert!(scene.record.borrow().result.is_none());
}

#[test]
fn nothing_is_asked_of_a_guest_that_boots() {
    let mut scene = Scene::setting(false).connect().then(&[hello()]);
    for request in [Request::Processes, Request::Statistics, Request::Pause, Request::Resume] {
        assert!(matches!(reply_to(&mut scene, &request), Reply::Failed { .. }), "{request:?}");
    }
}

#[test]
fn the_container_s_end_ends_the_waiting() {
    let mut scene = running();
    let (mut client, _, mut reader) = exec(&mut scene);
    scene.send(&exec_started(1));
    assert_eq!(client.reply(LIMIT).unwrap(), Reply::ExecStarted { exec: 1 });
    scene.send(&exited(ExitStatus::Code(0)));
    drop(scene);
    assert!(matches!(client.reply(LIMIT), Err(ClientError::Gone)));
    assert_eq!(reader.read(&mut [0]).map_err(|error| error.kind()), Ok::<_, ErrorKind>(0));
}
