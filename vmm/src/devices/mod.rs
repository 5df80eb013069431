//! Devices of the machine, and the contract between them and the bus.
//!
//! A device reports, it does not act: a write returns an [`Outcome`], and no device holds a handle to the
//! machine. Whatever a guest writes is answered as hardware would answer it; it never ends this process.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable
)]

pub mod bus;
pub mod power;
pub mod serial;
pub mod virtio;

use crate::StopReason;

/// Something at an address range of a [`bus::Bus`].
pub trait BusDevice: Send {
    /// The guest reads `data.len()` bytes at `offset` from the start of the device's range. What the device
    /// leaves untouched reads as all ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes `data` at `offset` from the start of the device's range.
    fn write(&mut self, offset: u64, data: &[u8]) -> Outcome;
}

/// What follows from a write to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vCPU goes on.
    Continue,
    /// The machine stops.
    Stop(StopReason),
}
