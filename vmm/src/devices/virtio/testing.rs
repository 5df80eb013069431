//! Plays the driver's side of a virtqueue in tests: a split ring in real guest memory.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Ring size of every test queue.
pub(crate) const SIZE: u16 = 64;
const DESCRIPTORS: u64 = 0x0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x1_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Guest memory that is large enough for [`GuestQueue`]s at multiples of [`GuestQueue::SPAN`].
pub(crate) fn memory(queues: u64) -> GuestMemoryMmap {
    let length = usize::try_from(queues * GuestQueue::SPAN).unwrap();
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)]).unwrap()
}

/// A queue and its buffers, as a driver sees them.
pub(crate) struct GuestQueue {
    memory: GuestMemoryMmap,
    base: u64,
    next_descriptor: u16,
    next_buffer: u64,
    available: u16,
    used: u16,
}

impl GuestQueue {
    /// Bytes of guest memory that a queue and its buffers take.
    pub(crate) const SPAN: u64 = 0x40_0000;

    /// The `index`-th queue in `memory`.
    pub(crate) fn new(memory: &GuestMemoryMmap, index: u64) -> Self {
        let base = index * Self::SPAN;
        let memory = memory.clone();
        Self { memory, base, next_descriptor: 0, next_buffer: base + BUFFERS, available: 0, used: 0 }
    }

    /// The device's view of it, configured and ready.
    pub(crate) fn queue(&self) -> Queue {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_size(SIZE);
        let low = |address: u64| Some(u32::try_from(address).unwrap());
        queue.set_desc_table_address(low(self.base + DESCRIPTORS), Some(0));
        queue.set_avail_ring_address(low(self.base + AVAILABLE), Some(0));
        queue.set_used_ring_address(low(self.base + USED), Some(0));
        queue.set_ready(true);
        assert!(queue.is_valid(&self.memory));
        queue
    }

    /// Makes a chain available: each of `readable` filled in, then room for each of `writable` bytes. Gives the
    /// addresses of the writable buffers.
    pub(crate) fn send(&mut self, readable: &[&[u8]], writable: &[u32]) -> Vec<GuestAddress> {
        let count = readable.len() + writable.len();
        let head = self.next_descriptor;
        let mut rooms = Vec::new();
        let lengths = readable.iter().map(|bytes| (bytes.len().try_into().unwrap(), Some(*bytes)));
        for (index, (length, bytes)) in lengths.chain(writable.iter().map(|room| (*room, None))).enumerate() {
            let address = GuestAddress(self.next_buffer);
            self.next_buffer += u64::from(length).next_multiple_of(16);
            if let Some(bytes) = bytes {
                self.memory.write_slice(bytes, address).unwrap();
            } else {
                rooms.push(address);
            }
            let flags = if index + 1 < count { NEXT } else { 0 } | if bytes.is_none() { WRITE } else { 0 };
            self.descriptor(address.0, length, flags);
        }
        self.offer(head);
        rooms
    }

    /// Writes one descriptor as it is given, right or wrong; `NEXT` leads to the one behind it.
    pub(crate) fn descriptor(&mut self, address: u64, length: u32, flags: u16) {
        let index = self.next_descriptor;
        self.next_descriptor = (index + 1) % SIZE;
        let at = self.base + DESCRIPTORS + 16 * u64::from(index);
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(length, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(self.next_descriptor, GuestAddress(at + 14)).unwrap();
    }

    /// Makes the chain that starts at descriptor `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.available % SIZE);
        let ring = self.base + AVAILABLE;
        self.memory.write_obj(head, GuestAddress(ring + 4 + 2 * slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        fence(Ordering::Release);
        self.set_available(self.available);
    }

    /// Sets the index of the available ring, right or wrong.
    pub(crate) fn set_available(&self, index: u16) {
        self.memory.write_obj(index, GuestAddress(self.base + AVAILABLE + 2)).unwrap();
    }

    /// The next chain that the device has used: its head, and how many bytes were written.
    pub(crate) fn receive(&mut self) -> Option<(u32, u32)> {
        let ring = self.base + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        if index == self.used {
            return None;
        }
        fence(Ordering::Acquire);
        let at = ring + 4 + 8 * u64::from(self.used % SIZE);
        self.used = self.used.wrapping_add(1);
        let head = self.memory.read_obj(GuestAddress(at)).unwrap();
        Some((head, self.memory.read_obj(GuestAddress(at + 4)).unwrap()))
    }

    /// The same, which a thread of the device's has yet to do.
    pub(crate) fn wait(&mut self) -> (u32, u32) {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(used) = self.receive() {
                return used;
            }
            assert!(Instant::now() < give_up, "the device does not answer");
            std::thread::yield_now();
        }
    }

    /// Forgets the addresses of buffers that were used, so that their memory serves again.
    pub(crate) fn recycle(&mut self) {
        self.next_buffer = self.base + BUFFERS;
    }
}
