//! One request of the driver's (virtio 1.2, 5.2.6): a header, data in one direction, and a byte for the status.

use std::io::{self, ErrorKind};

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::disk::{Disk, Erase, ID_BYTES};
use super::{ERASE_SECTORS, SECTOR};
use crate::buffers::Buffers;
use crate::devices::virtio::chain::{Chain, buffers};

/// Descriptors of one request: as many as the queue has.
const MAX_DESCRIPTORS: usize = 256;

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

/// Answers a request; gives the number of bytes written to its buffers.
pub(super) fn answer(
    disk: &Disk,
    descriptors: DescriptorChain<&GuestMemoryMmap>,
    memory: &GuestMemoryMmap,
) -> usize {
    let Some(chain) = Chain::of(descriptors, MAX_DESCRIPTORS) else { return 0 };
    let (request, room) = (buffers(&chain.readable, memory), buffers(&chain.writable, memory));
    let (Some(request), Some(room)) = (request, room) else { return 0 };
    // The last byte is the status.
    let Some(bytes) = room.len().checked_sub(1) else { return 0 };
    let (room, status) = (room.range(0, bytes), room.range(bytes, 1));
    let (code, written) = match serve(disk, &request, &room) {
        Ok(written) => (VIRTIO_BLK_S_OK, written),
        Err(Refusal::Failed) => (VIRTIO_BLK_S_IOERR, 0),
        Err(Refusal::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
    };
    status.copy_from(&[u8::try_from(code).unwrap_or(u8::MAX)]);
    written + 1
}

/// Does what the header says; gives the number of bytes of data written.
fn serve(disk: &Disk, request: &Buffers<'_>, room: &Buffers<'_>) -> Result<usize, Refusal> {
    let (header, data) = take_front(request)?;
    let (kind, sector) = (word(&header, 0), long(&header, 8));
    match kind {
        VIRTIO_BLK_T_IN => {
            disk.read(disk.offset(sector, room.len() as u64).ok_or(Refusal::Failed)?, room)?;
            Ok(room.len())
        }
        VIRTIO_BLK_T_OUT => {
            disk.write(disk.offset(sector, data.len() as u64).ok_or(Refusal::Failed)?, &data)?;
            Ok(0)
        }
        VIRTIO_BLK_T_FLUSH if !disk.is_scratch() => Ok(disk.flush().map(|()| 0)?),
        VIRTIO_BLK_T_GET_ID => match room.copy_from(&disk.id()) {
            ID_BYTES => Ok(ID_BYTES),
            _ => Err(Refusal::Failed),
        },
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => erase(disk, kind, &data),
        _ => Err(Refusal::Unsupported),
    }
}

/// One segment, as the configuration space says.
fn erase(disk: &Disk, kind: u32, segments: &Buffers<'_>) -> Result<usize, Refusal> {
    let (segment, rest) = take_front(segments)?;
    let (sector, sectors, flags) = (long(&segment, 0), word(&segment, 8), word(&segment, 12));
    let how = match (kind, flags) {
        (VIRTIO_BLK_T_DISCARD, 0) | (VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) => {
            Erase::Discard
        }
        (VIRTIO_BLK_T_WRITE_ZEROES, 0) => Erase::Zero,
        _ => return Err(Refusal::Unsupported),
    };
    if rest.len() > 0 || sectors > ERASE_SECTORS {
        return Err(Refusal::Failed);
    }
    let bytes = u64::from(sectors) * SECTOR;
    disk.erase(disk.offset(sector, bytes).ok_or(Refusal::Failed)?, bytes, how)?;
    Ok(0)
}

/// The first 16 bytes, as long as the header and a segment are, and what follows them.
fn take_front<'m>(buffers: &Buffers<'m>) -> Result<([u8; 16], Buffers<'m>), Refusal> {
    let mut front = [0; 16];
    match buffers.copy_to(&mut front) {
        16 => Ok((front, buffers.range(16, usize::MAX))),
        _ => Err(Refusal::Failed),
    }
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long(bytes: &[u8; 16], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
