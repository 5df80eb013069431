//! The thread behind the device: takes requests from the queue, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vm_memory::GuestMemoryMmap;

use super::disk::Disk;
use super::request;
use crate::devices::virtio::thread::Worker;
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
        let Some(Active { memory, queue, interrupt }) = &mut self.active else { return };
        let disk = &self.disk;
        let served =
            queue.serve(memory, interrupt, |descriptors| Some(request::answer(disk, descriptors, memory)));
        if let Err(error) = served {
            log::warn!("disk: the queue is broken: {error}");
            interrupt.needs_reset();
            self.stop(ops);
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
                Work::Stop(_until_dropped) => self.stop(ops),
                Work::End => self.ended = true,
            }
        }
    }
}

impl Worker for BlockWorker {
    const WHAT: &'static str = "disk";

    fn has_ended(&self) -> bool {
        self.ended
    }
}
