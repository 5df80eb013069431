//! The buffers of a request: guest memory, through checked slices alone, each byte of a request read once.

use std::fmt;

use vm_memory::VolatileSlice;

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

    /// The slices.
    pub(super) fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Copies from the start, as many bytes as there are and as fit. Gives their number.
    pub(super) fn copy_to(&self, mut to: &mut [u8]) -> usize {
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
    pub(super) fn copy_from(&self, mut from: &[u8]) -> usize {
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
    pub(super) fn range(&self, mut offset: usize, mut length: usize) -> Self {
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
