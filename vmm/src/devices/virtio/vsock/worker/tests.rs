//! The whole device, with a driver and a host that behave: bytes, credit and ends.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::super::HostStream;
use super::super::packet::Op;
use super::super::testing::{Driver, Layout, Random, Socket, TestPort};

const BUF: u32 = 256 * 1024;

/// A socket pair: the device has one end as input and output, we have the other.
fn socket_host() -> (HostStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let output = OwnedFd::from(theirs.try_clone().unwrap());
    (HostStream { input: Some(theirs.into()), output: Some(output) }, ours)
}

/// Two pipes: the device has an input and an output, we have what we write to and read from.
fn pipe_host() -> (HostStream, File, File) {
    let (input, to_guest) = std::io::pipe().unwrap();
    let (from_guest, output) = std::io::pipe().unwrap();
    let stream = HostStream { input: Some(input.into()), output: Some(output.into()) };
    (stream, OwnedFd::from(to_guest).into(), OwnedFd::from(from_guest).into())
}

fn connected(stream: HostStream) -> (TestPort, Driver, Socket) {
    let port = TestPort::default();
    port.offer(stream);
    let mut driver = Driver::with_port(&port, 64);
    let socket = Socket::connect(&mut driver, 5000, BUF);
    assert!(socket.is_connected && !socket.is_reset);
    (port, driver, socket)
}

fn try_read(mut source: impl Read, limit: usize) -> Vec<u8> {
    let mut buffer = vec![0; limit];
    match source.read(&mut buffer) {
        Ok(count) => buffer[..count].to_vec(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_mebibyte_each_way_arrives_byte_for_byte() {
    for (seed, layout) in [(1, Layout::Whole), (2, Layout::Split), (3, Layout::Shredded)] {
        let (host, mut ours) = socket_host();
        let (port, mut driver, mut socket) = connected(host);
        driver.layout = layout;
        let mut random = Random(seed);
        let outward = random.bytes(1 << 20);
        let inward = random.bytes(1 << 20);
        let (mut sent, mut got) = (0, Vec::new());
        let (mut host_sent, mut guest_got) = (0, Vec::new());
        while got.len() < outward.len() || guest_got.len() < inward.len() {
            let chunk = &outward[sent..];
            sent += socket.write(&mut driver, &chunk[..chunk.len().min(1 + random.below(70_000))]);
            // Both readers are slow, and stop at times.
            got.extend(try_read(&ours, 1 + random.below(9000) * random.below(3)));
            let chunk = &inward[host_sent..];
            let limit = chunk.len().min(1 + random.below(40_000));
            host_sent += ours.write(&chunk[..limit]).unwrap_or(0);
            driver.run();
            let limit = 1 + random.below(20_000) * random.below(3);
            guest_got.extend(socket.read(&mut driver, limit));
        }
        assert!(got == outward, "guest to host, {layout:?}");
        assert!(guest_got == inward, "host to guest, {layout:?}");
        socket.shut_down(&mut driver, 3);
        assert!(socket.is_reset);
        assert_eq!(port.log().closed, [5000]);
    }
}

#[test]
fn a_slow_reader_makes_the_guest_wait_and_loses_nothing() {
    let (host, _to_guest, mut from_guest) = pipe_host();
    let (port, mut driver, mut socket) = connected(host);
    let data = Random(7).bytes(400_000);
    let mut sent = 0;
    while socket.credit() > 0 {
        sent += socket.write(&mut driver, &data[sent..]);
    }
    // A pipe's buffer, ours, and no more.
    assert!(sent <= 2 * 65_536, "{sent} bytes were taken from the guest");
    let calm = driver.wake_ups;
    driver.run();
    assert_eq!(driver.wake_ups, calm, "polls while nobody reads");

    let mut got = Vec::new();
    while got.len() < data.len() {
        got.extend(try_read(&mut from_guest, 10_000));
        driver.run();
        socket.take(&mut driver);
        sent += socket.write(&mut driver, &data[sent..]);
    }
    assert!(got == data);
    assert!(port.log().closed.is_empty());
}

#[test]
fn a_guest_that_does_not_read_stops_the_host_without_polling() {
    let (host, mut ours) = socket_host();
    let (_port, mut driver, mut socket) = connected(host);
    let data = Random(9).bytes(1 << 20);
    let mut host_sent = 0;
    while let Ok(count) = ours.write(&data[host_sent..]) {
        host_sent += count;
        driver.run();
        socket.take(&mut driver);
    }
    assert_eq!(socket.unread.len(), BUF as usize, "all the credit was used");
    let calm = driver.wake_ups;
    driver.run();
    assert_eq!(driver.wake_ups, calm);
    let mut got = Vec::new();
    while got.len() < data.len() {
        got.extend(socket.read(&mut driver, 100_000));
        if let Ok(count) = ours.write(&data[host_sent..]) {
            host_sent += count;
        }
        driver.run();
    }
    assert!(got == data);
}

#[test]
fn without_rx_buffers_nothing_is_read_and_nothing_polls() {
    let port = TestPort::default();
    let (host, mut ours) = socket_host();
    port.offer(host);
    let mut driver = Driver::with_port(&port, 2);
    let mut socket = Socket::connect(&mut driver, 5000, BUF);
    ours.write_all(&[7; 20_000]).unwrap();
    driver.run();
    let calm = driver.wake_ups;
    driver.run();
    assert_eq!(driver.wake_ups, calm);
    let mut got = Vec::new();
    while got.len() < 20_000 {
        got.extend(socket.read(&mut driver, 20_000));
    }
    assert_eq!(got, [7; 20_000]);
}

#[test]
fn the_host_ends_first() {
    let (host, mut ours) = socket_host();
    let (port, mut driver, mut socket) = connected(host);
    ours.write_all(b"last words").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    driver.run();
    assert_eq!(socket.read(&mut driver, 100), b"last words");
    assert_eq!((socket.shutdown, socket.is_reset), (2, false));
    assert_eq!(socket.write(&mut driver, b"still here"), 10);
    assert_eq!(try_read(&ours, 100), b"still here");
    assert!(port.log().closed.is_empty());

    socket.shut_down(&mut driver, 2);
    assert!(socket.is_reset);
    assert_eq!(try_read(&ours, 100), b"");
    assert_eq!(port.log().closed, [5000]);
}

#[test]
fn the_guest_ends_first() {
    let (host, mut ours) = socket_host();
    let (port, mut driver, mut socket) = connected(host);
    socket.write(&mut driver, b"question");
    socket.shut_down(&mut driver, 2);
    // One socket is both input and output: its peer sees the end all the same.
    let mut question = Vec::new();
    ours.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    assert!(!socket.is_reset && port.log().closed.is_empty());

    ours.write_all(b"answer").unwrap();
    drop(ours);
    driver.run();
    assert_eq!(socket.read(&mut driver, 100), b"answer");
    assert!(socket.is_reset && socket.shutdown & 2 != 0);
    assert_eq!(port.log().closed, [5000]);
}

#[test]
fn what_the_guest_sent_before_it_closed_is_written_before_the_reset() {
    let (host, _to_guest, mut from_guest) = pipe_host();
    let (port, mut driver, mut socket) = connected(host);
    let data = Random(11).bytes(200_000);
    let sent = socket.write(&mut driver, &data) + socket.write(&mut driver, &data[65_536..]);
    assert!(sent > 65_536, "more than the pipe holds");
    socket.shut_down(&mut driver, 3);
    assert!(!socket.is_reset && port.log().closed.is_empty());
    let mut got = Vec::new();
    while got.len() < sent {
        got.extend(try_read(&mut from_guest, 5000));
        driver.run();
    }
    socket.take(&mut driver);
    assert!(socket.is_reset && got == data[..sent]);
    assert_eq!(port.log().closed, [5000]);
    assert_eq!(try_read(&mut from_guest, 10), b"", "the output is closed");
}

#[test]
fn what_the_guest_sent_before_it_aborted_is_written_and_its_port_stays_taken() {
    let (host, _to_guest, mut from_guest) = pipe_host();
    let (port, mut driver, mut socket) = connected(host);
    let data = Random(13).bytes(131_072);
    let sent = socket.write(&mut driver, &data) + socket.write(&mut driver, &data[65_536..]);
    driver.send(socket.packet(Op::Rst), &[]);
    assert!(port.log().closed.is_empty());

    let (second, _ours) = socket_host();
    port.offer(second);
    assert!(Socket::connect(&mut driver, 5000, BUF).is_reset, "its bytes are still on their way");
    assert!(Socket::connect(&mut driver, 5001, BUF).is_connected);
    let mut got = Vec::new();
    while got.len() < sent {
        got.extend(try_read(&mut from_guest, 5000));
        driver.run();
    }
    assert!(got == data[..sent]);
    assert_eq!(port.log().closed, [5000]);
}

#[test]
fn a_reader_that_goes_away_ends_the_guests_writing_only() {
    let (host, mut to_guest, from_guest) = pipe_host();
    let (port, mut driver, mut socket) = connected(host);
    drop(from_guest);
    socket.write(&mut driver, b"nobody reads this");
    assert_eq!((socket.shutdown, socket.is_reset), (1, false));
    // What was on its way is discarded, without end to the guest's credit.
    for _ in 0..10 {
        assert_eq!(socket.write(&mut driver, &[0; 60_000]), 60_000);
    }
    to_guest.write_all(b"but this is read").unwrap();
    driver.run();
    assert_eq!(socket.read(&mut driver, 100), b"but this is read");
    drop(to_guest);
    driver.run();
    socket.take(&mut driver);
    assert!(socket.is_reset);
    assert_eq!(port.log().closed, [5000]);
}

#[test]
fn a_stream_of_one_direction_says_so() {
    let (host, _to_guest, mut from_guest) = pipe_host();
    let (port, mut driver, mut socket) = connected(HostStream { input: None, ..host });
    assert_eq!(socket.shutdown, 2);
    socket.write(&mut driver, b"stdout");
    socket.shut_down(&mut driver, 2);
    assert!(socket.is_reset);
    assert_eq!(try_read(&mut from_guest, 10), b"stdout");

    let (host, mut to_guest, _from_guest) = pipe_host();
    port.offer(HostStream { output: None, ..host });
    let mut socket = Socket::connect(&mut driver, 5001, BUF);
    assert_eq!(socket.shutdown, 1);
    to_guest.write_all(b"stdin").unwrap();
    drop(to_guest);
    driver.run();
    assert_eq!(socket.read(&mut driver, 10), b"stdin");
    assert!(socket.is_reset && socket.shutdown == 3);

    port.offer(HostStream::default());
    let socket = Socket::connect(&mut driver, 5002, BUF);
    assert!(socket.is_connected && socket.is_reset);
    assert_eq!(port.log().closed, [5000, 5001, 5002]);
}

#[test]
fn a_file_that_never_ends_lets_others_have_their_turn() {
    let zero = File::open("/dev/zero").unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let (port, mut driver, mut greedy) =
        connected(HostStream { input: Some(zero.into()), output: Some(null.into()) });
    let (host, mut ours) = socket_host();
    port.offer(host);
    // The greedy one's reader keeps up, so it could go on forever.
    greedy.read(&mut driver, usize::MAX);
    ours.write_all(b"me too").unwrap();
    let request = greedy.packet(Op::Request);
    assert!(driver.post(super::super::packet::Header { src_port: 6000, fwd_cnt: 0, ..request }, &[]));
    let mut seen = Vec::new();
    for _ in 0..20 {
        driver.manager.run_with_timeout(0).unwrap();
        while let Some((header, data)) = driver.receive() {
            if header.dst_port == 6000 {
                seen.push((header.op, data));
            }
        }
    }
    assert_eq!(seen, [(Op::Response, Vec::new()), (Op::Rw, b"me too".to_vec())]);
}

#[test]
fn a_regular_file_is_copied_whole() {
    let content = Random(17).bytes(300_000);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(1000)).unwrap();
    let target = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(target.path(), "before").unwrap();
    let output = File::options().append(true).open(target.path()).unwrap();
    let (port, mut driver, mut socket) =
        connected(HostStream { input: Some(file.into()), output: Some(output.into()) });
    let mut got = Vec::new();
    while !socket.is_reset {
        got.extend(socket.read(&mut driver, 50_000));
        socket.write(&mut driver, b"x");
        if got.len() == content.len() - 1000 {
            socket.shut_down(&mut driver, 3);
        }
    }
    assert!(got == content[1000..]);
    let written = std::fs::read(target.path()).unwrap();
    assert!(written.starts_with(b"beforex") && written.len() > 7);
    assert_eq!(port.log().closed, [5000]);
}

#[test]
fn many_connections_do_not_mix() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 64);
    let mut ends = Vec::new();
    for number in 0..50u32 {
        let (host, ours) = socket_host();
        port.offer(host);
        ends.push((Socket::connect(&mut driver, 100 + number, BUF), ours));
    }
    for round in 0..20u8 {
        for (number, (socket, ours)) in ends.iter_mut().enumerate() {
            let text = format!("{number}:{round}");
            assert_eq!(socket.write(&mut driver, text.as_bytes()), text.len());
            assert_eq!(try_read(&*ours, 100), text.as_bytes());
            ours.write_all(text.as_bytes()).unwrap();
            driver.run();
            assert_eq!(socket.read(&mut driver, 100), text.as_bytes());
        }
    }
}

#[test]
fn a_batch_of_packets_is_one_interrupt() {
    let (host, mut ours) = socket_host();
    let (_port, mut driver, mut socket) = connected(host);
    driver.interrupts();
    ours.write_all(&[1; 40_000]).unwrap();
    driver.run();
    // Eleven packets, of which the driver has seen none.
    assert_eq!(driver.interrupts(), 1);
    assert_eq!(socket.read(&mut driver, 40_000).len(), 40_000);
}
