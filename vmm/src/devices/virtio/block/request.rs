//! One request of the driver's (virtio 1.2, 5.2.6): a header, data in one direction, and a byte for the status.
//!
//! A chain may be cut into descriptors in any way. Each descriptor is read once, and nothing is allocated that grows
//! with the lengths in them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestMemory, GuestMemoryMmap, VolatileSlice};

use super::disk::{Disk, Erase};
use super::{ERASE_SECTORS, SECTOR};

/// Descriptors of one chain that are looked at: what the ring has. An indirect table could have 65,535.
const MAX_DESCRIPTORS: usize = 256;

/// The buffers of a chain, as slices of guest memory.
#[derive(Debug, Default)]
struct Buffers<'m> {
    /// Those that the device reads.
    readable: VecDeque<VolatileSlice<'m>>,
    /// Those that it writes; they come behind the others.
    writable: VecDeque<VolatileSlice<'m>>,
}

/// Why a request fails.
#[derive(Debug)]
enum Refusal {
    /// It cannot be done, for a reason of its own or of the host's.
    Failed,
    /// The device does not know it.
    Unsupported,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        log::debug!("disk: {error}");
        match error.kind() {
            ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Failed,
        }
    }
}

/// Answers the request in `chain`; gives the number of bytes written to its buffers.
pub(super) fn answer(disk: &Disk, chain: DescriptorChain<&GuestMemoryMmap>, memory: &GuestMemoryMmap) -> u32 {
    let Some(mut buffers) = Buffers::of(chain, memory) else { return 0 };
    let Some(status) = take_last_byte(&mut buffers.writable) else { return 0 };
    let (code, written) = match buffers.serve(disk) {
        Ok(written) => (VIRTIO_BLK_S_OK, written),
        Err(Refusal::Failed) => (VIRTIO_BLK_S_IOERR, 0),
        Err(Refusal::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
    };
    status.copy_from(&[u8::try_from(code).unwrap_or(u8::MAX)]);
    u32::try_from(written).unwrap_or(u32::MAX).saturating_add(1)
}

impl<'m> Buffers<'m> {
    /// `None` for a chain that is too long, leaves guest memory, or has a readable buffer behind a writable one.
    fn of(chain: DescriptorChain<&'m GuestMemoryMmap>, memory: &'m GuestMemoryMmap) -> Option<Self> {
        let mut buffers = Self::default();
        for (index, descriptor) in chain.enumerate() {
            let descriptor: Descriptor = descriptor;
            if index >= MAX_DESCRIPTORS {
                return None;
            }
            let list = match descriptor.is_write_only() {
                true => &mut buffers.writable,
                false if buffers.writable.is_empty() => &mut buffers.readable,
                false => return None,
            };
            let length = usize::try_from(descriptor.len()).ok()?;
            for slice in memory.get_slices(descriptor.addr(), length) {
                list.push_back(slice.ok()?);
            }
        }
        Some(buffers)
    }

    /// Does what the header says; gives the number of bytes of data written.
    fn serve(mut self, disk: &Disk) -> Result<u64, Refusal> {
        let mut header = [0; 16];
        take_front(&mut self.readable, &mut header)?;
        let (kind, sector) = (word(&header, 0), long(&header, 8));
        match kind {
            VIRTIO_BLK_T_IN => {
                let data = self.writable.make_contiguous();
                let bytes = length(data);
                disk.read(disk.offset(sector, bytes).ok_or(Refusal::Failed)?, data)?;
                Ok(bytes)
            }
            VIRTIO_BLK_T_OUT => {
                let data = self.readable.make_contiguous();
                disk.write(disk.offset(sector, length(data)).ok_or(Refusal::Failed)?, data)?;
                Ok(0)
            }
            VIRTIO_BLK_T_FLUSH if !disk.is_scratch() => Ok(disk.flush().map(|()| 0)?),
            VIRTIO_BLK_T_GET_ID => self.get_id(disk),
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => self.erase(disk, kind),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn get_id(self, disk: &Disk) -> Result<u64, Refusal> {
        let id = disk.id();
        let mut rest = id.as_slice();
        for buffer in &self.writable {
            let (now, later) = rest.split_at_checked(buffer.len()).unwrap_or((rest, &[]));
            buffer.copy_from(now);
            rest = later;
        }
        if rest.is_empty() { id.len().try_into().map_err(|_| Refusal::Failed) } else { Err(Refusal::Failed) }
    }

    /// One segment, as the configuration space says.
    fn erase(mut self, disk: &Disk, kind: u32) -> Result<u64, Refusal> {
        let mut segment = [0; 16];
        take_front(&mut self.readable, &mut segment)?;
        let (sector, sectors, flags) = (long(&segment, 0), word(&segment, 8), word(&segment, 12));
        let how = match (kind, flags) {
            (VIRTIO_BLK_T_DISCARD, 0) | (VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) => {
                Erase::Discard
            }
            (VIRTIO_BLK_T_WRITE_ZEROES, 0) => Erase::Zero,
            _ => return Err(Refusal::Unsupported),
        };
        if !self.readable.is_empty() || sectors > ERASE_SECTORS {
            return Err(Refusal::Failed);
        }
        let bytes = u64::from(sectors) * SECTOR;
        disk.erase(disk.offset(sector, bytes).ok_or(Refusal::Failed)?, bytes, how)?;
        Ok(0)
    }
}

/// Bytes of a request's data. At most 256 lengths of 32 bits: it does not overflow.
fn length(data: &[VolatileSlice<'_>]) -> u64 {
    data.iter().map(|slice| slice.len() as u64).sum()
}

/// Takes the first bytes out of the buffers.
fn take_front(buffers: &mut VecDeque<VolatileSlice<'_>>, bytes: &mut [u8]) -> Result<(), Refusal> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let buffer = buffers.pop_front().ok_or(Refusal::Failed)?;
        let count = buffer.copy_to(rest);
        rest = rest.get_mut(count..).unwrap_or_default();
        let left = buffer.offset(count).map_err(|_| Refusal::Failed)?;
        if !left.is_empty() {
            buffers.push_front(left);
        }
    }
    Ok(())
}

/// Takes the last byte out of the buffers.
fn take_last_byte<'m>(buffers: &mut VecDeque<VolatileSlice<'m>>) -> Option<VolatileSlice<'m>> {
    let last = buffers.pop_back()?;
    let (front, byte) = last.split_at(last.len().checked_sub(1)?).ok()?;
    if !front.is_empty() {
        buffers.push_back(front);
    }
    Some(byte)
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(bytes: &[u8; 16], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
