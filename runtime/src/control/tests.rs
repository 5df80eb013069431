//! Both ends of the control socket, in one process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::container::{Entry, Store, record};

fn entry(dir: &tempfile::TempDir) -> Entry {
    // Longer than a socket's path can be.
    let root = dir.path().join("r".repeat(200));
    let store = Store::open(&root).unwrap();
    store.create(&"x".parse().unwrap(), &record::tests::record("x")).unwrap().0
}

fn session(listener: &Listener) -> Session {
    loop {
        if let Some(session) = listener.accept() {
            return session;
        }
        std::thread::yield_now();
    }
}

fn request(session: &mut Session) -> (Request, Vec<std::os::fd::OwnedFd>) {
    loop {
        match session.receive() {
            Received::Request(request, descriptors) => return (request, descriptors),
            Received::Nothing => std::thread::yield_now(),
            Received::End => panic!("the client has gone"),
        }
    }
}

#[test]
fn requests_replies_and_descriptors_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let entry = entry(&dir);
    let listener = Listener::bind(entry.dir().as_fd()).unwrap();
    let mut process = Process { args: vec!["x".repeat(1 << 20)], ..Process::default() };
    process.cwd = "/".into();
    let exec = Request::Exec { process: Box::new(process) };
    let (mut reader, writer) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut session = session(&listener);
            let (got, descriptors) = request(&mut session);
            assert_eq!(got, exec);
            assert_eq!(descriptors.len(), 2);
            for descriptor in descriptors {
                File::from(descriptor).write_all(b"hi").unwrap();
            }
            session.send(&Reply::ExecStarted { exec: 1 }).unwrap();
            session.send(&Reply::failed("x".repeat(1 << 20))).unwrap();
            while session.is_unsent() {
                session.flush();
            }
            let (got, descriptors) = request(&mut session);
            assert_eq!(got, Request::Pause);
            assert!(descriptors.is_empty());
            while matches!(session.receive(), Received::Nothing) {}
        });
        let mut client = Client::connect(&entry).unwrap();
        let fds = [writer.as_fd(), writer.as_fd()];
        assert_eq!(client.ask(&exec, &fds, None).unwrap(), Reply::ExecStarted { exec: 1 });
        assert_eq!(client.reply(None).unwrap(), Reply::failed("x".repeat(1 << 20)));
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hihi");
        let silence = client.ask(&Request::Pause, &[], Some(Duration::from_millis(1)));
        assert!(matches!(silence, Err(ClientError::Silent | ClientError::Gone)), "{silence:?}");
    });
}

#[test]
fn a_monitor_that_is_gone_is_told_from_one_that_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let entry = entry(&dir);
    assert!(matches!(Client::connect(&entry), Err(ClientError::Gone)));
    let listener = Listener::bind(entry.dir().as_fd()).unwrap();
    let mut client = Client::connect(&entry).unwrap();
    let silence = client.ask(&Request::Start, &[], Some(Duration::from_millis(1)));
    assert!(matches!(silence, Err(ClientError::Silent)));
    drop(session(&listener));
    assert!(matches!(client.reply(None), Err(ClientError::Gone)));
    drop(listener);
    assert!(matches!(Client::connect(&entry), Err(ClientError::Gone)));
    // What a killed monitor left is replaced.
    drop(Listener::bind(entry.dir().as_fd()).unwrap());
    std::fs::remove_file(dir.path().join("r".repeat(200)).join("x/control")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.path().join("r".repeat(200)).join("x/control")).unwrap();
    assert!(matches!(Client::connect(&entry), Err(ClientError::Socket(_))));
}

#[test]
fn replies_do_not_pile_up_for_a_client_that_does_not_read() {
    let (_client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut session = Session::new(server);
    let reply = Reply::failed("x".repeat(1 << 20));
    let sent = (0..100).take_while(|_| session.send(&reply).is_ok()).count();
    assert!((4..20).contains(&sent), "{sent}");
}

#[test]
fn a_client_that_speaks_another_language_is_dropped() {
    let (client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut session = Session::new(server);
    assert!(matches!(session.receive(), Received::Nothing));
    (&client).write_all(b"\x05\0\0\0junk!").unwrap();
    assert!(matches!(session.receive(), Received::End));
}
