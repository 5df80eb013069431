//! virtio-fs (virtio 1.2, 5.11): one device whose root is a read-only directory that holds the shares.
//!
//! The guest reaches what lies below a share's file descriptor and nothing else; what the mount behind it forbids
//! is forbidden here, whatever the guest's kernel believes. FUSE requests are decoded and answered by
//! fuse-backend-rs; they are served one after another, on a thread of their own, because handing each to a pool
//! costs more time than most of them take.

mod shares;
mod single_file;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

use event_manager::{EventManager, SubscriberOps};

use super::{Activation, Mailbox, VirtioDevice, mailbox};
use crate::config::ShareFile;
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
}

/// The virtio-fs device.
#[derive(Debug)]
pub struct Fs {
    mailbox: Mailbox,
    config: [u8; CONFIG_BYTES],
}

/// What serves the device, before its thread runs.
pub struct FsThread {
    worker: FsWorker,
    /// The shares' own descriptors: those of the server are opened through them.
    _roots: Vec<OwnedFd>,
}

/// The running thread.
#[derive(Debug)]
pub struct FsThreadHandle(JoinHandle<()>);

impl std::fmt::Debug for FsThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FsThread").finish_non_exhaustive()
    }
}

/// Makes a device with `shares` in its root, and what serves it.
///
/// # Errors
/// [`FsError`]
pub fn fs(shares: Vec<ShareFile>) -> Result<(Fs, FsThread), FsError> {
    let server = shares::server(&shares)?;
    let (mailbox, receiver) = mailbox().map_err(FsError::Events)?;
    let mut config = [0; CONFIG_BYTES];
    let request_queues = 1_u32.to_le_bytes();
    let tag = TAG.iter().chain(std::iter::repeat(&0)).take(TAG_BYTES);
    for (to, from) in config.iter_mut().zip(tag.chain(&request_queues)) {
        *to = *from;
    }
    let roots = shares.into_iter().map(|share| share.root).collect();
    Ok((Fs { mailbox, config }, FsThread { worker: FsWorker::new(server, receiver), _roots: roots }))
}

impl FsThread {
    /// Starts the thread. It ends when the device is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self) -> io::Result<FsThreadHandle> {
        let thread = Builder::new().name("fs".to_owned()).spawn(move || self.serve())?;
        Ok(FsThreadHandle(thread))
    }

    fn serve(self) {
        let mut events = match EventManager::<FsWorker>::new() {
            Ok(events) => events,
            Err(error) => return log::error!("shared filesystem: {error}"),
        };
        let id = events.add_subscriber(self.worker);
        while events.subscriber_mut(id).is_ok_and(|worker| !worker.has_ended()) {
            match events.run() {
                Ok(_) => {}
                Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
                Err(error) => return log::error!("shared filesystem: {error}"),
            }
        }
    }
}

impl FsThreadHandle {
    /// Waits for the thread's end.
    pub fn join(self) {
        let _ = self.0.join();
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
