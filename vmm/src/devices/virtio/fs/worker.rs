//! The thread behind the device: takes requests from the queues, has them answered, gives the buffers back.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode, OutHeader};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

use super::shares::FuseServer;
use crate::devices::virtio::{Activation, ActiveQueue, Interrupt, MailboxReceiver, Work};

/// Token of the mailbox among the events; queues have their index.
const MAILBOX: u32 = u32::MAX;

/// Serves the device's queues while it is active.
pub(super) struct FsWorker {
    server: FuseServer,
    mailbox: MailboxReceiver,
    active: Option<Active>,
    ended: bool,
}

struct Active {
    memory: GuestMemoryMmap,
    queues: Vec<Option<ActiveQueue>>,
    interrupt: Interrupt,
}

impl FsWorker {
    pub(super) fn new(server: FuseServer, mailbox: MailboxReceiver) -> Self {
        Self { server, mailbox, active: None, ended: false }
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
    }

    fn serve(&mut self, index: u32, ops: &mut EventOps) {
        let Some(active) = &mut self.active else { return };
        let queue = usize::try_from(index).ok().and_then(|index| active.queues.get_mut(index));
        let Some(Some(queue)) = queue else { return };
        let _ = queue.kick.read();
        if let Err(error) = serve_queue(&self.server, queue, &active.memory, &active.interrupt) {
            log::warn!("shared filesystem: queue {index} is broken: {error}");
            active.interrupt.needs_reset();
            self.stop(ops);
        }
    }
}

/// Serves requests until the driver has no more.
fn serve_queue(
    server: &FuseServer,
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
fn answer(server: &FuseServer, chain: DescriptorChain<&GuestMemoryMmap>, memory: &GuestMemoryMmap) -> u32 {
    let reader = Reader::from_descriptor_chain(memory, chain.clone());
    let writer = VirtioFsWriter::new(memory, chain.clone());
    let (Ok(reader), Ok(writer)) = (reader, writer) else { return 0 };
    match server.handle_message(reader, writer.into(), None, None) {
        Ok(written) => u32::try_from(written).unwrap_or(u32::MAX),
        Err(error) => {
            log::debug!("shared filesystem: bad request: {error:?}");
            refuse(chain, memory).unwrap_or(0)
        }
    }
}

/// Answers a request that could not be decoded with EINVAL. What has no header, and those that never have a reply,
/// get no answer.
fn refuse(chain: DescriptorChain<&GuestMemoryMmap>, memory: &GuestMemoryMmap) -> Option<u32> {
    let request: InHeader = Reader::from_descriptor_chain(memory, chain.clone()).ok()?.read_obj().ok()?;
    if [Opcode::Forget, Opcode::BatchForget].iter().any(|opcode| request.opcode == *opcode as u32) {
        return None;
    }
    let length = u32::try_from(size_of::<OutHeader>()).ok()?;
    let reply = OutHeader { len: length, error: -libc::EINVAL, unique: request.unique };
    VirtioFsWriter::new(memory, chain).ok()?.write_obj(reply).ok()?;
    Some(length)
}

impl MutEventSubscriber for FsWorker {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::with_data(&self.mailbox, MAILBOX, EventSet::IN)) {
            log::error!("shared filesystem: cannot watch the device: {error}");
            self.ended = true;
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() != MAILBOX {
            return self.serve(events.data(), ops);
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
