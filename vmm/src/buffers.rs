//! The buffers of a request: guest memory, through checked slices alone.
//!
//! Data goes between them and files without a copy in between.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use vm_memory::VolatileSlice;

/// The most slices that one system call takes (`UIO_MAXIOV`).
const MAX_SLICES: usize = 1024;

/// Slices of guest memory, one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    length: usize,
}

impl fmt::Debug for Buffers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("slices", &self.slices.len()).field("length", &self.length).finish()
    }
}

impl<'m> Buffers<'m> {
    /// Adds a slice behind the others.
    pub(crate) fn push(&mut self, slice: VolatileSlice<'m>) {
        self.length = self.length.saturating_add(slice.len());
        self.slices.push(slice);
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Copies from the start, as many bytes as there are and as fit. Gives their number.
    pub(crate) fn copy_to(&self, mut to: &mut [u8]) -> usize {
        let wanted = to.len();
        for slice in &self.slices {
            let copied = slice.copy_to(to);
            to = to.get_mut(copied..).unwrap_or_default();
            if to.is_empty() {
                break;
            }
        }
        wanted - to.len()
    }

    /// Copies to the start, as many bytes as fit. Gives their number.
    pub(crate) fn copy_from(&self, mut from: &[u8]) -> usize {
        let wanted = from.len();
        for slice in &self.slices {
            let count = from.len().min(slice.len());
            let (head, tail) = from.split_at_checked(count).unwrap_or_default();
            slice.copy_from(head);
            from = tail;
            if from.is_empty() {
                break;
            }
        }
        wanted - from.len()
    }

    /// At most `length` bytes from `offset` on.
    pub(crate) fn range(&self, mut offset: usize, mut length: usize) -> Self {
        let mut part = Self::default();
        for slice in &self.slices {
            let skipped = offset.min(slice.len());
            offset -= skipped;
            let count = (slice.len() - skipped).min(length);
            if count > 0
                && let Ok(slice) = slice.subslice(skipped, count)
            {
                part.push(slice);
                length -= count;
            }
        }
        part
    }

    /// Reads from a file at `offset` into the buffers, as far as one call of preadv2(2) with `flags` does. Gives the number
    /// of bytes.
    pub(crate) fn read_from(&self, file: BorrowedFd<'_>, offset: u64, flags: i32) -> Result<usize, Errno> {
        self.with_vectors(|vectors, count| {
            let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
            // SAFETY: the iovecs are memory behind guards that outlive the call. It is guest memory, in which bytes may
            // change at any time, and which is never looked at through references.
            check(unsafe { libc::preadv2(file.as_raw_fd(), vectors, count, offset, flags) })
        })
    }

    /// Writes the buffers to a file at `offset`, as far as one call of pwritev2(2) with `flags` does. Gives the number of
    /// bytes.
    pub(crate) fn write_to(&self, file: BorrowedFd<'_>, offset: u64, flags: i32) -> Result<usize, Errno> {
        self.with_vectors(|vectors, count| {
            let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
            // SAFETY: as in `read_from`; the kernel only reads it.
            check(unsafe { libc::pwritev2(file.as_raw_fd(), vectors, count, offset, flags) })
        })
    }

    /// Calls `act` with an iovec for each slice, and their number.
    fn with_vectors(
        &self,
        act: impl FnOnce(*const libc::iovec, i32) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let guards: Vec<_> = self.slices.iter().take(MAX_SLICES).map(VolatileSlice::ptr_guard_mut).collect();
        let vectors: Vec<_> = guards
            .iter()
            .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
            .collect();
        act(vectors.as_ptr(), i32::try_from(vectors.len()).map_err(|_| Errno::INVAL)?)
    }
}

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_any_place() {
        let mut memory: Vec<u8> = (0..10).collect();
        let (one, rest) = memory.split_at_mut(3);
        let (two, three) = rest.split_at_mut(3);
        let mut buffers = Buffers::default();
        for part in [one, two, three] {
            buffers.push(VolatileSlice::from(part));
        }
        for offset in 0..12 {
            for length in 0..12 {
                let part = buffers.range(offset, length);
                let mut bytes = vec![0; 12];
                let count = part.copy_to(&mut bytes);
                let expected: Vec<u8> = (0..10).skip(offset).take(length).collect();
                assert_eq!(bytes[..count], expected);
                assert_eq!(part.len(), expected.len());
            }
        }
        assert_eq!(buffers.copy_from(&[7; 20]), 10);
        let mut bytes = [0; 10];
        assert_eq!(buffers.copy_to(&mut bytes), 10);
        assert_eq!(bytes, [7; 10]);
    }
}
