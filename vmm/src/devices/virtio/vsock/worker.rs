//! The thread's side of the device: serves the queues and the host's descriptors on the machine's event loop.
//!
//! All that the worker waits for is in an epoll set of its own, of which the event loop sees one descriptor:
//! the mailbox, the queues' kicks and the host's descriptors. The latter two are edge-triggered and never need
//! another call to be watched or left alone. Work per wake-up is bounded, and what is left over is announced
//! to itself, so that neither other subscribers nor other connections wait for one that is busy.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::HostPorts;
use super::connection::BUF_ALLOC;
use super::endpoint::Transfer;
use super::muxer::Muxer;
use super::ring::{Incoming, RingError, RxRing, TxRing};
use crate::devices::virtio::{Activation, Interrupt, MailboxReceiver, Work};

/// The device's queues (5.10.2), in this order: rx, tx, and event, which is not used.
const RX_QUEUE: usize = 0;
const TX_QUEUE: usize = 1;

/// Tokens of the epoll set; the others belong to streams.
const MAILBOX_TOKEN: u64 = 0;
const RX_TOKEN: u64 = 1;
const TX_TOKEN: u64 = 2;
const LEFTOVERS_TOKEN: u64 = 3;
const REMOVALS_TOKEN: u64 = 4;

/// Events that are taken from the epoll set at a time.
const EVENTS_PER_WAKE_UP: usize = 64;
/// Rounds over all that there is to do, per wake-up.
const TURNS_PER_WAKE_UP: usize = 16;
/// Packets that are received per round.
const PACKETS_PER_TURN: usize = 32;

/// Serves the vsock device.
#[derive(Debug)]
pub struct VsockWorker {
    mailbox: MailboxReceiver,
    epoll: Arc<Epoll>,
    /// Written when a wake-up has left work over.
    leftovers: EventFd,
    muxer: Muxer,
    /// Absent while the driver is not ready.
    guest: Option<Guest>,
    events: Vec<EpollEvent>,
    /// Data on its way in either direction.
    scratch: Vec<u8>,
    /// A broken driver has been logged. Once is enough: a guest can break, reset and break again forever.
    has_complained: bool,
}

/// What the device has of the guest while the driver is ready.
#[derive(Debug)]
struct Guest {
    memory: GuestMemoryMmap,
    rx: RxRing,
    tx: TxRing,
    interrupt: Interrupt,
}

impl VsockWorker {
    pub(super) fn new(ports: HostPorts, mailbox: MailboxReceiver) -> std::io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        let leftovers = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let scratch = vec![0; usize::try_from(BUF_ALLOC).unwrap_or_default()];
        let events = vec![EpollEvent::default(); EVENTS_PER_WAKE_UP];
        let removals = ports.changed().as_raw_fd();
        let muxer = Muxer::new(ports, Arc::clone(&epoll));
        let worker =
            Self { mailbox, epoll, leftovers, muxer, guest: None, events, scratch, has_complained: false };
        worker.watch(worker.mailbox.as_raw_fd(), EventSet::IN, MAILBOX_TOKEN)?;
        // An eventfd that is edge-triggered need not be read: each write is an edge.
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        worker.watch(worker.leftovers.as_raw_fd(), edge, LEFTOVERS_TOKEN)?;
        worker.watch(removals, edge, REMOVALS_TOKEN)?;
        Ok(worker)
    }

    fn watch(&self, fd: RawFd, events: EventSet, token: u64) -> std::io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
    }

    /// Does what there is to do now, or a bounded part of it.
    pub(super) fn wake_up(&mut self) {
        // On an error, which can only be an interruption, the set stays readable.
        let count = self.epoll.wait(0, &mut self.events).unwrap_or(0);
        let mut has_mail = false;
        for event in self.events.iter().take(count) {
            match event.data() {
                MAILBOX_TOKEN => has_mail = true,
                REMOVALS_TOKEN => self.muxer.end_removed(),
                // That we are here is all that these have to say.
                RX_TOKEN | TX_TOKEN | LEFTOVERS_TOKEN => {}
                token => self.muxer.set_ready(token),
            }
        }
        if has_mail {
            self.read_mail();
        }
        self.serve();
    }

    fn read_mail(&mut self) {
        // A stop lets the vCPU go on when it is dropped, which is after it was heeded.
        while let Some(work) = self.mailbox.receive() {
            match work {
                Work::Start(activation) => self.start(activation),
                Work::Stop(_) | Work::End => self.release_guest(),
            }
        }
    }

    fn start(&mut self, activation: Activation) {
        let interrupt = activation.interrupt.clone();
        let guest = Guest::new(activation);
        let watched = guest.map_err(|error| error.to_string()).and_then(|guest| {
            let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
            self.watch(guest.rx.kick().as_raw_fd(), edge, RX_TOKEN)
                .and_then(|()| self.watch(guest.tx.kick().as_raw_fd(), edge, TX_TOKEN))
                .map_err(|error| error.to_string())?;
            Ok(guest)
        });
        match watched {
            Ok(guest) => self.guest = Some(guest),
            Err(error) => {
                self.complain(&error);
                interrupt.needs_reset();
            }
        }
    }

    fn complain(&mut self, error: &str) {
        if !std::mem::replace(&mut self.has_complained, true) {
            log::warn!("the guest's vsock driver must reset its device: {error}");
        }
    }

    /// Lets go of the driver's queues; connections end.
    fn release_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            for kick in [guest.rx.kick(), guest.tx.kick()] {
                // The transport has the same eventfd, so closing ours would not end the watch.
                let _ = self.epoll.ctl(ControlOperation::Delete, kick.as_raw_fd(), EpollEvent::default());
            }
        }
        self.muxer.sever_all();
    }

    fn serve(&mut self) {
        for _ in 0..TURNS_PER_WAKE_UP {
            let has_progressed = match &mut self.guest {
                None => flush_all(&mut self.muxer),
                Some(guest) => match guest.take_turn(&mut self.muxer, &mut self.scratch) {
                    Ok(has_progressed) => has_progressed,
                    Err(error) => {
                        guest.interrupt.needs_reset();
                        self.complain(&error.to_string());
                        self.release_guest();
                        true
                    }
                },
            };
            if !has_progressed {
                return;
            }
        }
        // The counter cannot be full of as many wake-ups as fit in 64 bits.
        let _ = self.leftovers.write(1);
    }
}

impl MutEventSubscriber for VsockWorker {
    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        self.wake_up();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&*self.epoll, EventSet::IN)) {
            log::error!("cannot serve the vsock device: {error}");
        }
    }
}

impl Guest {
    fn new(activation: Activation) -> Result<Self, RingError> {
        let Activation { memory, mut queues, features, interrupt } = activation;
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut queue = |index| queues.get_mut(index).and_then(Option::take);
        let rx = RxRing::new(queue(RX_QUEUE), &memory, event_idx)?;
        let tx = TxRing::new(queue(TX_QUEUE), &memory, event_idx)?;
        Ok(Self { memory, rx, tx, interrupt })
    }

    /// One round over all that there may be to do. False when there was nothing.
    fn take_turn(&mut self, muxer: &mut Muxer, scratch: &mut [u8]) -> Result<bool, RingError> {
        let mut has_progressed = self.receive(muxer, scratch)?;
        while muxer.owes_reset() && self.rx.has_buffer(&self.memory)? {
            if let Some(reset) = muxer.take_reset() {
                self.rx.send(&self.memory, reset, &[])?;
            }
            has_progressed = true;
        }
        for id in muxer.rotation() {
            has_progressed |= muxer.flush(id);
            has_progressed |= self.send(muxer, id, scratch)?;
        }
        self.tx.notify(&self.memory, &self.interrupt)?;
        self.rx.notify(&self.memory, &self.interrupt)?;
        // Only when there is nothing to do are kicks worth having.
        Ok(has_progressed || self.tx.rearm(&self.memory)? || self.rx.rearm(&self.memory)?)
    }

    /// Receives packets of the driver's.
    fn receive(&mut self, muxer: &mut Muxer, scratch: &mut [u8]) -> Result<bool, RingError> {
        for received in 0..PACKETS_PER_TURN {
            // Without room the queue is left alone; it is looked at again when the driver has taken packets.
            if !muxer.has_room() {
                return Ok(received > 0);
            }
            match self.tx.receive(&self.memory, scratch)? {
                None => return Ok(received > 0),
                Some(Incoming::Nonsense) => {}
                Some(Incoming::Packet { header, is_complete }) => {
                    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
                    muxer.receive(&header, scratch.get(..len).filter(|_| is_complete));
                }
            }
        }
        Ok(true)
    }

    /// Sends what one stream has for the driver.
    fn send(&mut self, muxer: &mut Muxer, id: u32, scratch: &mut [u8]) -> Result<bool, RingError> {
        let mut has_progressed = false;
        // This comes first: it may make the stream owe the guest a request for credit.
        let readable = muxer.readable(id).min(scratch.len());
        while muxer.owes_control(id) && self.rx.has_buffer(&self.memory)? {
            if let Some(packet) = muxer.take_control(id) {
                self.rx.send(&self.memory, packet, &[])?;
            }
            has_progressed = true;
        }
        if readable == 0 {
            return Ok(has_progressed);
        }
        // What is read can be sent: nothing is ever left in our hands.
        let capacity = self.rx.capacity(&self.memory, readable)?;
        let Some(buffer) = scratch.get_mut(..capacity).filter(|buffer| !buffer.is_empty()) else {
            return Ok(has_progressed);
        };
        match muxer.read(id, buffer) {
            Transfer::NotNow => Ok(has_progressed),
            Transfer::Ended => Ok(true),
            Transfer::Done(count) => {
                let mut rest = buffer.get(..count).unwrap_or_default();
                while !rest.is_empty() && self.rx.has_buffer(&self.memory)? {
                    let Some(header) = muxer.data_packet(id) else {
                        break;
                    };
                    let sent = self.rx.send(&self.memory, header, rest)?;
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Ok(true)
            }
        }
    }
}

/// Writes what is left of connections that have no guest any more.
fn flush_all(muxer: &mut Muxer) -> bool {
    let mut has_progressed = false;
    for id in muxer.rotation() {
        has_progressed |= muxer.flush(id);
    }
    has_progressed
}

#[cfg(test)]
mod tests;
