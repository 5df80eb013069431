//! A queue whose requests are served on a thread of the device's.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::Interrupt;

/// Requests that are served before other events of the thread get their turn: a driver that never stops must not keep the
/// device from being stopped.
const MAX_AT_ONCE: usize = 512;

/// A queue that the driver has configured: its rings lie in guest memory, and nothing about them changes
/// until reset.
#[derive(Debug)]
pub struct ActiveQueue {
    /// The queue.
    pub queue: Queue,
    /// Readable when the driver has made buffers available.
    pub kick: EventFd,
}

impl ActiveQueue {
    /// Serves requests until the driver has no more, or others have to be heard: then the queue is kicked again. `answer`
    /// gives the number of bytes that it has written to a request's buffers, or `None` to give them back later.
    ///
    /// # Errors
    /// When the ring is broken, as by a driver that announces more buffers than it has.
    pub(super) fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
        mut answer: impl FnMut(DescriptorChain<&GuestMemoryMmap>) -> Option<usize>,
    ) -> Result<(), virtio_queue::Error> {
        let _ = self.kick.read();
        let mut served = 0;
        loop {
            self.queue.disable_notification(memory)?;
            while let Some(chain) = self.queue.iter(memory)?.next() {
                let head = chain.head_index();
                if let Some(written) = answer(chain) {
                    self.give_back(memory, interrupt, head, written)?;
                }
                served += 1;
                if served == MAX_AT_ONCE {
                    let _ = self.kick.write(1);
                    return Ok(());
                }
            }
            if !self.queue.enable_notification(memory)? {
                return Ok(());
            }
        }
    }

    /// Gives the buffers of a request back to the driver, with so many bytes written to them.
    ///
    /// # Errors
    /// When the ring is broken.
    pub(super) fn give_back(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
        head: u16,
        written: usize,
    ) -> Result<(), virtio_queue::Error> {
        self.queue.add_used(memory, head, u32::try_from(written).unwrap_or(u32::MAX))?;
        if self.queue.needs_notification(memory)? {
            interrupt.used_buffer();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;
    use crate::devices::virtio::testing::{self, GuestQueue};

    #[test]
    fn a_driver_that_always_has_another_request_does_not_keep_others_waiting() {
        let memory = testing::memory(1);
        let mut guest = GuestQueue::new(&memory, 0);
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        let mut active = ActiveQueue { queue: guest.queue(), kick: kick.try_clone().unwrap() };
        let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap());
        guest.send(&[b"request"], &[16]);
        for turn in 1..=3 {
            let mut answered = 0;
            let served = active.serve(&memory, &interrupt, |_| {
                answered += 1;
                assert!(answered <= MAX_AT_ONCE, "a turn does not end");
                guest.offer(0);
                Some(16)
            });
            assert!(served.is_ok());
            assert_eq!(answered, 512, "turn {turn}");
            assert_eq!(kick.read().ok(), Some(1), "the rest is not forgotten");
        }
    }
}
