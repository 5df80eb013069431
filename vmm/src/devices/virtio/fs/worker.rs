//! The thread behind the device: takes requests from the queues, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{GuestMemory, GuestMemoryMmap};

use super::handle::{Change, Changes};
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, MailboxReceiver, Work};
use crate::fuse::{Buffers, FuseServer};

/// Tokens of the mailbox and of changes among the events; queues have their index.
const MAILBOX: u32 = u32::MAX;
const CHANGES: u32 = u32::MAX - 1;

/// Descriptors of one chain that are looked at: those of the largest request queue. An indirect table could have 65,535.
const MAX_DESCRIPTORS: usize = 1024;

/// Serves the device's queues while it is active.
pub(super) struct FsWorker {
    server: FuseServer,
    mailbox: MailboxReceiver,
    changes: Changes,
    active: Option<Active>,
    ended: bool,
}

struct Active {
    memory: GuestMemoryMmap,
    queues: Vec<Option<ActiveQueue>>,
    interrupt: Interrupt,
}

impl FsWorker {
    pub(super) fn new(server: FuseServer, mailbox: MailboxReceiver, changes: Changes) -> Self {
        Self { server, mailbox, changes, active: None, ended: false }
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
        let queue = usize::try_from(index).ok().and_then(|index| active.queues.get_mut(index));
        let Some(Some(queue)) = queue else { return };
        let _ = queue.kick.read();
        if let Err(error) = serve_queue(&mut self.server, queue, &active.memory, &active.interrupt) {
            log::warn!("shared filesystem: queue {index} is broken: {error}");
            active.interrupt.needs_reset();
            self.stop(ops);
        }
    }
}

/// Serves requests until the driver has no more.
fn serve_queue(
    server: &mut FuseServer,
    active: &mut ActiveQueue,
    memory: &GuestMemoryMmap,
    interrupt: &Interrupt,
) -> Result<(), virtio_queue::Error> {
    let queue = &mut active.queue;
    loop {
        queue.disable_notification(memory)?;
        // `iter` checks the ring: a driver that announces more buffers than the ring has is broken.
        while let Some(chain) = queue.iter(memory)?.next() {
            let head = chain.head_index();
            let written = answer(server, chain, memory);
            queue.add_used(memory, head, written)?;
            if queue.needs_notification(memory)? {
                interrupt.used_buffer();
            }
        }
        if !queue.enable_notification(memory)? {
            return Ok(());
        }
    }
}

/// Answers one request; gives the number of bytes written to its buffers.
fn answer(
    server: &mut FuseServer,
    chain: DescriptorChain<&GuestMemoryMmap>,
    memory: &GuestMemoryMmap,
) -> u32 {
    let Some((request, reply)) = buffers(chain, memory) else { return 0 };
    u32::try_from(server.answer(&request, &reply)).unwrap_or(u32::MAX)
}

/// What the driver has filled in, and where the answer goes. `None` for a chain that leaves the guest's memory, is too
/// long, or has something to read behind something to write (virtio 1.2, 2.7.4.2).
fn buffers<'m>(
    chain: DescriptorChain<&GuestMemoryMmap>,
    memory: &'m GuestMemoryMmap,
) -> Option<(Buffers<'m>, Buffers<'m>)> {
    let (mut request, mut reply) = (Buffers::default(), Buffers::default());
    for (index, descriptor) in chain.enumerate() {
        let is_reply = descriptor.is_write_only();
        if index >= MAX_DESCRIPTORS || (!is_reply && reply.len() > 0) {
            return None;
        }
        let buffers = if is_reply { &mut reply } else { &mut request };
        let length = usize::try_from(descriptor.len()).ok()?;
        for slice in memory.get_slices(descriptor.addr(), length) {
            buffers.push(slice.ok()?);
        }
    }
    Some((request, reply))
}

impl MutEventSubscriber for FsWorker {
    fn init(&mut self, ops: &mut EventOps) {
        let added = ops
            .add(Events::with_data(&self.mailbox, MAILBOX, EventSet::IN))
            .and_then(|()| ops.add(Events::with_data(&self.changes, CHANGES, EventSet::IN)));
        if let Err(error) = added {
            log::error!("shared filesystem: cannot watch the device: {error}");
            self.ended = true;
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            MAILBOX => {}
            CHANGES => return self.change_shares(),
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
