//! Descriptors of every kind that a user may have as standard streams.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

use super::*;

fn endpoint(fd: impl Into<OwnedFd>, direction: Direction) -> Endpoint {
    Endpoint::new(fd.into(), direction, Arc::new(Epoll::new().unwrap()), 42).unwrap()
}

/// An endpoint that was not able to open its descriptor anew.
fn shared(fd: impl Into<OwnedFd>, access: Access) -> Endpoint {
    let fd = fd.into();
    let epoll = Arc::new(Epoll::new().unwrap());
    let events = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
    epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(events, 42)).unwrap();
    Endpoint { fd, access, is_ready: true, epoll }
}

fn announcements(endpoint: &Endpoint) -> usize {
    let mut events = [EpollEvent::default(); 4];
    let count = endpoint.epoll.wait(0, &mut events).unwrap();
    assert!(events[..count].iter().all(|event| event.data() == 42));
    count
}

fn is_nonblocking(fd: &impl std::os::fd::AsFd) -> bool {
    rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Both sides of a pseudo terminal: the program's, which behaves like a user's terminal, and the other.
fn terminal() -> (File, File) {
    let (mut master, mut slave): (RawFd, RawFd) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both pointers are to integers that live through the call, and the others may be null.
    let result = unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
    assert_eq!(result, 0);
    // SAFETY: openpty has made this descriptor, and nobody else knows it.
    let slave = unsafe { File::from_raw_fd(slave) };
    // SAFETY: likewise.
    let master = unsafe { File::from_raw_fd(master) };
    (slave, master)
}

fn fill(output: &mut Endpoint) -> usize {
    let mut total = 0;
    while let Transfer::Done(count) = output.write(&[b'x'; 10_000]) {
        total += count;
    }
    assert!(!output.is_ready());
    total
}

#[test]
fn a_pipe_is_read_until_it_ends() {
    type Make = fn(PipeReader) -> Endpoint;
    let makes: [Make; 3] = [
        |reader| endpoint(reader, Direction::Input),
        |reader| shared(reader, Access::NoWait),
        |reader| shared(reader, Access::Polled { write_limit: PIPE_BUF }),
    ];
    for make in makes {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let kept = reader.try_clone().unwrap();
        let mut input = make(reader);
        assert!(!is_nonblocking(&kept), "others see our O_NONBLOCK");
        let mut buffer = [0; 100];
        assert_eq!(input.read(&mut buffer), Transfer::NotNow);
        assert!(!input.is_ready());
        announcements(&input);
        writer.write_all(b"hello").unwrap();
        assert_eq!(announcements(&input), 1);
        input.set_ready();
        assert_eq!(input.read(&mut buffer), Transfer::Done(5));
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(input.read(&mut buffer), Transfer::NotNow);
        assert_eq!(announcements(&input), 0, "silent as long as nothing happens");
        drop(writer);
        assert_eq!(announcements(&input), 1);
        assert_eq!(input.read(&mut buffer), Transfer::Ended);
    }
}

#[test]
fn a_full_pipe_does_not_block_and_announces_room() {
    type Make = fn(PipeWriter) -> Endpoint;
    let makes: [Make; 3] = [
        |writer| endpoint(writer, Direction::Output),
        |writer| shared(writer, Access::NoWait),
        |writer| shared(writer, Access::Polled { write_limit: PIPE_BUF }),
    ];
    for make in makes {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let kept = writer.try_clone().unwrap();
        let mut output = make(writer);
        assert!(!is_nonblocking(&kept));
        // What is written in pieces of PIPE_BUF may leave some of the pipe's pages partly filled.
        assert!((50_000..=65_536).contains(&fill(&mut output)));
        announcements(&output);
        reader.read_exact(&mut [0; 8192]).unwrap();
        assert_eq!(announcements(&output), 1);
        output.set_ready();
        assert!(matches!(output.write(&[1; 100_000]), Transfer::Done(4096..=8192)));
        drop(reader);
        output.set_ready();
        assert_eq!(output.write(b"x"), Transfer::Ended);
    }
}

#[test]
fn a_pipe_that_nobody_reads_ends() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(endpoint(writer, Direction::Output).write(b"x"), Transfer::Ended);
}

#[test]
fn a_socket_that_others_share_is_left_alone() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let kept = theirs.try_clone().unwrap();
    let mut input = endpoint(theirs.try_clone().unwrap(), Direction::Input);
    let mut output = endpoint(theirs, Direction::Output);
    assert_eq!(input.access, Access::Socket);
    let mut buffer = [0; 10];
    assert_eq!(input.read(&mut buffer), Transfer::NotNow);
    assert!(fill(&mut output) > 0);
    assert!(!is_nonblocking(&kept));
    output.shut_down(Direction::Output);
    drop(ours);
    assert_eq!(input.read(&mut buffer), Transfer::Ended);
    output.set_ready();
    assert_eq!(output.write(b"x"), Transfer::Ended);
}

#[test]
fn a_terminal_is_read_and_written() {
    for access in [None, Some(Access::NoWait), Some(Access::Polled { write_limit: 1 })] {
        let (slave, mut master) = terminal();
        let other = slave.try_clone().unwrap();
        let kept = slave.try_clone().unwrap();
        let (mut input, mut output) = match access {
            None => (endpoint(slave, Direction::Input), endpoint(other, Direction::Output)),
            Some(access) => (shared(slave, access), shared(other, access)),
        };
        let mut buffer = [0; 100];
        assert_eq!(input.read(&mut buffer), Transfer::NotNow);
        assert!(!is_nonblocking(&kept));
        master.write_all(b"ls\n").unwrap();
        input.set_ready();
        assert_eq!(input.read(&mut buffer), Transfer::Done(3), "{access:?}");
        assert_eq!(output.write(b"ok"), Transfer::Done(2));
        let mut echo = [0; 6];
        master.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ls\r\nok");
        assert!(fill(&mut output) > 0, "stops when nobody looks at the screen");
        // End of input, as typed.
        master.write_all(&[4]).unwrap();
        input.set_ready();
        assert_eq!(input.read(&mut buffer), Transfer::Ended);
    }
}

#[test]
fn a_terminals_other_side_is_not_opened_anew() {
    let (mut slave, master) = terminal();
    let mut input = endpoint(master, Direction::Input);
    slave.write_all(b"hi").unwrap();
    let mut buffer = [0; 10];
    assert_eq!(input.read(&mut buffer), Transfer::Done(2));
    assert_eq!(input.read(&mut buffer), Transfer::NotNow);
}

#[test]
fn a_file_keeps_its_offset_and_its_append_mode() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut input = endpoint(file.try_clone().unwrap(), Direction::Input);
    assert_eq!(input.access, Access::File);
    let mut buffer = [0; 4];
    assert_eq!(input.read(&mut buffer), Transfer::Done(4));
    assert_eq!(&buffer, b"4567");
    assert_eq!(file.stream_position().unwrap(), 8);

    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, "one").unwrap();
    let mut output = endpoint(File::options().append(true).open(&path).unwrap(), Direction::Output);
    assert_eq!(output.write(b"two"), Transfer::Done(3));
    assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");
}

#[test]
fn null_and_full_behave() {
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(endpoint(null(), Direction::Input).read(&mut [0; 4]), Transfer::Ended);
    assert_eq!(endpoint(null(), Direction::Output).write(&[0; 70_000]), Transfer::Done(70_000));
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(endpoint(full, Direction::Output).write(b"x"), Transfer::Ended);
}

#[test]
fn a_fifo_works_with_and_without_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let both = || File::options().read(true).write(true).open(&path).unwrap();
    let mut output = endpoint(both(), Direction::Output);
    let mut input = endpoint(both(), Direction::Input);
    assert_eq!(output.write(b"abc"), Transfer::Done(3));
    assert_eq!(input.read(&mut [0; 10]), Transfer::Done(3));
    // Old kernels and FIFOs know no RWF_NOWAIT: the answer to that is to poll.
    let mut polled = shared(both(), Access::NoWait);
    assert_eq!(polled.read(&mut [0; 10]), Transfer::NotNow);
    assert_eq!(output.write(b"abc"), Transfer::Done(3));
    polled.set_ready();
    assert_eq!(polled.read(&mut [0; 10]), Transfer::Done(3));
}

#[test]
fn one_socket_is_recognised() {
    let (one, two) = UnixStream::pair().unwrap();
    let again = OwnedFd::from(one.try_clone().unwrap());
    let (one, two) = (OwnedFd::from(one), OwnedFd::from(two));
    assert!(are_same_socket(&one, &again));
    assert!(!are_same_socket(&one, &two));
    let file = tempfile::tempfile().unwrap();
    assert!(!are_same_socket(&file.try_clone().unwrap().into(), &file.into()));
}

#[test]
fn a_closed_endpoint_is_not_announced_though_others_hold_the_description() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let epoll = Arc::new(Epoll::new().unwrap());
    let kept = theirs.try_clone().unwrap();
    drop(Endpoint::new(theirs.into(), Direction::Input, Arc::clone(&epoll), 42).unwrap());
    (&ours).write_all(b"x").unwrap();
    assert_eq!(epoll.wait(0, &mut [EpollEvent::default(); 4]).unwrap(), 0);
    drop(kept);
}
