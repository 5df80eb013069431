//! The device's use of its virtqueues (virtio 1.2, 2.7): packets in from tx, packets out through rx.
//!
//! Buffers may be cut into descriptors in any way (2.7.4). They are only touched through guest memory's checked
//! slices, and each descriptor is read once. A chain that makes no sense goes back unused; a ring that makes no
//! sense is an error, after which the device must stop.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::packet::{HEADER_LEN, Header};
use crate::devices::virtio::{ActiveQueue, Interrupt};

/// Descriptors of one chain that are looked at. Linux uses up to 18; an indirect table could have 65,535.
const MAX_DESCRIPTORS: usize = 256;

/// Chains of the rx queue that are held at a time.
const MAX_HELD_BUFFERS: usize = 32;

/// The driver's rings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    /// The crate that reads them says so.
    #[error("the ring is broken")]
    Broken(#[from] virtio_queue::Error),
    /// There is no memory where the ring should be.
    #[error("the available ring cannot be read")]
    Unreadable,
    /// The driver has not set up the queue, or not in memory.
    #[error("the queue is not set up")]
    NotReady,
}

/// What the tx queue gave.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A packet whose data, if there is any and it is all there, is at the start of the caller's buffer.
    Packet {
        /// The header.
        header: Header,
        /// Whether as much data followed as the header says, and the buffer had room for it.
        is_complete: bool,
    },
    /// A chain that holds no packet.
    Nonsense,
}

/// One virtqueue.
#[derive(Debug)]
struct Ring {
    queue: Queue,
    kick: EventFd,
    /// No chain was available when last asked.
    is_exhausted: bool,
    /// Chains were given back since the driver was last told.
    has_used: bool,
}

impl Ring {
    fn new(queue: Option<ActiveQueue>, memory: &GuestMemoryMmap, event_idx: bool) -> Result<Self, RingError> {
        let ActiveQueue { mut queue, kick } = queue.ok_or(RingError::NotReady)?;
        queue.set_event_idx(event_idx);
        if !queue.is_valid(memory) {
            return Err(RingError::NotReady);
        }
        Ok(Self { queue, kick, is_exhausted: false, has_used: false })
    }

    /// Takes the next available chain.
    fn take<'m>(
        &mut self,
        memory: &'m GuestMemoryMmap,
    ) -> Result<Option<DescriptorChain<&'m GuestMemoryMmap>>, RingError> {
        // The iterator ends at the last chain, but also where it cannot read the ring. The second try tells
        // these apart, without taking a chain that has arrived in between for an error.
        for _ in 0..2 {
            if let Some(chain) = self.queue.iter(memory)?.next() {
                self.is_exhausted = false;
                return Ok(Some(chain));
            }
            if self.queue.avail_idx(memory, Ordering::Acquire)?.0 == self.queue.next_avail() {
                self.is_exhausted = true;
                return Ok(None);
            }
        }
        Err(RingError::Unreadable)
    }

    fn give_back(&mut self, memory: &GuestMemoryMmap, head: u16, written: usize) -> Result<(), RingError> {
        // Nothing longer than the largest packet is ever written.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.queue.add_used(memory, head, written)?;
        self.has_used = true;
        Ok(())
    }

    /// Asks for a kick if the queue has run dry. True when chains have arrived meanwhile.
    fn rearm(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        if !self.is_exhausted {
            return Ok(false);
        }
        self.is_exhausted = !self.queue.enable_notification(memory)?;
        if !self.is_exhausted {
            self.queue.disable_notification(memory)?;
        }
        Ok(!self.is_exhausted)
    }

    fn notify(&mut self, memory: &GuestMemoryMmap, interrupt: &Interrupt) -> Result<(), RingError> {
        if std::mem::take(&mut self.has_used) && self.queue.needs_notification(memory)? {
            interrupt.used_buffer();
        }
        Ok(())
    }
}

/// The queue of packets from the driver.
#[derive(Debug)]
pub(super) struct TxRing(Ring);

impl TxRing {
    /// Takes over the tx queue.
    ///
    /// # Errors
    /// When the driver has not set it up.
    pub(super) fn new(
        queue: Option<ActiveQueue>,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Result<Self, RingError> {
        Ring::new(queue, memory, event_idx).map(Self)
    }

    /// Takes the next packet, with its data in `buffer`.
    pub(super) fn receive(
        &mut self,
        memory: &GuestMemoryMmap,
        buffer: &mut [u8],
    ) -> Result<Option<Incoming>, RingError> {
        let Some(chain) = self.0.take(memory)? else {
            return Ok(None);
        };
        let head = chain.head_index();
        let incoming = match Spans::new(chain, memory, false) {
            Some(spans) => read_packet(spans, memory, buffer),
            None => Incoming::Nonsense,
        };
        self.0.give_back(memory, head, 0)?;
        Ok(Some(incoming))
    }

    /// Asks for a kick if there is nothing left to receive. True when there is.
    pub(super) fn rearm(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        self.0.rearm(memory)
    }

    /// Interrupts the driver if it wants to know what was received.
    pub(super) fn notify(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
    ) -> Result<(), RingError> {
        self.0.notify(memory, interrupt)
    }

    /// Readable when the driver has sent packets.
    pub(super) fn kick(&self) -> &EventFd {
        &self.0.kick
    }
}

/// The queue of the driver's buffers for packets to it.
#[derive(Debug)]
pub(super) struct RxRing {
    ring: Ring,
    /// Buffers that were taken and not yet filled.
    held: VecDeque<Buffer>,
}

/// A buffer of the driver's for one packet.
#[derive(Debug)]
struct Buffer {
    head: u16,
    spans: Spans,
    /// Room for data behind the header.
    capacity: usize,
}

impl RxRing {
    /// Takes over the rx queue.
    ///
    /// # Errors
    /// When the driver has not set it up.
    pub(super) fn new(
        queue: Option<ActiveQueue>,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Result<Self, RingError> {
        Ok(Self { ring: Ring::new(queue, memory, event_idx)?, held: VecDeque::new() })
    }

    /// Whether a packet can be sent now.
    pub(super) fn has_buffer(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        Ok(!self.held.is_empty() || self.hold_another(memory)?)
    }

    /// How many bytes of data can be sent now, in one or several packets. It need not look for more than `wanted`.
    pub(super) fn capacity(&mut self, memory: &GuestMemoryMmap, wanted: usize) -> Result<usize, RingError> {
        let mut total: usize = self.held.iter().map(|buffer| buffer.capacity).sum();
        while total < wanted && self.held.len() < MAX_HELD_BUFFERS && self.hold_another(memory)? {
            total += self.held.back().map_or(0, |buffer| buffer.capacity);
        }
        Ok(total.min(wanted))
    }

    /// Sends a packet with as much of `data` as fits in one; says how much that was. There must be a buffer.
    pub(super) fn send(
        &mut self,
        memory: &GuestMemoryMmap,
        header: Header,
        data: &[u8],
    ) -> Result<usize, RingError> {
        let Some(Buffer { head, mut spans, capacity }) = self.held.pop_front() else {
            return Ok(0);
        };
        let data = data.get(..capacity).unwrap_or(data);
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let is_written =
            spans.write(memory, &Header { len, ..header }.to_bytes()) && spans.write(memory, data);
        // Memory does not go away: it was there when the buffer was taken.
        let written = if is_written { HEADER_LEN + data.len() } else { 0 };
        self.ring.give_back(memory, head, written)?;
        Ok(data.len())
    }

    /// Asks for a kick if buffers were wanted and there were none. True when there are.
    pub(super) fn rearm(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        // While there are buffers in hand, nothing waits for more.
        if self.held.is_empty() { self.ring.rearm(memory) } else { Ok(false) }
    }

    /// Interrupts the driver if it wants to know what was sent.
    pub(super) fn notify(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
    ) -> Result<(), RingError> {
        self.ring.notify(memory, interrupt)
    }

    /// Readable when the driver has added buffers.
    pub(super) fn kick(&self) -> &EventFd {
        &self.ring.kick
    }

    fn hold_another(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        // Each round takes a chain off a ring that the driver may not refill beyond its size.
        for _ in 0..=self.ring.queue.size() {
            let Some(chain) = self.ring.take(memory)? else {
                return Ok(false);
            };
            let head = chain.head_index();
            let spans = Spans::new(chain, memory, true);
            let buffer = spans.and_then(|spans| {
                spans.len().checked_sub(HEADER_LEN).map(|capacity| Buffer { head, spans, capacity })
            });
            match buffer {
                Some(buffer) => {
                    self.held.push_back(buffer);
                    return Ok(true);
                }
                // Too small for any packet, or not for writing at all.
                None => self.ring.give_back(memory, head, 0)?,
            }
        }
        Ok(false)
    }
}

/// Reads a packet out of a chain.
fn read_packet(mut spans: Spans, memory: &GuestMemoryMmap, buffer: &mut [u8]) -> Incoming {
    let mut bytes = [0; HEADER_LEN];
    if !spans.read(memory, &mut bytes) {
        return Incoming::Nonsense;
    }
    let header = Header::parse(&bytes);
    let data = usize::try_from(header.len).ok().and_then(|len| buffer.get_mut(..len));
    Incoming::Packet { header, is_complete: data.is_some_and(|data| spans.read(memory, data)) }
}

/// The memory of a chain: what is read or written is taken off its front.
#[derive(Debug)]
struct Spans(VecDeque<(GuestAddress, usize)>);

impl Spans {
    /// The chain's buffers, all of which must be in memory and be for the device to write, or all to read.
    fn new(
        chain: DescriptorChain<&GuestMemoryMmap>,
        memory: &GuestMemoryMmap,
        is_writable: bool,
    ) -> Option<Self> {
        let mut spans = VecDeque::with_capacity(2);
        for descriptor in chain.take(MAX_DESCRIPTORS) {
            let len = usize::try_from(descriptor.len()).ok()?;
            if descriptor.is_write_only() != is_writable || !memory.check_range(descriptor.addr(), len) {
                return None;
            }
            spans.push_back((descriptor.addr(), len));
        }
        Some(Self(spans))
    }

    fn len(&self) -> usize {
        self.0.iter().fold(0, |sum: usize, (_, len)| sum.saturating_add(*len))
    }

    /// Fills `bytes`. False when there is not so much.
    fn read(&mut self, memory: &GuestMemoryMmap, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() {
            let Some((address, len)) = self.take(bytes.len()) else {
                return false;
            };
            let Some((part, rest)) = bytes.split_at_mut_checked(len) else {
                return false;
            };
            if memory.read_slice(part, address).is_err() {
                return false;
            }
            bytes = rest;
        }
        true
    }

    /// Writes `bytes`. False when there is no room for so much.
    fn write(&mut self, memory: &GuestMemoryMmap, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some((address, len)) = self.take(bytes.len()) else {
                return false;
            };
            let Some((part, rest)) = bytes.split_at_checked(len) else {
                return false;
            };
            if memory.write_slice(part, address).is_err() {
                return false;
            }
            bytes = rest;
        }
        true
    }

    /// Takes a piece of at most `limit` bytes off the front.
    fn take(&mut self, limit: usize) -> Option<(GuestAddress, usize)> {
        let (address, len) = self.0.pop_front()?;
        if let Some(rest) = len.checked_sub(limit).filter(|rest| *rest > 0) {
            let next = address.checked_add(u64::try_from(limit).ok()?)?;
            self.0.push_front((next, rest));
            return Some((address, limit));
        }
        Some((address, len))
    }
}

#[cfg(test)]
mod tests;
