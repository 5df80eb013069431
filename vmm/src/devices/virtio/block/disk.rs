//! The file behind a disk: sectors read, written and given back, within its size.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::VolatileSlice;

use super::{BlockError, SECTOR};
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

    pub(super) fn read(&self, offset: u64, data: &[VolatileSlice<'_>]) -> io::Result<()> {
        transfer(data, offset, |buffers, offset| {
            let count = libc::c_int::try_from(buffers.len()).map_err(io::Error::other)?;
            // SAFETY: `transfer` gives buffers that lie in guest memory, which nobody in this process has a
            // reference to: the kernel may write them at any time, as the guest itself does.
            check(unsafe { libc::preadv(self.file.as_raw_fd(), buffers.as_ptr(), count, offset) })
        })
    }

    pub(super) fn write(&self, offset: u64, data: &[VolatileSlice<'_>]) -> io::Result<()> {
        transfer(data, offset, |buffers, offset| {
            let count = libc::c_int::try_from(buffers.len()).map_err(io::Error::other)?;
            // SAFETY: `transfer` gives buffers that lie in guest memory and are mapped for as long as the slices live.
            check(unsafe { libc::pwritev(self.file.as_raw_fd(), buffers.as_ptr(), count, offset) })
        })
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

/// Calls `vectored` until all of `data` was moved.
fn transfer(
    data: &[VolatileSlice<'_>],
    mut offset: u64,
    vectored: impl Fn(&[libc::iovec], i64) -> io::Result<usize>,
) -> io::Result<()> {
    let guards: Vec<_> = data.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let mut buffers: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let mut rest = buffers.as_mut_slice();
    while !rest.is_empty() {
        let moved = match vectored(rest, i64::try_from(offset).map_err(io::Error::other)?) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            moved => moved?,
        };
        offset = offset.saturating_add(moved.try_into().map_err(io::Error::other)?);
        let done = advance(rest, moved);
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    Ok(())
}

/// Takes the first `count` bytes out of `buffers`; gives how many of them are used up.
fn advance(buffers: &mut [libc::iovec], mut count: usize) -> usize {
    for (index, buffer) in buffers.iter_mut().enumerate() {
        if count < buffer.iov_len {
            buffer.iov_base = buffer.iov_base.wrapping_byte_add(count);
            buffer.iov_len -= count;
            return index;
        }
        count -= buffer.iov_len;
    }
    buffers.len()
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
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
        let mut memory = [[0_u8; 3], [0; 3], [0; 3]];
        let data: Vec<_> = memory.iter_mut().map(|bytes| VolatileSlice::from(bytes.as_mut_slice())).collect();
        for step in 1..=9 {
            let calls = std::cell::RefCell::new(Vec::new());
            transfer(&data, 100, |buffers, offset| {
                let left: usize = buffers.iter().map(|buffer| buffer.iov_len).sum();
                let at = 9 - left;
                let expected = data[at / 3].ptr_guard_mut().as_ptr().wrapping_add(at % 3);
                assert_eq!(buffers[0].iov_base.cast(), expected);
                calls.borrow_mut().push((offset, left));
                Ok(step.min(left))
            })
            .unwrap();
            let expected: Vec<_> =
                (0..9).step_by(step).map(|at| (100 + i64::try_from(at).unwrap(), 9 - at)).collect();
            assert_eq!(*calls.borrow(), expected);
        }
        let error = transfer(&data, 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
