//! All connections of the device: which packet belongs to which, and which come and go.
//!
//! It promises that each connection that a port accepted is reported closed once, and that what it
//! holds is bounded: [`MAX_CONNECTIONS`] streams, and, as long as packets are only received while there
//! [is room](Muxer::has_room), `MAX_CONNECTIONS + MAX_PENDING_RESETS` packets of type RST.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use vmm_sys_util::epoll::Epoll;

use super::connection::{Connection, Received};
use super::endpoint::{Direction, Transfer};
use super::packet::{Header, Op, TYPE_STREAM};
use super::stream::Stream;
use super::{GUEST_CID, HOST_CID, HostPorts};

/// Connections at a time, those that only wait for a slow reader on the host included.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// RSTs owed to the guest up to which its packets are received. Each of them can make us owe one more.
const MAX_PENDING_RESETS: usize = 256;

/// The first token that announces a stream's readiness; those below are the worker's own.
const FIRST_STREAM_TOKEN: u64 = 16;

/// The connections.
pub(super) struct Muxer {
    ports: HostPorts,
    streams: BTreeMap<u32, Stream>,
    /// The stream of each pair of guest port and host port.
    ids: BTreeMap<(u32, u32), u32>,
    /// Streams are numbered one by one, so that an announcement for one that is gone finds no other.
    next_id: u32,
    /// RSTs owed to the guest for connections that do not exist.
    resets: VecDeque<Header>,
    /// How many streams give way to the next in [`Muxer::rotation`].
    turn: usize,
    epoll: Arc<Epoll>,
}

impl fmt::Debug for Muxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Muxer")
            .field("ports", &self.ports)
            .field("streams", &self.streams)
            .field("resets", &self.resets)
            .finish_non_exhaustive()
    }
}

impl Muxer {
    /// No connections yet, to these ports. Readiness of descriptors is announced through `epoll`.
    pub(super) fn new(ports: HostPorts, epoll: Arc<Epoll>) -> Self {
        Self {
            ports,
            streams: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            resets: VecDeque::new(),
            turn: 0,
            epoll,
        }
    }

    /// Whether a packet may be received. Otherwise the guest must take packets first (5.10.6.1.2).
    pub(super) fn has_room(&self) -> bool {
        self.resets.len() < MAX_PENDING_RESETS
    }

    /// A packet of the guest. `data` is `None` when it is not as long as the header says.
    pub(super) fn receive(&mut self, packet: &Header, data: Option<&[u8]>) {
        // The device knows one guest: nobody could get a reply to another (as in vhost-vsock).
        if packet.src_cid != GUEST_CID {
            return;
        }
        let is_for_us = packet.dst_cid == HOST_CID && packet.socket_type == TYPE_STREAM;
        match self.ids.get(&(packet.src_port, packet.dst_port)) {
            Some(id) if is_for_us => self.receive_for(*id, packet, data),
            None if is_for_us && packet.op == Op::Request => self.accept(packet),
            _ => self.refuse(packet),
        }
    }

    fn receive_for(&mut self, id: u32, packet: &Header, data: Option<&[u8]>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if packet.op == Op::Rst {
            stream.connection.sever();
            return self.settle(id);
        }
        // A connection that the guest has no more is only there for what is left to write.
        if stream.connection.is_severed() {
            return self.refuse(packet);
        }
        let received = match data {
            // A stream with a gap would be worse than none.
            None if packet.op == Op::Rw => Received::Violation,
            _ => stream.connection.receive(packet),
        };
        match received {
            Received::Forward => stream.forward(data.unwrap_or_default()),
            Received::Noted | Received::Discard => {}
            Received::Violation => {
                stream.connection.sever();
                self.refuse(packet);
            }
        }
        self.settle(id);
    }

    fn accept(&mut self, request: &Header) {
        let guest_port = request.src_port;
        if self.streams.len() >= MAX_CONNECTIONS {
            return self.refuse(request);
        }
        let Some(host) = self.ports.connect(request.dst_port, guest_port) else {
            return self.refuse(request);
        };
        let connection = Connection::accept(request, host.input.is_some(), host.output.is_some());
        while self.streams.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        match Stream::new(connection, host, &self.epoll, |direction| token(id, direction)) {
            Ok(stream) => {
                self.streams.insert(id, stream);
                self.ids.insert((guest_port, request.dst_port), id);
            }
            Err(error) => {
                log::error!("cannot watch a host descriptor of vsock port {}: {error}", request.dst_port);
                self.ports.closed(request.dst_port, guest_port);
                self.refuse(request);
            }
        }
    }

    /// Answers a packet that belongs to no connection.
    fn refuse(&mut self, packet: &Header) {
        if packet.op != Op::Rst {
            self.resets.push_back(packet.reset_reply());
        }
    }

    /// Closes what has ended.
    fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.close_ended();
        if !stream.connection.is_over() {
            return;
        }
        if !stream.connection.is_severed() {
            self.resets.push_back(stream.connection.packet(Op::Rst));
        }
        let (guest_port, host_port) = stream.connection.ports();
        self.streams.remove(&id);
        self.ids.remove(&(guest_port, host_port));
        self.ports.closed(host_port, guest_port);
    }

    /// Ends the connections of ports that were removed, whatever is left to write.
    pub(super) fn end_removed(&mut self) {
        let removed = self.ports.take_removed();
        let ended = self.ids.iter().filter(|((_, host_port), _)| removed.contains(host_port));
        for (ports, id) in ended.map(|(ports, id)| (*ports, *id)).collect::<Vec<_>>() {
            self.ids.remove(&ports);
            if let Some(mut stream) = self.streams.remove(&id)
                && !stream.connection.is_severed()
            {
                self.resets.push_back(stream.connection.packet(Op::Rst));
            }
        }
    }

    /// The guest is gone: connections end as soon as what it sent is written.
    pub(super) fn sever_all(&mut self) {
        self.resets.clear();
        for id in self.rotation() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.connection.sever();
            }
            self.settle(id);
        }
    }

    /// Readiness was announced with `token`.
    pub(super) fn set_ready(&mut self, token: u64) {
        let Some((id, direction)) = stream_of(token) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.set_ready(direction);
        }
    }

    /// The streams, starting with another each time.
    pub(super) fn rotation(&mut self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.streams.keys().copied().collect();
        if !ids.is_empty() {
            self.turn = self.turn.wrapping_add(1) % ids.len();
            ids.rotate_left(self.turn);
        }
        ids
    }

    /// Takes the next RST for a connection that does not exist.
    pub(super) fn take_reset(&mut self) -> Option<Header> {
        self.resets.pop_front()
    }

    /// Whether [`Muxer::take_reset`] would give one.
    pub(super) fn owes_reset(&self) -> bool {
        !self.resets.is_empty()
    }

    /// Writes some of what a stream's output has not taken before. True when that made a difference.
    pub(super) fn flush(&mut self, id: u32) -> bool {
        let is_flushed = self.streams.get_mut(&id).is_some_and(Stream::flush);
        if is_flushed {
            self.settle(id);
        }
        is_flushed
    }

    /// How many bytes may be read from a stream's input.
    pub(super) fn readable(&mut self, id: u32) -> usize {
        self.streams.get_mut(&id).map_or(0, Stream::readable)
    }

    /// Whether [`Muxer::take_control`] would give a packet.
    pub(super) fn owes_control(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.connection.owes_control())
    }

    /// Takes a stream's next packet for the guest that is not data.
    pub(super) fn take_control(&mut self, id: u32) -> Option<Header> {
        let packet = self.streams.get_mut(&id)?.connection.take_control();
        self.settle(id);
        packet
    }

    /// Reads a stream's input. What is read must be sent.
    pub(super) fn read(&mut self, id: u32, buffer: &mut [u8]) -> Transfer {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Transfer::NotNow;
        };
        let transfer = stream.read(buffer);
        self.settle(id);
        transfer
    }

    /// The header of a packet that carries data of a stream to the guest.
    pub(super) fn data_packet(&mut self, id: u32) -> Option<Header> {
        Some(self.streams.get_mut(&id)?.connection.packet(Op::Rw))
    }
}

fn token(id: u32, direction: Direction) -> u64 {
    let way = match direction {
        Direction::Input => 0,
        Direction::Output => 1,
    };
    FIRST_STREAM_TOKEN + u64::from(id) * 2 + way
}

fn stream_of(token: u64) -> Option<(u32, Direction)> {
    let number = token.checked_sub(FIRST_STREAM_TOKEN)?;
    let direction = if number % 2 == 0 { Direction::Input } else { Direction::Output };
    Some((u32::try_from(number / 2).ok()?, direction))
}

#[cfg(test)]
mod tests;
