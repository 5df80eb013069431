//! Packets that belong to no connection or should not have come, and ends that come from elsewhere.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::super::HostStream;
use super::super::connection::BUF_ALLOC;
use super::super::testing::{Driver, Random, Socket, TestPort};
use super::*;

fn offer_socket(port: &TestPort) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let output = OwnedFd::from(theirs.try_clone().unwrap());
    port.offer(HostStream { input: Some(theirs.into()), output: Some(output) });
    ours
}

fn muxer(port: &TestPort) -> Muxer {
    let ports = HostPorts::new(vec![(1024, Box::new(port.clone()))]).unwrap();
    Muxer::new(ports, Arc::new(Epoll::new().unwrap()))
}

fn packet(guest_port: u32, op: Op) -> Header {
    Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: guest_port,
        dst_port: 1024,
        ..Header::to_guest(0, 0, op)
    }
}

fn is_empty(ours: &mut UnixStream) -> bool {
    ours.set_nonblocking(true).unwrap();
    ours.read(&mut [0; 10]).is_err()
}

#[test]
fn what_is_not_for_a_connection_is_answered_by_a_reset() {
    let port = TestPort::default();
    let stray = [Op::Response, Op::Shutdown, Op::Rw, Op::CreditUpdate, Op::CreditRequest, Op::Unknown(9)];
    let mut odd: Vec<Header> = stray.into_iter().map(|op| packet(5, op)).collect();
    // Nobody listens; refused by the listener; another host; datagrams; a type that does not exist.
    odd.push(Header { dst_port: 9, ..packet(5, Op::Request) });
    odd.push(packet(5, Op::Request));
    odd.push(Header { dst_cid: 5, ..packet(5, Op::Request) });
    odd.push(Header { socket_type: 2, ..packet(5, Op::Request) });
    odd.push(Header { socket_type: 77, ..packet(5, Op::Rw) });
    let mut driver = Driver::with_port(&port, 64);
    for odd in odd {
        driver.send(odd, &[]);
        let (reset, _) = driver.receive().unwrap_or_else(|| panic!("no reply to {odd:?}"));
        assert_eq!(reset, odd.reset_reply());
        assert_eq!(driver.receive(), None);
        driver.send(Header { op: Op::Rst, ..odd }, &[]);
        assert_eq!(driver.receive(), None, "an RST to an RST");
    }
    assert!(port.log().connected.is_empty());
}

#[test]
fn another_guests_packets_are_dropped() {
    let port = TestPort::default();
    let _ours = offer_socket(&port);
    let mut driver = Driver::with_port(&port, 64);
    for src_cid in [0, 2, 4, u64::MAX, GUEST_CID | 1 << 32] {
        driver.send(Header { src_cid, ..packet(5, Op::Request) }, &[]);
    }
    assert_eq!(driver.receive(), None);
    assert!(port.log().connected.is_empty());
}

#[test]
fn a_second_request_ends_the_connection() {
    let port = TestPort::default();
    let _ours = [offer_socket(&port), offer_socket(&port)];
    let mut driver = Driver::with_port(&port, 64);
    let socket = Socket::connect(&mut driver, 5, 1000);
    driver.send(socket.packet(Op::Request), &[]);
    assert_eq!(driver.ops(), [(Op::Rst, 0)]);
    assert_eq!(port.log().closed, [5]);
    assert!(Socket::connect(&mut driver, 5, 1000).is_connected, "the port is free again");
}

#[test]
fn a_guest_that_exceeds_its_credit_is_reset_and_what_it_was_allowed_arrives() {
    let port = TestPort::default();
    let (reader, output) = std::io::pipe().unwrap();
    port.offer(HostStream { input: None, output: Some(output.into()) });
    let mut driver = Driver::with_port(&port, 64);
    let mut socket = Socket::connect(&mut driver, 5, 1000);
    let data = Random(3).bytes(3 * BUF_ALLOC as usize);
    let mut sent = 0;
    while socket.credit() > 0 {
        sent += socket.write(&mut driver, &data[sent..]);
    }
    driver.send(socket.packet(Op::Rw), b"x");
    assert_eq!(driver.ops(), [(Op::Rst, 0)]);
    let mut got = vec![0; sent];
    for chunk in got.chunks_mut(4096) {
        (&reader).read_exact(chunk).unwrap();
        driver.run();
    }
    assert!(got == data[..sent]);
    assert_eq!((&reader).read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(port.log().closed, [5]);
}

#[test]
fn data_that_is_not_all_there_ends_its_connection() {
    let port = TestPort::default();
    let mut ours = offer_socket(&port);
    let mut driver = Driver::with_port(&port, 64);
    for len in [5, 1000, u32::MAX] {
        let socket = Socket::connect(&mut driver, 5, 1000);
        assert!(socket.is_connected);
        assert!(driver.post(Header { len, ..socket.packet(Op::Rw) }, b"four"));
        driver.run();
        assert_eq!(driver.ops(), [(Op::Rst, 0)]);
        assert_eq!(ours.read(&mut [0; 10]).unwrap(), 0);
        ours = offer_socket(&port);
    }
    assert_eq!(port.log().closed, [5, 5, 5]);
}

#[test]
fn connections_are_bounded_and_come_back() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 64);
    let ours: Vec<_> = (0..300).map(|_| offer_socket(&port)).collect();
    let mut sockets: Vec<_> = (0..300).map(|number| Socket::connect(&mut driver, number, 1000)).collect();
    let connected = sockets.iter().filter(|socket| socket.is_connected).count();
    assert_eq!((connected, ours.len()), (MAX_CONNECTIONS, 300));
    sockets[0].shut_down(&mut driver, 3);
    assert!(sockets[0].is_reset);
    assert!(Socket::connect(&mut driver, 1000, 1000).is_connected);
}

#[test]
fn ten_thousand_requests_cost_nothing_in_the_end() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 64);
    let mut replies = 0;
    for number in 0..10_000u32 {
        assert!(driver.post(packet(number, Op::Request), &[]));
        if number % 16 == 0 {
            driver.run();
            replies += driver.ops().iter().filter(|(op, _)| *op == Op::Rst).count();
        }
    }
    driver.run();
    replies += driver.ops().len();
    assert_eq!(replies, 10_000);
    let _ours = offer_socket(&port);
    assert!(Socket::connect(&mut driver, 5, 1000).is_connected);
}

#[test]
fn a_guest_that_takes_no_packets_is_not_listened_to_and_costs_no_memory() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 0);
    let mut posted = 0;
    while driver.post(packet(posted, Op::CreditRequest), &[]) {
        posted += 1;
        driver.run();
    }
    let allowed = u32::try_from(MAX_PENDING_RESETS).unwrap();
    assert!((allowed..=allowed + 64).contains(&posted), "{posted}");
    let calm = driver.wake_ups;
    driver.run();
    assert_eq!(driver.wake_ups, calm, "it polls");

    // When there are buffers again, every reply comes, in order.
    (0..8).for_each(|index| driver.add_rx_buffer(index));
    let mut replies = Vec::new();
    for _ in 0..posted {
        driver.run();
        replies.extend(driver.receive_all().into_iter().map(|header| header.dst_port));
    }
    assert_eq!(replies, (0..posted).collect::<Vec<_>>());
}

#[test]
fn resets_stay_bounded_when_all_connections_end_at_once() {
    let port = TestPort::default();
    let mut muxer = muxer(&port);
    let mut ours = Vec::new();
    for guest_port in 0..256 {
        ours.push(offer_socket(&port));
        muxer.receive(&packet(guest_port, Op::Request), Some(&[]));
    }
    let mut stray = 1000;
    while muxer.has_room() {
        muxer.receive(&packet(stray, Op::Rw), Some(&[]));
        stray += 1;
    }
    // Half of each connection is ended by the guest, the other half by the host.
    for id in muxer.rotation() {
        muxer.take_control(id);
        muxer.receive(&Header { flags: 2, ..packet(id, Op::Shutdown) }, Some(&[]));
    }
    drop(ours);
    for id in muxer.rotation() {
        assert_eq!(muxer.read(id, &mut [0; 10]), Transfer::Ended);
        while muxer.take_control(id).is_some() {}
    }
    assert!(muxer.streams.is_empty() && muxer.ids.is_empty());
    assert_eq!(muxer.resets.len(), MAX_CONNECTIONS + MAX_PENDING_RESETS);
    assert_eq!(port.log().closed.len(), 256);
}

#[test]
fn a_reset_in_flight_closes_each_connection_once() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 64);
    let (reader, output) = std::io::pipe().unwrap();
    port.offer(HostStream { input: None, output: Some(output.into()) });
    let mut backlogged = Socket::connect(&mut driver, 1, 1000);
    let data = Random(5).bytes(100_000);
    let sent = backlogged.write(&mut driver, &data) + backlogged.write(&mut driver, &data[65_536..]);
    let mut ours = offer_socket(&port);
    let mut open = Socket::connect(&mut driver, 2, 1000);
    open.write(&mut driver, b"said");
    offer_socket(&port);
    let mut half = Socket::connect(&mut driver, 3, 1000);
    half.shut_down(&mut driver, 1);

    driver.reset();
    port.log().closed.sort_unstable();
    assert_eq!(port.log().closed, [2, 3], "what has nothing left to write is closed");
    let mut said = Vec::new();
    ours.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"said");

    // A new driver can connect while the old one's words are still being written.
    driver.activate(64);
    let mut ours = offer_socket(&port);
    let mut fresh = Socket::connect(&mut driver, 2, 1000);
    assert!(fresh.is_connected && is_empty(&mut ours));
    let mut got = vec![0; sent];
    for chunk in got.chunks_mut(4096) {
        (&reader).read_exact(chunk).unwrap();
        driver.run();
    }
    assert!(got == data[..sent]);
    assert_eq!(fresh.write(&mut driver, b"x"), 1);
    fresh.shut_down(&mut driver, 3);
    driver.reset();
    driver.reset();
    assert_eq!(port.log().closed, [2, 3, 1, 2]);
    assert_eq!(port.log().connected, [1, 2, 3, 2]);
}

#[test]
fn announcements_for_streams_that_are_gone_are_ignored() {
    let port = TestPort::default();
    let _ours = offer_socket(&port);
    let mut muxer = muxer(&port);
    muxer.receive(&packet(5, Op::Request), Some(&[]));
    muxer.receive(&packet(5, Op::Rst), Some(&[]));
    for token in [0, 15, 16, 17, 18, u64::MAX] {
        muxer.set_ready(token);
    }
    assert_eq!(muxer.readable(0), 0);
    assert_eq!(muxer.take_control(0), None);
    assert!(!muxer.flush(0));
    assert_eq!(port.log().closed, [5]);
}

#[test]
fn tokens_name_stream_and_direction() {
    for id in [0, 1, u32::MAX] {
        for direction in [Direction::Input, Direction::Output] {
            assert_eq!(stream_of(token(id, direction)), Some((id, direction)));
        }
    }
    assert_eq!(stream_of(FIRST_STREAM_TOKEN - 1), None);
}

#[test]
fn random_packets_from_a_guest_leave_nothing_behind() {
    for seed in 1..=40 {
        let mut random = Random(seed);
        let port = TestPort::default();
        let mut driver = Driver::with_port(&port, 64);
        let mut ours = Vec::new();
        for _ in 0..400 {
            if random.below(8) == 0 {
                ours.push(offer_socket(&port));
            }
            if random.below(8) == 0 && !ours.is_empty() {
                let index = random.below(ours.len());
                ours.swap_remove(index);
            }
            let op = Op::from(u16::try_from(random.below(9)).unwrap());
            let number =
                |random: &mut Random| u32::try_from(random.below(1 << 32) >> random.below(33)).unwrap();
            let header = Header {
                flags: number(&mut random) & 3,
                buf_alloc: number(&mut random),
                fwd_cnt: number(&mut random),
                len: number(&mut random) >> 14,
                ..packet(u32::try_from(random.below(4)).unwrap(), op)
            };
            let len = random.below(40_000) >> random.below(17);
            assert!(driver.post(header, &vec![1; len]));
            driver.run();
            if random.below(3) == 0 {
                driver.receive_all();
            }
        }
        drop(ours);
        driver.run();
        driver.reset();
        let log = port.log();
        let (mut connected, mut closed) = (log.connected.clone(), log.closed.clone());
        connected.sort_unstable();
        closed.sort_unstable();
        assert_eq!(connected, closed, "seed {seed}");
    }
}
