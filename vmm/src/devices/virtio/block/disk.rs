//! The file behind a disk: sectors read, written and given back, within its size.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{BlockError, SECTOR};
use crate::buffers::Buffers;
use crate::config::DiskFile;

/// Bytes of the answer to GET_ID (virtio 1.2, 5.2.6).
pub(super) const ID_BYTES: usize = 20;

/// A file of a fixed number of sectors.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    name: String,
    sectors: u64,
    scratch: bool,
}

/// What becomes of sectors that are erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Erase {
    /// They go back to the host, and read as zeros.
    Discard,
    /// They read as zeros, and keep their place on the host.
    Zero,
}

impl Disk {
    pub(super) fn new(disk: DiskFile) -> Result<Self, BlockError> {
        let DiskFile { file, name, scratch } = disk;
        let length = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(source) => return Err(BlockError::File { name, source }),
        };
        match length / SECTOR {
            0 => Err(BlockError::Empty(name)),
            sectors => Ok(Self { file, name, sectors, scratch }),
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn is_scratch(&self) -> bool {
        self.scratch
    }

    /// The disk's name, as far as there is room for it.
    pub(super) fn id(&self) -> [u8; ID_BYTES] {
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        id
    }

    /// Where in the file `bytes` from `sector` on are: `None` unless all of them are whole sectors of the disk.
    pub(super) fn offset(&self, sector: u64, bytes: u64) -> Option<u64> {
        let whole = bytes > 0 && bytes.is_multiple_of(SECTOR);
        let end = sector.checked_add(bytes / SECTOR)?;
        (whole && end <= self.sectors).then(|| sector.checked_mul(SECTOR)).flatten()
    }

    /// Fills the buffers from `offset` on.
    pub(super) fn read(&self, offset: u64, room: &Buffers<'_>) -> io::Result<()> {
        transfer(room, offset, |part, offset| part.read_from(self.file.as_fd(), offset, 0))
    }

    /// Writes the buffers from `offset` on.
    pub(super) fn write(&self, offset: u64, data: &Buffers<'_>) -> io::Result<()> {
        transfer(data, offset, |part, offset| part.write_to(self.file.as_fd(), offset, 0))
    }

    /// Erases `bytes`, which [`Disk::offset`] has found to be there.
    pub(super) fn erase(&self, offset: u64, bytes: u64, how: Erase) -> io::Result<()> {
        let how = match how {
            Erase::Discard => FallocateFlags::PUNCH_HOLE,
            Erase::Zero => FallocateFlags::ZERO_RANGE,
        };
        Ok(fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    /// Everything that was written is on the host's disk when this returns.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Calls `act` until all of `data` was moved.
fn transfer(
    data: &Buffers<'_>,
    offset: u64,
    act: impl Fn(&Buffers<'_>, u64) -> Result<usize, Errno>,
) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        match act(&data.range(done, usize::MAX), offset.saturating_add(done as u64)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sectors_of_the_disk_have_a_place() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 * SECTOR + 100).unwrap();
        let disk =
            Disk::new(DiskFile { file, name: "a disk whose name is long".into(), scratch: true }).unwrap();
        for (sector, bytes, place) in [
            (0, SECTOR, Some(0)),
            (9, SECTOR, Some(9 * SECTOR)),
            (0, 10 * SECTOR, Some(0)),
            (0, 0, None),
            (0, 511, None),
            (10, SECTOR, None),
            (9, 2 * SECTOR, None),
            (0, 11 * SECTOR, None),
            (u64::MAX, SECTOR, None),
            (1 << 55, SECTOR, None),
            (1, !(SECTOR - 1), None),
        ] {
            assert_eq!(disk.offset(sector, bytes), place, "{sector} {bytes}");
        }
        assert_eq!(&disk.id(), b"a disk whose name is");
    }

    #[test]
    fn a_transfer_that_stops_early_goes_on_where_it_stopped() {
        let mut memory = [[0_u8, 1, 2], [3, 4, 5], [6, 7, 8]];
        let mut data = Buffers::default();
        for bytes in &mut memory {
            data.push(vm_memory::VolatileSlice::from(bytes.as_mut_slice()));
        }
        for step in 1..=9 {
            let calls = std::cell::RefCell::new(Vec::new());
            transfer(&data, 100, |part, offset| {
                let mut first = [0];
                part.copy_to(&mut first);
                calls.borrow_mut().push((first[0], offset, part.len()));
                Ok(step.min(part.len()))
            })
            .unwrap();
            let expected: Vec<_> =
                (0..9).step_by(step).map(|at| (u8::try_from(at).unwrap(), 100 + at as u64, 9 - at)).collect();
            assert_eq!(*calls.borrow(), expected);
        }
        let error = transfer(&data, 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
