//! The thread behind the device: takes requests from the queue, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::disk::Disk;
use super::request;
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, MailboxReceiver, Work};

const MAILBOX: u32 = 0;
const QUEUE: u32 = 1;

/// Serves the device's queue while it is active.
#[derive(Debug)]
pub(super) struct BlockWorker {
    disk: Disk,
    mailbox: MailboxReceiver,
    active: Option<Active>,
    ended: bool,
}

#[derive(Debug)]
struct Active {
    memory: GuestMemoryMmap,
    queue: ActiveQueue,
    interrupt: Interrupt,
}

impl BlockWorker {
    pub(super) fn new(disk: Disk, mailbox: MailboxReceiver) -> Self {
        Self { disk, mailbox, active: None, ended: false }
    }

    /// Whether the device is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn start(&mut self, activation: Activation, ops: &mut EventOps) {
        let Activation { memory, queues, interrupt, .. } = activation;
        let Some(queue) = queues.into_iter().next().flatten() else { return interrupt.needs_reset() };
        if let Err(error) = ops.add(Events::with_data(&queue.kick, QUEUE, EventSet::IN)) {
            log::error!("disk: cannot watch the queue: {error}");
            return interrupt.needs_reset();
        }
        self.active = Some(Active { memory, queue, interrupt });
    }

    fn stop(&mut self, ops: &mut EventOps) {
        if let Some(active) = self.active.take() {
            let _ = ops.remove(Events::empty(&active.queue.kick));
        }
    }

    fn serve(&mut self, ops: &mut EventOps) {
        let Some(active) = &mut self.active else { return };
        let _ = active.queue.kick.read();
        if let Err(error) = active.serve(&self.disk) {
            log::warn!("disk: the queue is broken: {error}");
            active.interrupt.needs_reset();
            self.stop(ops);
        }
    }
}

impl Active {
    /// Serves requests until the driver has no more.
    fn serve(&mut self, disk: &Disk) -> Result<(), virtio_queue::Error> {
        let (queue, memory) = (&mut self.queue.queue, &self.memory);
        loop {
            queue.disable_notification(memory)?;
            // `iter` checks the ring: a driver that announces more buffers than the ring has is broken.
            while let Some(chain) = queue.iter(memory)?.next() {
                let head = chain.head_index();
                let written = request::answer(disk, chain, memory);
                queue.add_used(memory, head, written)?;
                if queue.needs_notification(memory)? {
                    self.interrupt.used_buffer();
                }
            }
            if !queue.enable_notification(memory)? {
                return Ok(());
            }
        }
    }
}

impl MutEventSubscriber for BlockWorker {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::with_data(&self.mailbox, MAILBOX, EventSet::IN)) {
            log::error!("disk: cannot watch the device: {error}");
            self.ended = true;
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() == QUEUE {
            return self.serve(ops);
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
