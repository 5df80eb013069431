//! The header of a vsock packet (virtio 1.2, 5.10.6, `struct virtio_vsock_hdr`).
//!
//! Pure data: any 44 bytes make a header, and whether it means something is for its reader to find out.

use super::{GUEST_CID, HOST_CID};

/// `sizeof(struct virtio_vsock_hdr)`.
pub(super) const HEADER_LEN: usize = 44;

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(super) const TYPE_STREAM: u16 = 1;

/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender will not receive any more data.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender will not send any more data.
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for (`enum virtio_vsock_op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts it.
    Response,
    /// Refuses or aborts one, or ends the last doubts about its end.
    Rst,
    /// The sender has closed a direction.
    Shutdown,
    /// Carries data.
    Rw,
    /// Tells how much the sender may receive.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
    /// Anything else.
    Unknown(u16),
}

impl From<u16> for Op {
    fn from(value: u16) -> Self {
        match value {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Rst,
            4 => Self::Shutdown,
            5 => Self::Rw,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }
}

impl From<Op> for u16 {
    fn from(op: Op) -> Self {
        match op {
            Op::Request => 1,
            Op::Response => 2,
            Op::Rst => 3,
            Op::Shutdown => 4,
            Op::Rw => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
            Op::Unknown(other) => other,
        }
    }
}

/// `struct virtio_vsock_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes of data behind the header.
    pub(super) len: u32,
    /// `type`.
    pub(super) socket_type: u16,
    pub(super) op: Op,
    pub(super) flags: u32,
    /// The sender's receive buffer, all of it.
    pub(super) buf_alloc: u32,
    /// The count of all bytes that the sender has taken out of its receive buffer, modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            socket_type: u16::from_le_bytes(take(&mut rest)),
            op: Op::from(u16::from_le_bytes(take(&mut rest))),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// The header's bytes.
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.src_cid.to_le_bytes());
        put(&mut rest, self.dst_cid.to_le_bytes());
        put(&mut rest, self.src_port.to_le_bytes());
        put(&mut rest, self.dst_port.to_le_bytes());
        put(&mut rest, self.len.to_le_bytes());
        put(&mut rest, self.socket_type.to_le_bytes());
        put(&mut rest, u16::from(self.op).to_le_bytes());
        put(&mut rest, self.flags.to_le_bytes());
        put(&mut rest, self.buf_alloc.to_le_bytes());
        put(&mut rest, self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// A packet of a stream from the host to the guest, without data and without credit.
    pub(super) fn to_guest(guest_port: u32, host_port: u32, op: Op) -> Self {
        Self {
            src_cid: HOST_CID,
            dst_cid: GUEST_CID,
            src_port: host_port,
            dst_port: guest_port,
            len: 0,
            socket_type: TYPE_STREAM,
            op,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }

    /// The `VIRTIO_VSOCK_OP_RST` that answers this packet: it comes from where the packet went and has its
    /// type, or else the guest would not find the socket that it is for.
    pub(super) fn reset_reply(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            socket_type: self.socket_type,
            ..Self::to_guest(self.src_port, self.dst_port, Op::Rst)
        }
    }
}

/// Takes the next field. Past the end, fields read as zero.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut field = [0; N];
    if let Some((head, rest)) = bytes.split_at_checked(N) {
        field.copy_from_slice(head);
        *bytes = rest;
    }
    field
}

/// Puts the next field. Past the end, fields are left out.
fn put<const N: usize>(bytes: &mut &mut [u8], field: [u8; N]) {
    if let Some((head, rest)) = std::mem::take(bytes).split_at_mut_checked(N) {
        head.copy_from_slice(&field);
        *bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_at_the_offsets_of_the_specification() {
        let mut bytes = [0; HEADER_LEN];
        for (offset, value) in [(0, 3), (8, 2), (16, 0x11), (20, 0x12), (24, 0x13), (32, 0x16), (36, 0x17)] {
            bytes[offset] = value;
        }
        bytes[28] = 1;
        bytes[30] = 5;
        bytes[40] = 0x18;
        let expected = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 0x11,
            dst_port: 0x12,
            len: 0x13,
            socket_type: TYPE_STREAM,
            op: Op::Rw,
            flags: 0x16,
            buf_alloc: 0x17,
            fwd_cnt: 0x18,
        };
        assert_eq!(Header::parse(&bytes), expected);
        assert_eq!(expected.to_bytes(), bytes);
    }

    #[test]
    fn every_op_survives_the_round_trip() {
        for value in 0..=u16::MAX {
            assert_eq!(u16::from(Op::from(value)), value);
        }
    }

    #[test]
    fn a_reset_goes_back_to_where_the_packet_came_from() {
        let packet =
            Header { src_cid: GUEST_CID, dst_cid: 77, socket_type: 9, ..Header::to_guest(5, 6, Op::Rw) };
        let reply = packet.reset_reply();
        assert_eq!((reply.src_cid, reply.dst_cid), (77, GUEST_CID));
        assert_eq!((reply.src_port, reply.dst_port), (packet.dst_port, packet.src_port));
        assert_eq!((reply.op, reply.socket_type), (Op::Rst, 9));
    }
}
