//! An address space of devices: guest-physical addresses, or I/O ports.
//!
//! The map never changes while the machine runs, so finding a device takes no lock; each device has its own.

use std::sync::{Arc, Mutex, PoisonError};

use super::{BusDevice, Outcome};

/// A device that several vCPUs can reach.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Why a device cannot be placed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("address range {start:#x}+{length:#x} overlaps that of another device")]
pub struct Overlap {
    start: u64,
    length: u64,
}

/// Devices by address range.
#[derive(Default)]
pub struct Bus {
    ranges: Vec<(u64, u64, SharedDevice)>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ranges.iter().map(|(start, length, _)| (start, length))).finish()
    }
}

impl Bus {
    /// Places a device at `length` bytes from `start`.
    ///
    /// # Errors
    /// [`Overlap`] when another device claims a part of the range.
    pub fn insert(&mut self, start: u64, length: u64, device: SharedDevice) -> Result<(), Overlap> {
        let overlaps = |(other, size, _): &(u64, u64, _)| start < other + size && *other < start + length;
        if self.ranges.iter().any(overlaps) {
            return Err(Overlap { start, length });
        }
        self.ranges.push((start, length, device));
        Ok(())
    }

    /// The guest reads. Where no device answers it reads all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
        }
    }

    /// The guest writes. Where no device answers the write is lost.
    pub fn write(&self, address: u64, data: &[u8]) -> Outcome {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data)
            }
            None => Outcome::Continue,
        }
    }

    /// The device that all of `length` bytes at `address` belong to, and their offset in it.
    fn find(&self, address: u64, length: usize) -> Option<(u64, &SharedDevice)> {
        self.ranges.iter().find_map(|(start, size, device)| {
            let offset = address.checked_sub(*start)?;
            let end = offset.checked_add(u64::try_from(length).ok()?)?;
            (end <= *size).then_some((offset, device))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers reads with the offset, keeps the last write.
    struct Recorder(Option<(u64, Vec<u8>)>);

    impl BusDevice for Recorder {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&mut self, offset: u64, data: &[u8]) -> Outcome {
            self.0 = Some((offset, data.to_vec()));
            Outcome::Continue
        }
    }

    #[test]
    fn accesses_reach_the_device_only_when_they_fit_its_range() {
        let mut bus = Bus::default();
        let device = Arc::new(Mutex::new(Recorder(None)));
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        let read = |address, length| {
            let mut data = vec![0; length];
            bus.read(address, &mut data);
            data
        };
        assert_eq!(read(0x1004, 4), [4; 4]);
        assert_eq!(read(0x100c, 4), [12; 4]);
        assert_eq!(read(0x100d, 4), [0xff; 4], "reaches over the end");
        assert_eq!(read(0xfff, 2), [0xff; 2], "starts before");
        assert_eq!(read(u64::MAX, 8), [0xff; 8]);
        bus.write(0x1008, &[1, 2]);
        assert_eq!(device.lock().unwrap().0.take(), Some((8, vec![1, 2])));
        bus.write(0x2000, &[1]);
        assert_eq!(device.lock().unwrap().0, None);
    }

    #[test]
    fn ranges_may_touch_but_not_overlap() {
        let mut bus = Bus::default();
        let device = || Arc::new(Mutex::new(Recorder(None)));
        bus.insert(0x10, 0x10, device()).unwrap();
        bus.insert(0x20, 0x10, device()).unwrap();
        bus.insert(0x0, 0x10, device()).unwrap();
        assert_eq!(bus.insert(0x2f, 1, device()), Err(Overlap { start: 0x2f, length: 1 }));
    }
}
