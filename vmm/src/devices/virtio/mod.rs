//! Virtio devices (virtio 1.2) behind the virtio-mmio transport.
//!
//! [`mmio`] owns a device's registers and is touched by vCPU threads. When the driver sets `DRIVER_OK` its
//! queues *move* into the device ([`VirtioDevice::activate`]), which serves them on another thread, and the
//! device lets go of them on reset. Nothing is shared between the two but an [`Interrupt`].

pub mod block;
mod chain;
pub mod fs;
pub mod interrupt;
pub mod mailbox;
pub mod mmio;
mod queue;
mod thread;
pub mod vsock;

#[cfg(test)]
pub(crate) mod testing;

pub use interrupt::Interrupt;
pub use mailbox::{Mailbox, MailboxReceiver, Work, mailbox};
pub use queue::ActiveQueue;
pub use thread::DeviceThread;

use vm_memory::GuestMemoryMmap;

/// A virtio device without its transport.
pub trait VirtioDevice: Send {
    /// Device ID (virtio 1.2, 5).
    fn device_type(&self) -> u32;

    /// The largest size of each queue, in the order of the device's specification.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits that the device offers, beside `VIRTIO_F_VERSION_1`, which the transport adds.
    fn features(&self) -> u64;

    /// The device's configuration space. It never changes.
    fn config(&self) -> &[u8];

    /// The driver has set `DRIVER_OK`: the queues now belong to the device. Called once between two resets.
    fn activate(&mut self, activation: Activation);

    /// The driver resets the device: when this returns, the device no longer touches queues or memory.
    fn reset(&mut self);
}

/// What a device gets when its driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// The queues, in the order of [`VirtioDevice::queue_sizes`]: those that the driver did not enable are
    /// absent from the end or `None`.
    pub queues: Vec<Option<ActiveQueue>>,
    /// Feature bits that driver and device agreed on.
    pub features: u64,
    /// The device's interrupt.
    pub interrupt: Interrupt,
}
