//! The thread behind the device: takes requests from the queues, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use super::handle::{Change, Changes};
use super::jobs::{Jobs, Waiting};
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, MailboxReceiver, Work};
use crate::fuse::{Answer, Buffers, FuseServer};

/// Tokens of the mailbox, of changes and of jobs among the events; queues have their index.
const MAILBOX: u32 = u32::MAX;
const CHANGES: u32 = u32::MAX - 1;
const JOBS: u32 = u32::MAX - 2;

/// Descriptors of one chain that are looked at: those of the largest request queue. An indirect table could have 65,535.
const MAX_DESCRIPTORS: usize = 1024;

/// Requests of a queue that are served before other events get their turn: a driver that never stops must not keep
/// shares from being changed, or the device from being stopped.
const MAX_AT_ONCE: usize = 512;

/// Serves the device's queues while it is active.
pub(super) struct FsWorker {
    server: FuseServer,
    mailbox: MailboxReceiver,
    changes: Changes,
    jobs: Jobs,
    active: Option<Active>,
    ended: bool,
}

struct Active {
    memory: GuestMemoryMmap,
    queues: Vec<Option<ActiveQueue>>,
    interrupt: Interrupt,
}

impl FsWorker {
    pub(super) fn new(server: FuseServer, mailbox: MailboxReceiver, changes: Changes, jobs: Jobs) -> Self {
        Self { server, mailbox, changes, jobs, active: None, ended: false }
    }

    /// Whether the device is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn start(&mut self, activation: Activation, ops: &mut EventOps) {
        let Activation { memory, queues, interrupt, .. } = activation;
        for (index, queue) in (0..).zip(&queues) {
            let Some(queue) = queue else { continue };
            if let Err(error) = ops.add(Events::with_data(&queue.kick, index, EventSet::IN)) {
                log::error!("shared filesystem: cannot watch queue {index}: {error}");
                return interrupt.needs_reset();
            }
        }
        self.active = Some(Active { memory, queues, interrupt });
    }

    fn stop(&mut self, ops: &mut EventOps) {
        for queue in self.active.take().into_iter().flat_map(|active| active.queues).flatten() {
            let _ = ops.remove(Events::empty(&queue.kick));
        }
        // What is still being done for the guest ends by itself, and is answered no more.
        self.jobs.forget();
        self.server.reset();
    }

    fn change_shares(&mut self) {
        while let Some(change) = self.changes.receive() {
            let (result, done) = match change {
                Change::Add(share, done) => (self.server.add_share(share), done),
                Change::Remove(name, done) => (self.server.remove_share(&name), done),
            };
            let _ = done.send(result);
        }
    }

    fn serve(&mut self, index: u32, ops: &mut EventOps) {
        let Some(active) = &mut self.active else { return };
        if let Err(error) = active.serve(&mut self.server, &mut self.jobs, index) {
            log::warn!("shared filesystem: queue {index} is broken: {error}");
            active.interrupt.needs_reset();
            self.stop(ops);
        }
    }

    fn complete(&mut self, ops: &mut EventOps) {
        while let Some((waiting, result)) = self.jobs.finished() {
            let Some(active) = &mut self.active else { continue };
            let reply = slices(&waiting.reply, &active.memory).unwrap_or_default();
            let written = self.server.complete(waiting.ticket, result, &reply);
            if let Err(error) = active.give_back(waiting.queue, waiting.head, written) {
                log::warn!("shared filesystem: queue {} is broken: {error}", waiting.queue);
                active.interrupt.needs_reset();
                self.stop(ops);
            }
        }
    }
}

impl Active {
    fn queue(&mut self, index: u32) -> Option<&mut ActiveQueue> {
        let index = usize::try_from(index).ok()?;
        self.queues.get_mut(index)?.as_mut()
    }

    /// Serves requests until the driver has no more, or others have to be heard.
    fn serve(
        &mut self,
        server: &mut FuseServer,
        jobs: &mut Jobs,
        index: u32,
    ) -> Result<(), virtio_queue::Error> {
        let memory = self.memory.clone();
        let Some(queue) = self.queue(index) else { return Ok(()) };
        let _ = queue.kick.read();
        let mut served = 0;
        loop {
            let Some(active) = self.queue(index) else { return Ok(()) };
            active.queue.disable_notification(&memory)?;
            // `iter` checks the ring: a driver that announces more buffers than the ring has is broken.
            while let Some(chain) = self.take(index, &memory)? {
                let head = chain.head_index();
                match parts(chain, &memory) {
                    None => self.give_back(index, head, 0)?,
                    Some(parts) => match server.answer(&parts.request, &parts.reply) {
                        Answer::Done(written) => self.give_back(index, head, written)?,
                        Answer::Later(pending) => {
                            let ticket = pending.ticket;
                            jobs.run(Waiting { queue: index, head, ticket, reply: parts.places }, pending);
                        }
                    },
                }
                served += 1;
                if served == MAX_AT_ONCE {
                    self.come_back(index);
                    return Ok(());
                }
            }
            let Some(active) = self.queue(index) else { return Ok(()) };
            if !active.queue.enable_notification(&memory)? {
                return Ok(());
            }
        }
    }

    /// Has the queue served once more after what else there is to do.
    fn come_back(&mut self, index: u32) {
        if let Some(active) = self.queue(index) {
            let _ = active.kick.write(1);
        }
    }

    fn take<'m>(
        &mut self,
        index: u32,
        memory: &'m GuestMemoryMmap,
    ) -> Result<Option<DescriptorChain<&'m GuestMemoryMmap>>, virtio_queue::Error> {
        let Some(active) = self.queue(index) else { return Ok(None) };
        Ok(active.queue.iter(memory)?.next())
    }

    fn give_back(&mut self, index: u32, head: u16, written: usize) -> Result<(), virtio_queue::Error> {
        let (memory, interrupt) = (self.memory.clone(), self.interrupt.clone());
        let Some(active) = self.queue(index) else { return Ok(()) };
        active.queue.add_used(&memory, head, u32::try_from(written).unwrap_or(u32::MAX))?;
        if active.queue.needs_notification(&memory)? {
            interrupt.used_buffer();
        }
        Ok(())
    }
}

/// A chain, taken apart.
struct Parts<'m> {
    /// What the driver has filled in.
    request: Buffers<'m>,
    /// Where the answer goes.
    reply: Buffers<'m>,
    /// The same, to find it again.
    places: Vec<(GuestAddress, usize)>,
}

/// `None` for a chain that leaves the guest's memory, is too long, or has something to read behind something to write
/// (virtio 1.2, 2.7.4.2).
fn parts<'m>(chain: DescriptorChain<&GuestMemoryMmap>, memory: &'m GuestMemoryMmap) -> Option<Parts<'m>> {
    let (mut to_read, mut places) = (Vec::new(), Vec::new());
    for (index, descriptor) in chain.enumerate() {
        let is_reply = descriptor.is_write_only();
        if index >= MAX_DESCRIPTORS || (!is_reply && !places.is_empty()) {
            return None;
        }
        let place = (descriptor.addr(), usize::try_from(descriptor.len()).ok()?);
        if is_reply { places.push(place) } else { to_read.push(place) }
    }
    Some(Parts { request: slices(&to_read, memory)?, reply: slices(&places, memory)?, places })
}

/// Guest memory at these places; `None` where there is none.
fn slices<'m>(places: &[(GuestAddress, usize)], memory: &'m GuestMemoryMmap) -> Option<Buffers<'m>> {
    let mut buffers = Buffers::default();
    for (address, length) in places {
        for slice in memory.get_slices(*address, *length) {
            buffers.push(slice.ok()?);
        }
    }
    Some(buffers)
}

impl MutEventSubscriber for FsWorker {
    fn init(&mut self, ops: &mut EventOps) {
        let added = ops
            .add(Events::with_data(&self.mailbox, MAILBOX, EventSet::IN))
            .and_then(|()| ops.add(Events::with_data(&self.changes, CHANGES, EventSet::IN)))
            .and_then(|()| ops.add(Events::with_data(&self.jobs, JOBS, EventSet::IN)));
        if let Err(error) = added {
            log::error!("shared filesystem: cannot watch the device: {error}");
            self.ended = true;
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            MAILBOX => {}
            CHANGES => return self.change_shares(),
            JOBS => return self.complete(ops),
            queue => return self.serve(queue, ops),
        }
        while let Some(work) = self.mailbox.receive() {
            match work {
                Work::Start(activation) => self.start(activation, ops),
                Work::Stop(done) => {
                    self.stop(ops);
                    drop(done);
                }
                Work::End => self.ended = true,
            }
        }
    }
}
