//! Plays the guest's driver and the host's ports, for the tests of the whole device.
//!
//! The rings lie in real guest memory, which has a hole, and the worker runs on a real event loop. The driver
//! checks for itself what every driver relies on: credit is never exceeded, and packets are well formed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use event_manager::{EventManager, SubscriberOps};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::packet::{HEADER_LEN, Header, Op};
use super::{GUEST_CID, HOST_CID, HostPort, HostPorts, HostStream, Vsock, VsockWorker, vsock};
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, VirtioDevice};

pub(super) const QUEUE_SIZE: u16 = 256;
const REGION: usize = 8 << 20;
const SECOND_REGION: u64 = 16 << 20;
const TX_RING: u64 = 0x1_0000;
const RX_RING: u64 = 0x2_0000;
const TX_BUFFERS: u64 = 0x10_0000;
const TX_SLOT: u64 = 0x1_1000;
const TX_DESCRIPTORS: u16 = 8;
const RX_BUFFERS: u64 = SECOND_REGION;
pub(super) const RX_SLOT: u64 = 4096;

/// A generator of the same numbers in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// What a [`TestPort`] hands out, and what it was told.
#[derive(Debug, Default)]
pub(super) struct PortLog {
    pub(super) streams: VecDeque<HostStream>,
    pub(super) connected: Vec<u32>,
    pub(super) closed: Vec<u32>,
}

/// Accepts as long as there are streams to hand out.
#[derive(Clone, Debug, Default)]
pub(super) struct TestPort(Arc<Mutex<PortLog>>);

impl TestPort {
    pub(super) fn log(&self) -> MutexGuard<'_, PortLog> {
        self.0.lock().unwrap()
    }

    pub(super) fn offer(&self, stream: HostStream) {
        self.log().streams.push_back(stream);
    }
}

impl HostPort for TestPort {
    fn connect(&mut self, guest_port: u32) -> Option<HostStream> {
        let stream = self.log().streams.pop_front()?;
        self.log().connected.push(guest_port);
        Some(stream)
    }

    fn closed(&mut self, guest_port: u32) {
        self.log().closed.push(guest_port);
    }
}

/// How a packet is cut into descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// One descriptor.
    Whole,
    /// Header and data in one each, as Linux does.
    Split,
    /// The data in pages, as Linux does with zero copy, and the header in two.
    Shredded,
}

/// One virtqueue, seen from the driver.
#[derive(Debug)]
pub(super) struct DriverRing {
    base: u64,
    available: u16,
    used: u16,
    pub(super) kick: EventFd,
}

impl DriverRing {
    fn new(base: u64) -> Self {
        Self { base, available: 0, used: 0, kick: EventFd::new(EFD_NONBLOCK).unwrap() }
    }

    fn activate(&self) -> ActiveQueue {
        let mut queue = Queue::new(QUEUE_SIZE).unwrap();
        let low = |address: u64| Some(u32::try_from(address).unwrap());
        queue.set_desc_table_address(low(self.base), None);
        queue.set_avail_ring_address(low(self.base + 0x2000), None);
        queue.set_used_ring_address(low(self.base + 0x4000), None);
        queue.set_ready(true);
        ActiveQueue { queue, kick: self.kick.try_clone().unwrap() }
    }

    pub(super) fn describe(
        &self,
        memory: &GuestMemoryMmap,
        index: u16,
        (address, len): (u64, u32),
        flags: u32,
    ) {
        let at = GuestAddress(self.base + u64::from(index) * 16);
        memory.write_obj(address, at).unwrap();
        memory.write_obj(len, GuestAddress(at.0 + 8)).unwrap();
        memory.write_obj(u16::try_from(flags).unwrap(), GuestAddress(at.0 + 12)).unwrap();
        memory.write_obj((index + 1) % QUEUE_SIZE, GuestAddress(at.0 + 14)).unwrap();
    }

    pub(super) fn publish(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let slot = u64::from(self.available % QUEUE_SIZE);
        memory.write_obj(head, GuestAddress(self.base + 0x2004 + slot * 2)).unwrap();
        self.set_available(memory, self.available.wrapping_add(1));
    }

    pub(super) fn set_available(&mut self, memory: &GuestMemoryMmap, index: u16) {
        self.available = index;
        memory.write_obj(index, GuestAddress(self.base + 0x2002)).unwrap();
    }

    pub(super) fn take_used(&mut self, memory: &GuestMemoryMmap) -> Option<(u16, usize)> {
        let index: u16 = memory.read_obj(GuestAddress(self.base + 0x4002)).unwrap();
        if index == self.used {
            return None;
        }
        let at = self.base + 0x4004 + u64::from(self.used % QUEUE_SIZE) * 8;
        self.used = self.used.wrapping_add(1);
        let head: u32 = memory.read_obj(GuestAddress(at)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        // Asks for an interrupt at the next used buffer (used_event).
        let used_event = GuestAddress(self.base + 0x2004 + u64::from(QUEUE_SIZE) * 2);
        memory.write_obj(self.used, used_event).unwrap();
        Some((u16::try_from(head).unwrap(), usize::try_from(len).unwrap()))
    }
}

/// The guest's driver, and the event loop that serves its device.
pub(super) struct Driver {
    pub(super) memory: GuestMemoryMmap,
    pub(super) device: Vsock,
    pub(super) ports: HostPorts,
    pub(super) manager: EventManager<VsockWorker>,
    pub(super) rx: DriverRing,
    pub(super) tx: DriverRing,
    pub(super) interrupt: Interrupt,
    pub(super) layout: Layout,
    pub(super) wake_ups: usize,
    free_slots: Vec<u16>,
}

impl Driver {
    /// A driver with `rx_buffers` buffers for packets, talking to a device with `ports`.
    pub(super) fn new(ports: Vec<(u32, Box<dyn HostPort>)>, rx_buffers: u16) -> Self {
        let ports = HostPorts::new(ports).unwrap();
        let (device, worker) = vsock(ports.clone()).unwrap();
        let mut manager = EventManager::new().unwrap();
        manager.add_subscriber(worker);
        let ranges = [(GuestAddress(0), REGION), (GuestAddress(SECOND_REGION), REGION)];
        let mut driver = Self {
            memory: GuestMemoryMmap::from_ranges(&ranges).unwrap(),
            device,
            ports,
            manager,
            rx: DriverRing::new(RX_RING),
            tx: DriverRing::new(TX_RING),
            interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
            layout: Layout::Split,
            wake_ups: 0,
            free_slots: Vec::new(),
        };
        driver.activate(rx_buffers);
        driver
    }

    /// A device with one port, 1024.
    pub(super) fn with_port(port: &TestPort, rx_buffers: u16) -> Self {
        Self::new(vec![(1024, Box::new(port.clone()))], rx_buffers)
    }

    /// Sets the device up from scratch.
    pub(super) fn activate(&mut self, rx_buffers: u16) {
        self.prepare(rx_buffers);
        let activation = self.activation_of_rings();
        self.device.activate(activation);
        self.run();
    }

    /// What the device would be given, with rings that are set up anew.
    pub(super) fn activation(&mut self) -> Activation {
        self.prepare(64);
        self.activation_of_rings()
    }

    fn activation_of_rings(&self) -> Activation {
        Activation {
            memory: self.memory.clone(),
            queues: vec![Some(self.rx.activate()), Some(self.tx.activate()), None],
            features: self.device.features(),
            interrupt: self.interrupt.clone(),
        }
    }

    fn prepare(&mut self, rx_buffers: u16) {
        self.interrupt.clear();
        self.interrupts();
        for ring in [&mut self.rx, &mut self.tx] {
            self.memory.write_slice(&[0; 0x5000], GuestAddress(ring.base)).unwrap();
            *ring = DriverRing::new(ring.base);
        }
        self.free_slots = (0..QUEUE_SIZE / TX_DESCRIPTORS).collect();
        for index in 0..rx_buffers {
            self.add_rx_buffer(index);
        }
    }

    /// Resets the device, which needs the event loop to run meanwhile.
    pub(super) fn reset(&mut self) {
        let Self { device, manager, .. } = self;
        std::thread::scope(|scope| {
            let reset = scope.spawn(|| device.reset());
            while !reset.is_finished() {
                manager.run_with_timeout(10).unwrap();
            }
        });
    }

    /// Lets the device work until it has nothing left to do.
    pub(super) fn run(&mut self) {
        let limit = self.wake_ups + 10_000;
        while self.manager.run_with_timeout(0).unwrap() > 0 {
            self.wake_ups += 1;
            assert!(self.wake_ups < limit, "the device does not come to rest");
        }
    }

    /// The device's only announcement: the count of interrupts since last asked.
    pub(super) fn interrupts(&self) -> u64 {
        self.interrupt.line().read().unwrap_or(0)
    }

    pub(super) fn add_rx_buffer(&mut self, index: u16) {
        let address = RX_BUFFERS + u64::from(index) * RX_SLOT;
        self.rx.describe(&self.memory, index, (address, u32::try_from(RX_SLOT).unwrap()), VRING_DESC_F_WRITE);
        self.rx.publish(&self.memory, index);
        self.rx.kick.write(1).unwrap();
    }

    /// Puts a packet into the tx queue. False when the queue is full.
    pub(super) fn post(&mut self, header: Header, data: &[u8]) -> bool {
        while let Some((head, _)) = self.tx.take_used(&self.memory) {
            self.free_slots.push(head / TX_DESCRIPTORS);
        }
        let Some(slot) = self.free_slots.pop() else {
            return false;
        };
        let address = TX_BUFFERS + u64::from(slot) * TX_SLOT;
        self.memory.write_slice(&header.to_bytes(), GuestAddress(address)).unwrap();
        self.memory.write_slice(data, GuestAddress(address + 44)).unwrap();
        let cuts = match self.layout {
            Layout::Whole => vec![],
            Layout::Split => vec![HEADER_LEN],
            Layout::Shredded => vec![7, HEADER_LEN, HEADER_LEN + 1, 1000, 1000, 10_000, 40_000],
        };
        let total = HEADER_LEN + data.len();
        let mut start = 0;
        let first = slot * TX_DESCRIPTORS;
        let ends = cuts.into_iter().filter(|end| *end < total).chain([total]);
        for (index, end) in (first..).zip(ends) {
            let piece = (address + start as u64, u32::try_from(end - start).unwrap());
            self.tx.describe(&self.memory, index, piece, if end < total { VRING_DESC_F_NEXT } else { 0 });
            start = end;
        }
        self.tx.publish(&self.memory, first);
        self.tx.kick.write(1).unwrap();
        true
    }

    /// Sends a packet and lets the device work.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        assert!(self.post(Header { len: u32::try_from(data.len()).unwrap(), ..header }, data), "tx is full");
        self.run();
    }

    /// Takes a packet, and gives its buffer back to the device.
    pub(super) fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, header, data) = self.take_packet()?;
        self.add_rx_buffer(head);
        Some((header, data))
    }

    /// Takes a packet, and keeps its buffer.
    pub(super) fn receive_without_refill(&mut self) -> Option<(Header, Vec<u8>)> {
        self.take_packet().map(|(_, header, data)| (header, data))
    }

    fn take_packet(&mut self) -> Option<(u16, Header, Vec<u8>)> {
        let (head, len) = self.rx.take_used(&self.memory)?;
        let mut bytes = vec![0; len];
        let address = GuestAddress(RX_BUFFERS + u64::from(head) * RX_SLOT);
        self.memory.read_slice(&mut bytes, address).unwrap();
        let data = bytes.split_off(HEADER_LEN);
        let header = Header::parse(bytes.as_slice().try_into().unwrap());
        assert_eq!(header.len as usize, data.len());
        assert_eq!(header.dst_cid, GUEST_CID);
        Some((head, header, data))
    }

    /// Takes all packets.
    pub(super) fn receive_all(&mut self) -> Vec<Header> {
        std::iter::from_fn(|| self.receive()).map(|(header, _)| header).collect()
    }

    /// The ops and flags of all packets that have come.
    pub(super) fn ops(&mut self) -> Vec<(Op, u32)> {
        self.receive_all().into_iter().map(|header| (header.op, header.flags)).collect()
    }
}

/// A stream socket of the guest's.
#[derive(Debug)]
pub(super) struct Socket {
    guest_port: u32,
    host_port: u32,
    pub(super) buf_alloc: u32,
    sent: u32,
    received: u32,
    /// Data that has come, and that the guest's program has not read.
    pub(super) unread: VecDeque<u8>,
    peer_buf_alloc: u32,
    peer_forwarded: u32,
    pub(super) shutdown: u32,
    pub(super) is_reset: bool,
    pub(super) is_connected: bool,
}

impl Socket {
    /// Asks for a connection to port 1024, and takes the answer.
    pub(super) fn connect(driver: &mut Driver, guest_port: u32, buf_alloc: u32) -> Self {
        let mut socket = Self {
            guest_port,
            host_port: 1024,
            buf_alloc,
            sent: 0,
            received: 0,
            unread: VecDeque::new(),
            peer_buf_alloc: 0,
            peer_forwarded: 0,
            shutdown: 0,
            is_reset: false,
            is_connected: false,
        };
        driver.send(socket.packet(Op::Request), &[]);
        socket.take(driver);
        socket
    }

    /// A packet of this socket's, with its credit.
    pub(super) fn packet(&self, op: Op) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: self.guest_port,
            dst_port: self.host_port,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.received.wrapping_sub(u32::try_from(self.unread.len()).unwrap()),
            ..Header::to_guest(self.guest_port, self.host_port, op)
        }
    }

    /// Takes all packets that have come; they must be for this socket.
    pub(super) fn take(&mut self, driver: &mut Driver) {
        while let Some((header, data)) = driver.receive() {
            assert_eq!((header.src_port, header.dst_port), (self.host_port, self.guest_port));
            self.apply(&header, &data);
        }
    }

    fn apply(&mut self, header: &Header, data: &[u8]) {
        assert!(!self.is_reset, "{header:?} after RST");
        if header.op != Op::Rst {
            self.peer_buf_alloc = header.buf_alloc;
            self.peer_forwarded = header.fwd_cnt;
            assert!(self.peer_forwarded.wrapping_sub(self.sent).cast_signed() <= 0, "forwarded before sent");
        }
        match header.op {
            Op::Response => {
                assert!(!self.is_connected, "a second response");
                self.is_connected = true;
            }
            Op::Rw => {
                assert!(self.is_connected && self.shutdown & 2 == 0, "data outside of the connection");
                self.received = self.received.wrapping_add(header.len);
                self.unread.extend(data);
                assert!(self.unread.len() <= self.buf_alloc as usize, "the device has exceeded our credit");
            }
            Op::Shutdown => {
                assert_eq!(self.shutdown & header.flags, 0, "told twice");
                self.shutdown |= header.flags;
            }
            Op::Rst => self.is_reset = true,
            Op::CreditUpdate | Op::CreditRequest => {}
            Op::Request | Op::Unknown(_) => panic!("{header:?}"),
        }
    }

    /// How much may be sent now.
    pub(super) fn credit(&self) -> usize {
        (self.peer_buf_alloc - self.sent.wrapping_sub(self.peer_forwarded)) as usize
    }

    /// Sends as much of `data` as there is credit for; says how much.
    pub(super) fn write(&mut self, driver: &mut Driver, data: &[u8]) -> usize {
        let data = &data[..data.len().min(self.credit())];
        if !data.is_empty() {
            self.sent = self.sent.wrapping_add(u32::try_from(data.len()).unwrap());
            driver.send(self.packet(Op::Rw), data);
        }
        self.take(driver);
        data.len()
    }

    /// Reads at most `count` bytes, and tells the device that there is room again.
    pub(super) fn read(&mut self, driver: &mut Driver, count: usize) -> Vec<u8> {
        self.take(driver);
        let count = count.min(self.unread.len());
        let data = self.unread.drain(..count).collect();
        if count > 0 && !self.is_reset {
            driver.send(self.packet(Op::CreditUpdate), &[]);
            self.take(driver);
        }
        data
    }

    /// Closes directions: 1 receive, 2 send, 3 both.
    pub(super) fn shut_down(&mut self, driver: &mut Driver, flags: u32) {
        driver.send(Header { flags, ..self.packet(Op::Shutdown) }, &[]);
        self.take(driver);
    }
}
