//! virtio-blk (virtio 1.2, 5.2): a disk that is an open file of the host.
//!
//! Data goes between the file and guest memory without a copy in between. Requests are answered one after another on a
//! thread of their own; one that makes no sense gets an error status, or is given back with nothing written where it
//! has no place for a status.

mod disk;
mod request;
mod worker;

use std::io;

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::{Activation, DeviceThread, Mailbox, VirtioDevice, mailbox, thread};
use crate::config::DiskFile;
use disk::Disk;
use worker::BlockWorker;

/// Bytes of a sector, whatever the file's own blocks are (virtio 1.2, 5.2.2).
const SECTOR: u64 = 512;
const QUEUE_SIZES: [u16; 1] = [256];
/// Buffers of one request's data: what the ring has room for beside header and status.
const SEGMENTS: u32 = 254;
/// The most sectors that a request may discard or zero: a gibibyte, which takes a host no time.
const ERASE_SECTORS: u32 = 1 << 21;
/// What is discarded starts and ends with blocks of this many sectors, as those of the host's file do.
const ERASE_ALIGNMENT: u32 = 8;
const CONFIG_BYTES: usize = 60;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It cannot be asked for its size.
    #[error("disk {name:?}")]
    File {
        /// The disk's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no whole sector.
    #[error("disk {0:?}: smaller than a sector of 512 bytes")]
    Empty(String),
    /// Event file descriptors or the event loop could not be made.
    #[error("setting up a disk's event loop")]
    Events(#[source] io::Error),
}

/// The virtio-blk device.
#[derive(Debug)]
pub struct Block {
    mailbox: Mailbox,
    features: u64,
    config: [u8; CONFIG_BYTES],
}

/// What serves the device, before its thread runs.
#[derive(Debug)]
pub struct BlockThread(BlockWorker);

/// Makes a device of a file, whose size now is the disk's for good, and what serves it.
///
/// # Errors
/// [`BlockError`]
pub fn block(file: DiskFile) -> Result<(Block, BlockThread), BlockError> {
    let disk = Disk::new(file)?;
    let (mailbox, receiver) = mailbox().map_err(BlockError::Events)?;
    let device = Block { mailbox, features: features(&disk), config: config(disk.sectors()) };
    Ok((device, BlockThread(BlockWorker::new(disk, receiver))))
}

fn features(disk: &Disk) -> u64 {
    let mut bits = vec![
        VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_DISCARD,
        VIRTIO_BLK_F_WRITE_ZEROES,
        VIRTIO_RING_F_EVENT_IDX,
        VIRTIO_RING_F_INDIRECT_DESC,
    ];
    if !disk.is_scratch() {
        bits.push(VIRTIO_BLK_F_FLUSH);
    }
    bits.into_iter().fold(0, |features, bit| features | (1 << bit))
}

/// `struct virtio_blk_config` (virtio 1.2, 5.2.4).
fn config(sectors: u64) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    let words = [
        (12, SEGMENTS),
        (36, ERASE_SECTORS),
        (40, 1), // max_discard_seg
        (44, ERASE_ALIGNMENT),
        (48, ERASE_SECTORS),
        (52, 1), // max_write_zeroes_seg
        (56, 1), // write_zeroes_may_unmap, and three unused bytes
    ];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in config.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, &sectors.to_le_bytes());
    for (at, value) in words {
        put(at, &value.to_le_bytes());
    }
    config
}

impl BlockThread {
    /// Starts the thread. It ends when the device is dropped.
    ///
    /// # Errors
    /// When no thread or event loop can be made.
    pub fn start(self) -> io::Result<DeviceThread> {
        let events = thread::events()?;
        DeviceThread::start("block", move || thread::run(events, self.0))
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        self.features
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
#[path = "block_test.rs"]
mod tests;
