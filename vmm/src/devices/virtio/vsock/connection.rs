//! What is agreed with the guest about one connection: who may still send, how much, and what the guest has
//! to be told.
//!
//! A state machine and nothing else: it owns no file descriptor and no byte. It is told of the guest's packets
//! and of what happened on the host's side, and says what follows. It promises that credit is respected in both
//! directions whatever the guest claims, and that what it owes the guest is bounded (one packet of each kind).
//!
//! ```text
//! guest -> host                                        host -> guest
//!
//! Open --SHUTDOWN(SEND), RST--> Draining               Open --end of input, SHUTDOWN(RECEIVE), RST--> Closed
//!   |                              | all written
//!   | output broken                v
//!   +--> Discarding             Closed
//! ```
//!
//! The connection is over when neither side can send, and what the guest must know has been told.

use super::packet::{Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Bytes that the guest may send ahead of what the host's reader has taken (`buf_alloc`), per connection.
pub(super) const BUF_ALLOC: u32 = 64 * 1024;

/// The direction from the guest to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToHost {
    /// The guest may send, and it is written to the host's output.
    Open,
    /// The guest sends no more; some of what it sent is not yet written.
    Draining,
    /// The output is gone: what the guest sends before it learns of that is lost, as in a pipe.
    Discarding,
    /// The guest sends no more, and all that it sent is written.
    Closed,
}

/// The direction from the host to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToGuest {
    Open,
    Closed,
}

/// What a packet of the guest led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The state has changed, or not.
    Noted,
    /// The packet's data goes to the host's output.
    Forward,
    /// The packet's data has nowhere to go.
    Discard,
    /// The guest has broken the protocol: the connection is aborted, and the guest is owed an RST.
    Violation,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    guest_port: u32,
    host_port: u32,
    to_host: ToHost,
    to_guest: ToGuest,
    /// The guest has forgotten the connection, or must: nothing but an RST may be sent to it.
    is_severed: bool,
    /// Bytes of data received from the guest. All counters are modulo 2^32 (virtio 1.2, 5.10.6.3).
    received: u32,
    /// Bytes of these that have left our buffer (`fwd_cnt`).
    forwarded: u32,
    /// `forwarded` as the guest knows it.
    reported: u32,
    /// Bytes of data sent to the guest.
    sent: u32,
    /// The guest's `buf_alloc`.
    peer_buf_alloc: u32,
    /// The guest's `fwd_cnt`.
    peer_forwarded: u32,
    owes_response: bool,
    /// `SHUTDOWN` flags that hold and that the guest does not know of.
    owed_shutdown: u32,
    owes_credit_update: bool,
    owes_credit_request: bool,
    /// A `CREDIT_REQUEST` is on its way, and no credit has come since.
    has_requested_credit: bool,
}

impl Connection {
    /// The connection that `request` asks for. The host's side has an input, an output, or both.
    pub(super) fn accept(request: &Header, has_input: bool, has_output: bool) -> Self {
        let mut connection = Self {
            guest_port: request.src_port,
            host_port: request.dst_port,
            to_host: ToHost::Open,
            to_guest: ToGuest::Open,
            is_severed: false,
            received: 0,
            forwarded: 0,
            reported: 0,
            sent: 0,
            peer_buf_alloc: request.buf_alloc,
            peer_forwarded: request.fwd_cnt,
            owes_response: true,
            owed_shutdown: 0,
            owes_credit_update: false,
            owes_credit_request: false,
            has_requested_credit: false,
        };
        if !has_input {
            connection.input_ended();
        }
        if !has_output {
            connection.output_broke();
        }
        connection
    }

    /// The guest's port and the host's.
    pub(super) fn ports(&self) -> (u32, u32) {
        (self.guest_port, self.host_port)
    }

    /// A packet of the guest, other than one of type RST, arrived with all its data.
    pub(super) fn receive(&mut self, packet: &Header) -> Received {
        if self.is_severed {
            return Received::Violation;
        }
        self.peer_buf_alloc = packet.buf_alloc;
        self.peer_forwarded = packet.fwd_cnt;
        if self.credit() > 0 {
            self.has_requested_credit = false;
            self.owes_credit_request = false;
        }
        match packet.op {
            Op::Rw => self.receive_data(packet.len),
            Op::CreditUpdate => Received::Noted,
            Op::CreditRequest => {
                self.owes_credit_update = true;
                Received::Noted
            }
            Op::Shutdown => self.receive_shutdown(packet.flags),
            Op::Request | Op::Response | Op::Rst | Op::Unknown(_) => Received::Violation,
        }
    }

    fn receive_data(&mut self, len: u32) -> Received {
        match self.to_host {
            ToHost::Open if len <= BUF_ALLOC.saturating_sub(self.buffered()) => {
                self.received = self.received.wrapping_add(len);
                Received::Forward
            }
            ToHost::Discarding => {
                self.received = self.received.wrapping_add(len);
                self.forwarded = self.received;
                Received::Discard
            }
            ToHost::Open | ToHost::Draining | ToHost::Closed => Received::Violation,
        }
    }

    fn receive_shutdown(&mut self, flags: u32) -> Received {
        // The bits are permanent: a later packet without them takes nothing back (5.10.6.5).
        if flags & SHUTDOWN_SEND != 0 {
            self.guest_ended();
        }
        if flags & SHUTDOWN_RECEIVE != 0 {
            self.to_guest = ToGuest::Closed;
            self.owed_shutdown &= !SHUTDOWN_SEND;
            self.owes_credit_request = false;
        }
        Received::Noted
    }

    /// The guest sends no more.
    fn guest_ended(&mut self) {
        self.to_host = match self.to_host {
            ToHost::Open if self.buffered() > 0 => ToHost::Draining,
            ToHost::Open | ToHost::Discarding => ToHost::Closed,
            state @ (ToHost::Draining | ToHost::Closed) => state,
        };
        self.owed_shutdown &= !SHUTDOWN_RECEIVE;
        self.owes_credit_update = false;
    }

    /// The guest has forgotten the connection, or must: an RST was received or will be sent, or the device is
    /// reset. What the guest sent before is still written to the host's output.
    pub(super) fn sever(&mut self) {
        self.is_severed = true;
        self.to_guest = ToGuest::Closed;
        self.guest_ended();
        self.owes_response = false;
        self.owed_shutdown = 0;
        self.owes_credit_request = false;
    }

    /// `count` bytes of the guest's have been written to the host's output.
    pub(super) fn forwarded(&mut self, count: u32) {
        self.forwarded = self.forwarded.wrapping_add(count.min(self.buffered()));
        if self.to_host == ToHost::Draining && self.buffered() == 0 {
            self.to_host = ToHost::Closed;
        }
    }

    /// The host's output takes no more: what is left in our buffer is lost.
    pub(super) fn output_broke(&mut self) {
        self.forwarded = self.received;
        match self.to_host {
            ToHost::Open => {
                self.to_host = ToHost::Discarding;
                self.owed_shutdown |= SHUTDOWN_RECEIVE;
            }
            ToHost::Draining => self.to_host = ToHost::Closed,
            ToHost::Discarding | ToHost::Closed => {}
        }
    }

    /// The host's input has ended, and all that came out of it has been sent.
    pub(super) fn input_ended(&mut self) {
        if self.to_guest == ToGuest::Open {
            self.to_guest = ToGuest::Closed;
            self.owed_shutdown |= SHUTDOWN_SEND;
            self.owes_credit_request = false;
        }
    }

    /// How many bytes of data may be sent to the guest now.
    pub(super) fn sendable(&self) -> u32 {
        // Before the response the guest does not take this for a connection.
        if self.to_guest == ToGuest::Closed || self.owes_response { 0 } else { self.credit() }
    }

    /// The host's input has something to say, and [`Connection::sendable`] is zero.
    pub(super) fn wants_credit(&mut self) {
        let may_ask = self.to_guest == ToGuest::Open && !self.has_requested_credit && self.credit() == 0;
        self.owes_credit_request |= may_ask;
    }

    /// `count` bytes of data are on their way to the guest.
    pub(super) fn sent(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// Takes the next packet that the guest must get, beside data.
    pub(super) fn take_control(&mut self) -> Option<Header> {
        if self.owes_response {
            self.owes_response = false;
            return Some(self.packet(Op::Response));
        }
        if self.owed_shutdown != 0 {
            let flags = std::mem::take(&mut self.owed_shutdown);
            return Some(Header { flags, ..self.packet(Op::Shutdown) });
        }
        if self.must_report_credit() {
            self.owes_credit_update = false;
            return Some(self.packet(Op::CreditUpdate));
        }
        if self.owes_credit_request {
            self.owes_credit_request = false;
            self.has_requested_credit = true;
            return Some(self.packet(Op::CreditRequest));
        }
        None
    }

    /// Whether [`Connection::take_control`] would give a packet.
    pub(super) fn owes_control(&self) -> bool {
        self.owes_response || self.owed_shutdown != 0 || self.owes_credit_request || self.must_report_credit()
    }

    /// A packet to the guest. It carries, and so reports, our credit.
    pub(super) fn packet(&mut self, op: Op) -> Header {
        self.reported = self.forwarded;
        let header = Header::to_guest(self.guest_port, self.host_port, op);
        Header { buf_alloc: BUF_ALLOC, fwd_cnt: self.forwarded, ..header }
    }

    /// Whether data of the guest's is to be written to the host's output.
    pub(super) fn has_output(&self) -> bool {
        matches!(self.to_host, ToHost::Open | ToHost::Draining)
    }

    /// Whether the host's input is to be read.
    pub(super) fn has_input(&self) -> bool {
        self.to_guest == ToGuest::Open
    }

    /// Whether the guest may be told anything, an RST included.
    pub(super) fn is_severed(&self) -> bool {
        self.is_severed
    }

    /// Whether nothing is left to be done but to forget the connection, with an RST unless it is severed.
    pub(super) fn is_over(&self) -> bool {
        let both_ended = !self.has_output() && !self.has_input();
        both_ended && !self.owes_response && self.owed_shutdown == 0
    }

    /// Bytes of the guest's that are not yet written to the host's output.
    fn buffered(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// The guest's free buffer space (5.10.6.3). A guest that claims nonsense only stops its own data.
    fn credit(&self) -> u32 {
        self.peer_buf_alloc.saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    /// The guest is told of free space when it asks, and when it believes to have less than half of the buffer:
    /// so it never stalls for want of news, and a stream of data costs few packets.
    fn must_report_credit(&self) -> bool {
        let may_send = matches!(self.to_host, ToHost::Open | ToHost::Discarding) && !self.is_severed;
        let believed_used = self.received.wrapping_sub(self.reported);
        let is_news = self.forwarded != self.reported && believed_used > BUF_ALLOC / 2;
        may_send && (self.owes_credit_update || is_news)
    }
}

#[cfg(test)]
mod tests;
