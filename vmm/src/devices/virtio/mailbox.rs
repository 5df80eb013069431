//! How a device on a vCPU thread hands its queues to the thread that serves them, and takes them back.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Activation;

/// What the serving thread is told.
#[derive(Debug)]
pub enum Work {
    /// Serve these queues.
    Start(Activation),
    /// Drop the queues, and then this, which lets the vCPU go on.
    Stop(SyncSender<()>),
    /// The device is gone; nothing comes after this.
    End,
}

/// The device's end.
#[derive(Debug)]
pub struct Mailbox {
    sender: Sender<Work>,
    wake: EventFd,
}

/// The serving thread's end. Its file descriptor is readable when there is work to receive.
#[derive(Debug)]
pub struct MailboxReceiver {
    receiver: Receiver<Work>,
    wake: EventFd,
}

/// Makes a mailbox.
///
/// # Errors
/// When no eventfd can be made.
pub fn mailbox() -> std::io::Result<(Mailbox, MailboxReceiver)> {
    let wake = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
    let (sender, receiver) = channel();
    Ok((Mailbox { sender, wake: wake.try_clone()? }, MailboxReceiver { receiver, wake }))
}

impl Mailbox {
    /// Hands the queues over.
    pub fn start(&self, activation: Activation) {
        self.send(Work::Start(activation));
    }

    /// Takes the queues back: returns when the serving thread has dropped them, or has ended.
    pub fn stop(&self) {
        let (done, wait) = sync_channel(0);
        self.send(Work::Stop(done));
        // Nothing is ever sent: the answer is that the other end is gone.
        let _ = wait.recv();
    }

    fn send(&self, work: Work) {
        // A receiver that is gone serves no queue, which is what both messages would end in.
        if self.sender.send(work).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.send(Work::End);
    }
}

impl MailboxReceiver {
    /// Takes the next piece of work, oldest first. Call it until it gives `None`: only then is another wake-up
    /// certain to come.
    #[must_use]
    pub fn receive(&self) -> Option<Work> {
        let _ = self.wake.read();
        self.receiver.try_recv().ok()
    }
}

impl AsRawFd for MailboxReceiver {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
