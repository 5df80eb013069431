//! The register file of a virtio-mmio device (virtio 1.2, 4.2.2), and the only code that knows its offsets.
//!
//! What a driver may write, and when, is enforced here: features until `FEATURES_OK`, queue registers between
//! `FEATURES_OK` and `DRIVER_OK` and only while the queue is not ready, everything else never. Writes out of turn,
//! of a wrong size or to a wrong place have no effect.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::{Activation, ActiveQueue, Interrupt, VirtioDevice};
use crate::devices::{BusDevice, Outcome};

/// Offset of the register by which a driver notifies the device of new buffers.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = 0x7472_6976; // "virt"
const VERSION: u32 = 2;
const VENDOR: u32 = 0x4544_5250; // "PRDE"
const CONFIG_SPACE: u64 = 0x100;
const FEATURE_VERSION_1: u64 = 1 << 32;

/// Device status bits (virtio 1.2, 2.1).
pub(super) mod status {
    pub(crate) const ACKNOWLEDGE: u32 = 1;
    pub(crate) const DRIVER: u32 = 2;
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const NEEDS_RESET: u32 = 64;
    pub(crate) const FAILED: u32 = 128;
}

/// A virtio device on the MMIO bus.
pub struct MmioTransport {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemoryMmap,
    interrupt: Interrupt,
    queues: Vec<QueueSlot>,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
}

/// A queue while the transport holds it, and what outlives its activation.
struct QueueSlot {
    queue: Option<Queue>,
    kick: EventFd,
    max_size: u16,
}

impl std::fmt::Debug for MmioTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MmioTransport")
            .field("device_type", &self.device.device_type())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl MmioTransport {
    /// Registers for `device`. `kicks` are the eventfds of its queues, in order: KVM signals them when the driver
    /// notifies the queue. A queue whose size is not a power of two does not exist for the driver.
    #[must_use]
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemoryMmap,
        interrupt: Interrupt,
        kicks: Vec<EventFd>,
    ) -> Self {
        let queues = device
            .queue_sizes()
            .iter()
            .zip(kicks)
            .map(|(&max_size, kick)| QueueSlot { queue: Queue::new(max_size).ok(), kick, max_size })
            .collect();
        Self {
            device,
            memory,
            interrupt,
            queues,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
        }
    }

    fn offered_features(&self) -> u64 {
        self.device.features() | FEATURE_VERSION_1
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device.device_type(),
            0x00c => VENDOR,
            0x010 => half(self.offered_features(), self.device_features_select),
            0x034 => self.selected_slot().map_or(0, |slot| slot.max_size.into()),
            0x044 => self.selected_slot().map_or(0, |slot| match &slot.queue {
                Some(queue) => queue.ready().into(),
                None => 1, // it serves: it was ready when it was handed over
            }),
            0x060 => self.interrupt.status(),
            0x070 if self.interrupt.is_reset_needed() => self.status | status::NEEDS_RESET,
            0x070 => self.status,
            0x0b0..=0x0bc => u32::MAX, // no shared memory regions: SHMLen is -1
            _ => 0,                    // ConfigGeneration among them: the configuration never changes
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match offset {
            0x014 => self.device_features_select = value,
            0x020 => self.set_driver_features(value),
            0x024 => self.driver_features_select = value,
            0x030 => self.queue_select = value,
            QUEUE_NOTIFY => self.notify(value),
            0x064 => self.interrupt.acknowledge(value),
            0x070 => self.set_status(value),
            _ => self.write_queue_register(offset, value),
        }
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status & (status::DRIVER | status::FEATURES_OK) != status::DRIVER {
            return;
        }
        let value = u64::from(value);
        self.driver_features = match self.driver_features_select {
            0 => (self.driver_features & !0xffff_ffff) | value,
            1 => (self.driver_features & 0xffff_ffff) | (value << 32),
            _ => self.driver_features,
        };
    }

    /// KVM takes most notifications itself (ioeventfd); this is for those that reach user space.
    fn notify(&self, queue: u32) {
        let slot = usize::try_from(queue).ok().and_then(|queue| self.queues.get(queue));
        if let Some(slot) = slot.filter(|_| self.status & status::DRIVER_OK != 0) {
            let _ = slot.kick.write(1);
        }
    }

    fn write_queue_register(&mut self, offset: u64, value: u32) {
        let configuring = self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let Some(queue) = self.selected_queue_mut().filter(|_| configuring) else { return };
        if offset == 0x044 {
            return queue.set_ready(value == 1);
        }
        if queue.ready() {
            return;
        }
        match offset {
            0x038 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x080 => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            0x090 => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            0x0a0 => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    /// The driver moves through its initialisation (virtio 1.2, 3.1.1). It can set bits one after another, and
    /// clear them only by a reset.
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        if value & self.status != self.status {
            return;
        }
        let set = value & !self.status;
        let before = |bits: u32| self.status & bits == bits;
        match set {
            status::ACKNOWLEDGE if self.status == 0 => self.status = value,
            status::DRIVER if before(status::ACKNOWLEDGE) => self.status = value,
            status::FEATURES_OK if before(status::DRIVER) => {
                let offered = self.offered_features();
                let valid =
                    self.driver_features & !offered == 0 && self.driver_features & FEATURE_VERSION_1 != 0;
                if valid {
                    self.status = value;
                }
            }
            status::DRIVER_OK if before(status::FEATURES_OK) => {
                self.status = value;
                self.activate();
            }
            _ if set & status::FAILED != 0 => self.status |= status::FAILED,
            _ => {}
        }
    }

    fn activate(&mut self) {
        let event_idx =
            self.driver_features & (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut queues = Vec::with_capacity(self.queues.len());
        for slot in &mut self.queues {
            let ready = slot.queue.take_if(|queue| queue.ready());
            let Some(mut queue) = ready else {
                queues.push(None);
                continue;
            };
            queue.set_event_idx(event_idx);
            let (true, Ok(kick)) = (queue.is_valid(&self.memory), slot.kick.try_clone()) else {
                return self.interrupt.needs_reset();
            };
            queues.push(Some(ActiveQueue { queue, kick }));
        }
        self.device.activate(Activation {
            memory: self.memory.clone(),
            queues,
            features: self.driver_features,
            interrupt: self.interrupt.clone(),
        });
    }

    fn reset(&mut self) {
        if self.status & status::DRIVER_OK != 0 {
            self.device.reset();
        }
        self.interrupt.clear();
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        for slot in &mut self.queues {
            slot.queue = Queue::new(slot.max_size).ok();
            let _ = slot.kick.read();
        }
    }

    fn selected_slot(&self) -> Option<&QueueSlot> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn selected_queue_mut(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(self.queue_select).ok()?)?.queue.as_mut()
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(at) = offset.checked_sub(CONFIG_SPACE) {
            let config =
                usize::try_from(at).ok().and_then(|at| self.device.config().get(at..)).unwrap_or(&[]);
            data.fill(0);
            for (to, from) in data.iter_mut().zip(config) {
                *to = *from;
            }
        } else if let (true, Ok(data)) = (offset.is_multiple_of(4), <&mut [u8; 4]>::try_from(data)) {
            *data = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Outcome {
        if let (true, Ok(data)) = (offset < CONFIG_SPACE && offset.is_multiple_of(4), data.try_into()) {
            self.write_register(offset, u32::from_le_bytes(data));
        }
        Outcome::Continue
    }
}

/// The low (0) or high (1) half of feature bits; no device has more than 64.
fn half(features: u64, select: u32) -> u32 {
    let bytes = features.to_le_bytes();
    let part = match select {
        0 => bytes.first_chunk(),
        1 => bytes.last_chunk(),
        _ => None,
    };
    part.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "mmio_test.rs"]
mod tests;
