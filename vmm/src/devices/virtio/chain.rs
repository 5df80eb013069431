//! Where the buffers of a request lie: a chain of descriptors (virtio 1.2, 2.7), each read once.
//!
//! A driver may cut a request into descriptors in any way. Nothing is allocated that grows with the lengths in them.

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use crate::buffers::Buffers;

/// Places in guest memory, with the number of bytes at each.
pub(super) type Places = Vec<(GuestAddress, usize)>;

/// A request's buffers.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Those that the driver has filled, which the device reads.
    pub(super) readable: Places,
    /// Those behind them, which the device writes.
    pub(super) writable: Places,
}

impl Chain {
    /// `None` for a chain of more than `most` descriptors (an indirect table could have 65,535), or with something to read
    /// behind something to write (2.7.4.2).
    pub(super) fn of(descriptors: DescriptorChain<&GuestMemoryMmap>, most: usize) -> Option<Self> {
        let mut chain = Self::default();
        for (index, descriptor) in descriptors.enumerate() {
            let descriptor: Descriptor = descriptor;
            if index >= most {
                return None;
            }
            let list = match descriptor.is_write_only() {
                true => &mut chain.writable,
                false if chain.writable.is_empty() => &mut chain.readable,
                false => return None,
            };
            list.push((descriptor.addr(), usize::try_from(descriptor.len()).ok()?));
        }
        Some(chain)
    }
}

/// The memory at these places; `None` where there is none.
pub(super) fn buffers<'m>(places: &Places, memory: &'m GuestMemoryMmap) -> Option<Buffers<'m>> {
    let mut buffers = Buffers::default();
    for (address, length) in places {
        for slice in memory.get_slices(*address, *length) {
            buffers.push(slice.ok()?);
        }
    }
    Some(buffers)
}
