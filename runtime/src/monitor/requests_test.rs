//! The monitor with a client: what a verb of another process gets from it.

use std::thread;
use std::time::Duration;

use drupe_protocol::{ExitStatus, FailureKind, GuestMessage, HostMessage, SignalTarget};

use super::supervisor::Ending;
use super::tests::{Scene, exited, failed, hello, ready, started};
use crate::control::{Client, ClientError, Reply, Request};

/// The reply to a request, while the monitor's loop turns; `meanwhile` is what happens in the guest.
fn ask(
    scene: &mut Scene,
    request: Request,
    meanwhile: impl FnOnce(&mut Scene),
) -> Result<Reply, ClientError> {
    let mut client = Client::connect(&scene.entry).unwrap();
    client.send(&request, &[]).unwrap();
    scene.turn();
    let asking = thread::spawn(move || client.reply(Some(Duration::from_secs(60))));
    meanwhile(scene);
    while !asking.is_finished() {
        scene.turn();
        thread::yield_now();
    }
    asking.join().unwrap()
}

fn signal(signal: i32) -> Request {
    Request::Signal { signal, all: false }
}

/// A container that waits for its start.
fn created() -> Scene {
    Scene::setting(false).connect().then(&[hello(), ready()])
}

#[test]
fn a_container_waits_for_its_start() {
    let mut scene = created();
    assert_eq!(scene.received(), []);
    assert_eq!(*scene.told.borrow(), ["created"]);
    let reply = ask(&mut scene, Request::Start, |scene| {
        assert_eq!(scene.received(), [HostMessage::Start { container: "c".into(), state: "{}".into() }]);
        let second = ask(scene, Request::Start, |_| {}).unwrap();
        assert_eq!(second, Reply::failed("the container is being started"));
        scene.send(&started());
    });
    assert_eq!(reply.unwrap(), Reply::Done);
    assert_eq!(*scene.told.borrow(), ["created", "started"]);
    let again = ask(&mut scene, Request::Start, |_| {}).unwrap();
    assert_eq!(again, Reply::failed("cannot start an already running container"));
}

#[test]
fn a_start_that_fails_is_told_to_who_asked_for_it() {
    let mut scene = created();
    let reply = ask(&mut scene, Request::Start, |scene| scene.send(&failed(FailureKind::NotFound))).unwrap();
    let message = "config.json: process.args[0]: \"x\": not found".to_owned();
    assert_eq!(reply, Reply::Failed { message, status: 127 });
    assert_eq!(scene.error().1, 127);
    assert_eq!(*scene.told.borrow(), ["created", "ended None"]);
}

#[test]
fn signals_are_delivered_to_whom_they_are_for() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    for (all, target) in [(false, SignalTarget::Main), (true, SignalTarget::All)] {
        let request = Request::Signal { signal: libc::SIGUSR1, all };
        assert_eq!(ask(&mut scene, request, |_| {}).unwrap(), Reply::Done);
        let expected = HostMessage::Signal { container: "c".into(), target, signal: libc::SIGUSR1 };
        assert_eq!(scene.received(), [expected]);
    }
}

#[test]
fn a_kill_is_answered_at_the_end() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    let reply = ask(&mut scene, signal(libc::SIGKILL), |scene| {
        let expected =
            HostMessage::Signal { container: "c".into(), target: SignalTarget::Main, signal: libc::SIGKILL };
        assert_eq!(scene.received(), [expected]);
        assert!(scene.record.borrow().result.is_none());
        scene.send(&exited(ExitStatus::Signal(9)));
    });
    assert_eq!(reply.unwrap(), Reply::Done);
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Signal(9)));
    assert_eq!(scene.told.borrow().last().unwrap(), "ended Some(Signal(9))");
}

#[test]
fn a_guest_that_does_not_obey_a_kill_is_ended() {
    let scene = Scene::with_patience(true, Duration::from_millis(1));
    let mut scene = scene.connect().then(&[hello(), ready(), started()]);
    let reply = ask(&mut scene, signal(libc::SIGKILL), |_| {});
    assert_eq!(reply.unwrap(), Reply::Done);
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Signal(9)));
}

#[test]
fn a_container_without_a_program_ends_by_its_signals() {
    for number in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        let mut scene = created();
        assert_eq!(ask(&mut scene, signal(libc::SIGCHLD), |_| {}).unwrap(), Reply::Done);
        assert!(scene.record.borrow().result.is_none());
        let _ = ask(&mut scene, signal(number), |_| {});
        assert_eq!(scene.ending(), Ending::Interrupted(number));
        assert_eq!(*scene.told.borrow(), ["created".to_owned(), format!("ended Some(Signal({number}))")]);
    }
    for before in [vec![], vec![hello()]] {
        let mut scene = Scene::setting(false).connect().then(&before);
        assert_eq!(ask(&mut scene, signal(libc::SIGKILL), |_| {}).unwrap(), Reply::Done);
        assert_eq!(scene.ending(), Ending::Interrupted(libc::SIGKILL));
    }
}

#[test]
fn many_clients_come_and_go() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    let mut clients: Vec<_> = (0..300)
        .map(|number| {
            // Those that are not let in wait in line, which is shorter than this.
            if number % 64 == 0 {
                scene.turn();
            }
            Client::connect(&scene.entry).unwrap()
        })
        .collect();
    scene.turn();
    clients.truncate(299);
    drop(clients);
    scene.turn();
    assert_eq!(ask(&mut scene, signal(libc::SIGUSR1), |_| {}).unwrap(), Reply::Done);
    scene.send(&exited(ExitStatus::Code(0)));
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Code(0)));
}

#[test]
fn what_is_out_of_turn_does_not_reach_a_guest_that_starts() {
    let mut scene = Scene::setting(false).connect().then(&[hello()]);
    let reply = ask(&mut scene, Request::Start, |_| {}).unwrap();
    assert_eq!(reply, Reply::failed("the container is being started"));
    scene.received();
    scene.send(&GuestMessage::Started { container: "c".into(), pid: 1, now_us: 0 });
    assert!(scene.error().0.contains("sent Started while drupe waited for Ready"));
}
