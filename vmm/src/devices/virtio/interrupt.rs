//! The interrupt of a virtio-mmio device: the interrupt status register and the line to the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// `InterruptStatus` bit 0: the device has used a buffer (virtio 1.2, 4.2.2).
const USED_BUFFER: u32 = 1;
/// `InterruptStatus` bit 1: the device's configuration or status has changed.
const CONFIGURATION_CHANGE: u32 = 2;

/// Raises a device's interrupt. Clones raise the same one.
#[derive(Clone, Debug)]
pub struct Interrupt {
    status: Arc<AtomicU32>,
    needs_reset: Arc<AtomicBool>,
    line: Arc<EventFd>,
}

impl Interrupt {
    /// An interrupt that signals the guest through `line` (an irqfd).
    #[must_use]
    pub fn new(line: EventFd) -> Self {
        Self { status: Arc::default(), needs_reset: Arc::default(), line: Arc::new(line) }
    }

    /// Tells the driver that buffers were used. Call it when `Queue::needs_notification` says so.
    pub fn used_buffer(&self) {
        self.raise(USED_BUFFER);
    }

    /// Gives up on a driver whose rings are broken: `DEVICE_NEEDS_RESET` is set (virtio 1.2, 2.1), and the
    /// device must leave its queues alone until it is reset.
    pub fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise(CONFIGURATION_CHANGE);
    }

    /// The file descriptor that KVM watches.
    #[must_use]
    pub fn line(&self) -> &EventFd {
        &self.line
    }

    /// `InterruptStatus`.
    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// `InterruptACK`.
    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Whether the device has given up.
    pub(super) fn is_reset_needed(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Back to the state after reset.
    pub(super) fn clear(&self) {
        self.status.store(0, Ordering::Release);
        self.needs_reset.store(false, Ordering::Release);
    }

    fn raise(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::AcqRel);
        // The counter of an eventfd can only be full when 2^64-2 interrupts are pending: one is, then.
        let _ = self.line.write(1);
    }
}
