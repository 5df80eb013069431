//! virtio-vsock that ends in this process (virtio 1.2, 5.10): the guest connects to ports of the host, and each
//! connection is joined to file descriptors of ours. There is no socket that another process could reach.
//!
//! [`Vsock`] is the device as its transport sees it, [`VsockWorker`] serves its queues. Below the worker:
//!
//! ```text
//! worker      the event loop: mailbox, kicks, who gets a turn
//!   ring        virtqueues: buffers of the guest <-> packets
//!     packet      the header
//!   muxer       packets <-> connections
//!     ports       what listens, which may change at any time
//!     stream      one connection: its data on the way, its descriptors
//!       connection  what is agreed with the guest: credit, half-close; no I/O
//!       endpoint    a descriptor of the host that never blocks us
//! ```
//!
//! Only the guest connects, and only stream sockets exist. Each byte is delivered once and in order, in both
//! directions, also what a guest sent right before it closed, was reset, or died. A side that does not read
//! makes the other one wait; what that costs us is bounded by `MAX_CONNECTIONS` times `BUF_ALLOC`.

mod connection;
mod endpoint;
mod muxer;
mod packet;
mod ports;
mod ring;
mod stream;
#[cfg(test)]
mod testing;
mod worker;

use std::os::fd::OwnedFd;

use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::{Activation, Mailbox, VirtioDevice, mailbox};

pub use ports::HostPorts;
pub use worker::VsockWorker;

/// The context id of the host (`VMADDR_CID_HOST`).
pub const HOST_CID: u64 = 2;
/// The context id of the guest. Ours is the only guest that its device knows, so any would do.
pub const GUEST_CID: u64 = 3;

/// What listens on a port of the host. It is called while the device holds [`HostPorts`], and must not change them.
pub trait HostPort: Send {
    /// The guest connects from `guest_port`. `None` refuses it.
    fn connect(&mut self, guest_port: u32) -> Option<HostStream>;

    /// The connection from `guest_port` has ended in both directions, and every byte that the guest sent has
    /// been written to its [`HostStream::output`], unless that was closed by its reader.
    fn closed(&mut self, guest_port: u32);
}

/// The host's side of one connection: pipes, sockets, terminals or files, blocking or not. They are closed
/// when their direction of the connection ends.
#[derive(Debug, Default)]
pub struct HostStream {
    /// What is read from here is sent to the guest, and its end closes that direction. `None`: nothing is sent.
    pub input: Option<OwnedFd>,
    /// What the guest sends is written here. `None`: it is not allowed to send.
    pub output: Option<OwnedFd>,
}

/// The sizes of the queues rx, tx and event (virtio 1.2, 5.10.2).
const QUEUE_SIZES: [u16; 3] = [256; 3];

/// The virtio socket device.
#[derive(Debug)]
pub struct Vsock {
    mailbox: Mailbox,
    /// `guest_cid` (virtio 1.2, 5.10.4).
    config: [u8; 8],
}

/// Makes a device whose guest can connect to `ports`, and the subscriber that serves it.
///
/// # Errors
/// When the process is out of file descriptors or memory for them.
pub fn vsock(ports: HostPorts) -> std::io::Result<(Vsock, VsockWorker)> {
    let (sender, receiver) = mailbox()?;
    let device = Vsock { mailbox: sender, config: GUEST_CID.to_le_bytes() };
    Ok((device, VsockWorker::new(ports, receiver)?))
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, activation: Activation) {
        self.mailbox.start(activation);
    }

    fn reset(&mut self) {
        self.mailbox.stop();
    }
}
