//! virtio-fs (virtio 1.2, 5.11): one device whose root is a read-only directory that holds the shares.
//!
//! The guest reaches what lies below a share's file descriptor and nothing else; what the mount behind it forbids
//! is forbidden here, whatever the guest's kernel believes. Requests are answered by [`crate::fuse`], one after
//! another, on a thread of their own, because handing each to a pool costs more time than most of them take.

mod handle;
mod jobs;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use event_manager::EventManager;

use super::{Activation, DeviceThread, Mailbox, MailboxReceiver, VirtioDevice, mailbox, thread};
use crate::config::{MemorySize, ShareFile};
use crate::fuse::{FsStats, FuseServer, Limits};
use handle::Changes;
pub use handle::FsHandle;
use jobs::Jobs;
use worker::FsWorker;

/// Device ID of a file system device.
const DEVICE_TYPE: u32 = 26;
/// High priority queue, then one request queue. A request of 256 pages, with its headers, must fit the ring: the
/// guest's driver makes its requests no larger than the ring has descriptors.
const QUEUE_SIZES: [u16; 2] = [128, 512];
/// Tag by which the guest mounts the device.
const TAG: &[u8] = b"drupe";
const TAG_BYTES: usize = 36;
const CONFIG_BYTES: usize = TAG_BYTES + 4;
const FEATURES: u64 = (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX)
    | (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC);

/// Why the shared filesystem could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// A share cannot be served.
    #[error("sharing {name:?}")]
    Share {
        /// The share's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Event file descriptors or the event loop could not be made.
    #[error("setting up the shared filesystem's event loop")]
    Events(#[source] io::Error),
    /// The thread could not be started, or not made one that serves files.
    #[error("starting the thread of the shared filesystem")]
    Thread(#[source] io::Error),
}

/// The virtio-fs device.
#[derive(Debug)]
pub struct Fs {
    mailbox: Mailbox,
    config: [u8; CONFIG_BYTES],
}

/// What serves the device, before its thread runs.
pub struct FsThread {
    shares: Vec<ShareFile>,
    limits: Limits,
    mailbox: MailboxReceiver,
    changes: Changes,
    stats: Arc<FsStats>,
}

impl std::fmt::Debug for FsThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FsThread").field("shares", &self.shares).finish_non_exhaustive()
    }
}

/// Makes a device with `shares` in its root, for a guest with so much `memory`; what serves it; and a handle to it.
///
/// # Errors
/// [`FsError`]
pub fn fs(shares: Vec<ShareFile>, memory: MemorySize) -> Result<(Fs, FsThread, FsHandle), FsError> {
    let (mailbox, receiver) = mailbox().map_err(FsError::Events)?;
    let mut config = [0; CONFIG_BYTES];
    let request_queues = 1_u32.to_le_bytes();
    let tag = TAG.iter().chain(std::iter::repeat(&0)).take(TAG_BYTES);
    for (to, from) in config.iter_mut().zip(tag.chain(&request_queues)) {
        *to = *from;
    }
    let stats = Arc::new(FsStats::default());
    let (handle, changes) = handle::handle(Arc::clone(&stats)).map_err(FsError::Events)?;
    let descriptors =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let limits = Limits::new(memory.bytes(), descriptors);
    Ok((Fs { mailbox, config }, FsThread { shares, limits, mailbox: receiver, changes, stats }, handle))
}

impl FsThread {
    /// Starts the thread. It ends when the device is dropped.
    ///
    /// # Errors
    /// [`FsError`], when the thread cannot be started or cannot serve.
    pub fn start(self) -> Result<DeviceThread, FsError> {
        let (ready, is_ready) = sync_channel(1);
        let serve = move || match self.worker() {
            Ok((events, worker)) => {
                let _ = ready.send(Ok(()));
                thread::run(events, worker);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        let thread = DeviceThread::start("fs", serve).map_err(FsError::Thread)?;
        let ended = || FsError::Thread(io::ErrorKind::BrokenPipe.into());
        is_ready.recv().map_err(|_| ended())??;
        Ok(thread)
    }

    fn worker(self) -> Result<(EventManager<FsWorker>, FsWorker), FsError> {
        let mut server = FuseServer::new(self.limits, self.stats).map_err(FsError::Thread)?;
        for share in self.shares {
            let name = share.name.clone();
            server.add_share(share).map_err(|source| FsError::Share { name, source })?;
        }
        let events = thread::events().map_err(FsError::Events)?;
        let jobs = Jobs::new().map_err(FsError::Events)?;
        Ok((events, FsWorker::new(server, self.mailbox, self.changes, jobs)))
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, activation: Activation) {
        self.mailbox.start(activation);
    }

    fn reset(&mut self) {
        self.mailbox.stop();
    }
}

#[cfg(test)]
#[path = "fs_test.rs"]
mod tests;
