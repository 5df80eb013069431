//! The thread behind the device: takes requests from the queues, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vm_memory::GuestMemoryMmap;

use super::handle::{Change, Changes};
use super::jobs::{Jobs, Waiting};
use crate::devices::virtio::chain::{Chain, buffers};
use crate::devices::virtio::thread::Worker;
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, MailboxReceiver, Work};
use crate::fuse::{Answer, FuseServer, JobResult};

/// Tokens of the mailbox, of changes and of jobs among the events; queues have their index.
const MAILBOX: u32 = u32::MAX;
const CHANGES: u32 = u32::MAX - 1;
const JOBS: u32 = u32::MAX - 2;

/// Descriptors of one request: twice as many as the request queue has.
const MAX_DESCRIPTORS: usize = 1024;

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
            self.give_up(index, &error, ops);
        }
    }

    fn complete(&mut self, ops: &mut EventOps) {
        while let Some((waiting, result)) = self.jobs.finished() {
            let Some(active) = &mut self.active else { continue };
            if let Err(error) = active.complete(&mut self.server, &waiting, result) {
                self.give_up(waiting.queue, &error, ops);
            }
        }
    }

    fn give_up(&mut self, index: u32, error: &virtio_queue::Error, ops: &mut EventOps) {
        log::warn!("shared filesystem: queue {index} is broken: {error}");
        if let Some(active) = &self.active {
            active.interrupt.needs_reset();
        }
        self.stop(ops);
    }
}

impl Active {
    fn serve(
        &mut self,
        server: &mut FuseServer,
        jobs: &mut Jobs,
        index: u32,
    ) -> Result<(), virtio_queue::Error> {
        let Self { memory, queues, interrupt } = self;
        let Some(queue) = queue(queues, index) else { return Ok(()) };
        queue.serve(memory, interrupt, |descriptors| {
            let head = descriptors.head_index();
            let Some(chain) = Chain::of(descriptors, MAX_DESCRIPTORS) else { return Some(0) };
            let (request, reply) = (buffers(&chain.readable, memory), buffers(&chain.writable, memory));
            let (Some(request), Some(reply)) = (request, reply) else { return Some(0) };
            match server.answer(&request, &reply) {
                Answer::Done(written) => Some(written),
                Answer::Later(pending) => {
                    let ticket = pending.ticket;
                    jobs.run(Waiting { queue: index, head, ticket, reply: chain.writable }, pending);
                    None
                }
            }
        })
    }

    fn complete(
        &mut self,
        server: &mut FuseServer,
        waiting: &Waiting,
        result: JobResult,
    ) -> Result<(), virtio_queue::Error> {
        let Self { memory, queues, interrupt } = self;
        let Some(queue) = queue(queues, waiting.queue) else { return Ok(()) };
        let reply = buffers(&waiting.reply, memory).unwrap_or_default();
        let written = server.complete(waiting.ticket, result, &reply);
        queue.give_back(memory, interrupt, waiting.head, written)
    }
}

fn queue(queues: &mut [Option<ActiveQueue>], index: u32) -> Option<&mut ActiveQueue> {
    queues.get_mut(usize::try_from(index).ok()?)?.as_mut()
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
                Work::Stop(_until_dropped) => self.stop(ops),
                Work::End => self.ended = true,
            }
        }
    }
}

impl Worker for FsWorker {
    const WHAT: &'static str = "shared filesystem";

    fn has_ended(&self) -> bool {
        self.ended
    }
}
