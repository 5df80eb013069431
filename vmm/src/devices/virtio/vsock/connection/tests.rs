//! Every input in every state that it can come in.

use super::super::packet::TYPE_STREAM;
use super::super::{GUEST_CID, HOST_CID};
use super::*;

/// The guest's `buf_alloc`.
const PEER_BUF: u32 = 1000;

fn packet(op: Op) -> Header {
    Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: 7,
        dst_port: 1024,
        len: 0,
        socket_type: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: PEER_BUF,
        fwd_cnt: 0,
    }
}

fn shutdown(flags: u32) -> Header {
    Header { flags, ..packet(Op::Shutdown) }
}

fn data(len: u32) -> Header {
    Header { len, ..packet(Op::Rw) }
}

fn credit(fwd_cnt: u32) -> Header {
    Header { fwd_cnt, ..packet(Op::CreditUpdate) }
}

/// A connection whose response has been sent.
fn established() -> Connection {
    let mut connection = Connection::accept(&packet(Op::Request), true, true);
    assert_eq!(control(&mut connection), [(Op::Response, 0)]);
    connection
}

/// Takes all that the guest is owed.
fn control(connection: &mut Connection) -> Vec<(Op, u32)> {
    let mut taken = Vec::new();
    while connection.owes_control() {
        let packet = connection.take_control().expect("it says that it owes a packet");
        assert_eq!((packet.src_port, packet.dst_port, packet.len), (1024, 7, 0));
        assert_eq!((packet.buf_alloc, packet.fwd_cnt), (BUF_ALLOC, connection.forwarded));
        taken.push((packet.op, packet.flags));
    }
    assert_eq!(connection.take_control(), None);
    taken
}

#[test]
fn nothing_is_sent_before_the_response() {
    let mut connection = Connection::accept(&packet(Op::Request), true, true);
    assert_eq!(connection.sendable(), 0);
    assert_eq!(control(&mut connection), [(Op::Response, 0)]);
    assert_eq!(connection.sendable(), PEER_BUF);
}

#[test]
fn a_side_that_is_missing_is_shut_down_at_once() {
    for (input, output, flags, is_over) in
        [(false, true, 2, false), (true, false, 1, false), (false, false, 3, true)]
    {
        let mut connection = Connection::accept(&packet(Op::Request), input, output);
        assert!(!connection.is_over());
        assert_eq!(control(&mut connection), [(Op::Response, 0), (Op::Shutdown, flags)]);
        assert_eq!(connection.is_over(), is_over);
    }
}

#[test]
fn the_guest_can_send_what_it_was_allowed_and_not_a_byte_more() {
    for (chunk, count) in [(BUF_ALLOC, 1), (BUF_ALLOC / 4, 4), (1, BUF_ALLOC)] {
        let mut connection = established();
        for _ in 0..count {
            assert_eq!(connection.receive(&data(chunk)), Received::Forward);
        }
        assert_eq!(connection.receive(&data(0)), Received::Forward);
        assert_eq!(connection.receive(&data(1)), Received::Violation);
    }
    assert_eq!(established().receive(&data(BUF_ALLOC + 1)), Received::Violation);
    assert_eq!(established().receive(&data(u32::MAX)), Received::Violation);
}

#[test]
fn credit_is_reported_when_the_guest_sees_less_than_half() {
    let mut connection = established();
    assert_eq!(connection.receive(&data(BUF_ALLOC / 2)), Received::Forward);
    connection.forwarded(BUF_ALLOC / 2);
    assert_eq!(control(&mut connection), []);
    assert_eq!(connection.receive(&data(1)), Received::Forward);
    assert_eq!(control(&mut connection), [(Op::CreditUpdate, 0)]);
    assert_eq!(control(&mut connection), [], "once is enough");

    // Without anything written there is no news, however little space there is.
    assert_eq!(connection.receive(&data(BUF_ALLOC - 1)), Received::Forward);
    assert_eq!(control(&mut connection), []);
    connection.forwarded(1);
    assert_eq!(control(&mut connection), [(Op::CreditUpdate, 0)]);
}

#[test]
fn a_packet_of_data_reports_credit_too() {
    let mut connection = established();
    assert_eq!(connection.receive(&data(BUF_ALLOC)), Received::Forward);
    connection.forwarded(BUF_ALLOC);
    assert!(connection.owes_control());
    assert_eq!(connection.packet(Op::Rw).fwd_cnt, BUF_ALLOC);
    assert!(!connection.owes_control());
}

#[test]
fn a_guest_that_asks_for_credit_gets_it() {
    let mut connection = established();
    for _ in 0..3 {
        assert_eq!(connection.receive(&packet(Op::CreditRequest)), Received::Noted);
        assert_eq!(connection.receive(&packet(Op::CreditRequest)), Received::Noted);
        assert_eq!(control(&mut connection), [(Op::CreditUpdate, 0)]);
    }
}

#[test]
fn the_guests_credit_is_kept_and_asked_for_once() {
    let mut connection = established();
    connection.wants_credit();
    assert_eq!(control(&mut connection), [], "there is credit");
    connection.sent(PEER_BUF);
    assert_eq!(connection.sendable(), 0);
    connection.wants_credit();
    connection.wants_credit();
    assert_eq!(control(&mut connection), [(Op::CreditRequest, 0)]);
    // An answer that brings nothing is no reason to ask again: that would be polling.
    assert_eq!(connection.receive(&credit(0)), Received::Noted);
    connection.wants_credit();
    assert_eq!(control(&mut connection), []);

    assert_eq!(connection.receive(&credit(10)), Received::Noted);
    assert_eq!(connection.sendable(), 10);
    connection.sent(10);
    connection.wants_credit();
    assert_eq!(control(&mut connection), [(Op::CreditRequest, 0)]);
}

#[test]
fn counters_wrap_around() {
    let start = u32::MAX - 100;
    let mut connection = established();
    (connection.received, connection.forwarded, connection.reported) = (start, start, start);
    (connection.sent, connection.peer_forwarded) = (start, start);
    for round in 1..=10u32 {
        assert_eq!(
            connection.receive(&Header { fwd_cnt: connection.sent, ..data(BUF_ALLOC) }),
            Received::Forward
        );
        assert_eq!(connection.receive(&Header { fwd_cnt: connection.sent, ..data(1) }), Received::Violation);
        connection.forwarded(BUF_ALLOC);
        assert_eq!(connection.take_control().unwrap().fwd_cnt, start.wrapping_add(round * BUF_ALLOC));
        assert_eq!(connection.sendable(), PEER_BUF);
        connection.sent(PEER_BUF - 1);
        assert_eq!(connection.sendable(), 1);
    }
    assert!(connection.received < start && connection.sent < start);
}

#[test]
fn a_guest_that_lies_about_credit_only_stops_itself() {
    for (buf_alloc, fwd_cnt, sendable) in [
        (0, 0, 0),
        (PEER_BUF, 1, 0),
        (PEER_BUF, u32::MAX, PEER_BUF - 1),
        (u32::MAX, 0, u32::MAX),
        (u32::MAX, 1, 0),
        (u32::MAX, 0x8000_0000, 0x7fff_ffff),
    ] {
        let mut connection = established();
        let lie = Header { buf_alloc, fwd_cnt, ..packet(Op::CreditUpdate) };
        assert_eq!(connection.receive(&lie), Received::Noted);
        assert_eq!(connection.sendable(), sendable, "{buf_alloc} {fwd_cnt}");
    }
}

/// Things that can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Data,
    Written,
    GuestShutdown(u32),
    InputEnds,
    OutputBreaks,
    Severed,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Data,
        Self::Written,
        Self::GuestShutdown(1),
        Self::GuestShutdown(2),
        Self::GuestShutdown(3),
        Self::InputEnds,
        Self::OutputBreaks,
        Self::Severed,
    ];

    fn apply(self, connection: &mut Connection) -> Received {
        match self {
            Self::Data if !connection.is_severed() => return connection.receive(&data(10)),
            Self::GuestShutdown(flags) if !connection.is_severed() => {
                return connection.receive(&shutdown(flags));
            }
            Self::Data | Self::GuestShutdown(_) => {}
            Self::Written => connection.forwarded(10),
            Self::InputEnds => connection.input_ended(),
            Self::OutputBreaks => connection.output_broke(),
            Self::Severed => connection.sever(),
        }
        Received::Noted
    }
}

#[test]
fn in_any_order_of_five_events_the_end_is_the_same() {
    let mut orders = vec![Vec::new()];
    for _ in 0..5 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<Step>| Step::ALL.map(|step| [order.clone(), vec![step]].concat()))
            .collect();
    }
    for order in orders {
        let mut connection = established();
        let mut told = 0;
        let (mut guest_told, mut broke, mut severed) = (0, false, false);
        for step in &order {
            let expects_violation = *step == Step::Data && guest_told & 2 != 0 && !severed;
            let received = step.apply(&mut connection);
            assert_eq!(received == Received::Violation, expects_violation, "{order:?}");
            match step {
                Step::GuestShutdown(flags) if !severed => guest_told |= flags,
                Step::OutputBreaks => broke = true,
                Step::Severed => severed = true,
                _ => {}
            }
            for (op, flags) in control(&mut connection) {
                assert!(!severed, "{order:?}: {op:?} to a guest that is gone");
                assert_eq!((op, told & flags), (Op::Shutdown, 0), "{order:?}: told once");
                // A side that has closed a direction itself needs not be told of its end.
                let known = (guest_told & SHUTDOWN_RECEIVE) << 1 | (guest_told & SHUTDOWN_SEND) >> 1;
                assert_eq!(flags & known, 0, "{order:?}");
                told |= flags;
            }
        }
        let input_is_over = order.contains(&Step::InputEnds) || guest_told & 1 != 0 || severed;
        assert_eq!(connection.has_input(), !input_is_over, "{order:?}");
        // With the rest written, the output is over if it broke or the guest has ended.
        connection.forwarded(u32::MAX);
        let output_is_over = broke || guest_told & 2 != 0 || severed;
        assert_eq!(connection.has_output(), !output_is_over, "{order:?}");
        assert_eq!(connection.is_over(), input_is_over && output_is_over, "{order:?}");
    }
}

#[test]
fn the_end_waits_for_what_is_not_yet_written() {
    for flags in [2, 3] {
        let mut connection = established();
        assert_eq!(connection.receive(&data(100)), Received::Forward);
        assert_eq!(connection.receive(&shutdown(flags)), Received::Noted);
        connection.input_ended();
        control(&mut connection);
        assert!(connection.has_output() && !connection.is_over());
        connection.forwarded(99);
        assert!(!connection.is_over());
        connection.forwarded(1);
        assert!(connection.is_over());
    }
}

#[test]
fn a_severed_connection_only_writes_what_it_has() {
    let mut connection = Connection::accept(&packet(Op::Request), true, true);
    assert_eq!(connection.receive(&data(100)), Received::Forward);
    connection.receive(&packet(Op::CreditRequest));
    connection.sever();
    assert_eq!(control(&mut connection), []);
    assert!(!connection.has_input() && connection.has_output() && !connection.is_over());
    connection.forwarded(100);
    assert!(connection.is_over());
}

#[test]
fn data_for_a_broken_output_is_discarded_and_credited() {
    let mut connection = established();
    assert_eq!(connection.receive(&data(BUF_ALLOC)), Received::Forward);
    connection.output_broke();
    assert_eq!(control(&mut connection), [(Op::Shutdown, SHUTDOWN_RECEIVE)]);
    for _ in 0..3 {
        assert_eq!(connection.receive(&data(BUF_ALLOC)), Received::Discard);
    }
    assert_eq!(control(&mut connection), [(Op::CreditUpdate, 0)]);
}

#[test]
fn packets_that_make_no_sense_are_violations() {
    for op in [Op::Request, Op::Response, Op::Unknown(0), Op::Unknown(8), Op::Unknown(u16::MAX)] {
        assert_eq!(established().receive(&packet(op)), Received::Violation, "{op:?}");
    }
}
