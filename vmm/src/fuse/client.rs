//! A guest without a machine: sends requests to a server in its own thread, for tests and fuzz targets.
//!
//! Of every reply it checks what holds whatever was asked: that the reply says its own length, fits its room and names
//! its request.

use std::sync::Arc;

use super::dispatch::Answer;
use super::wire::{self, Body};
use super::{FsCounts, FsStats, FuseServer, Limits};
use crate::buffers::Buffers;
use crate::config::ShareFile;

/// Bytes of room for a reply, where nothing else is said: a header and 128 KiB.
const ROOM: usize = 16 + (128 << 10);

/// A server and who asks it.
#[derive(Debug)]
pub struct Client {
    pub(super) server: FuseServer,
    stats: Arc<FsStats>,
    unique: u64,
    room: Vec<u8>,
    /// The user whose requests they are.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 0 or a positive errno.
    pub errno: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The 64-bit word at this offset; 0 beyond the end.
    #[must_use]
    pub fn word(&self, at: usize) -> u64 {
        let bytes = self.body.get(at..).and_then(<[u8]>::first_chunk);
        u64::from_ne_bytes(bytes.copied().unwrap_or_default())
    }
}

impl Client {
    /// A server with these shares, for a guest with so much memory in a process that may have so many descriptors. The
    /// calling thread becomes the one that serves.
    ///
    /// # Errors
    /// When the server cannot be made, or a share not be added.
    pub fn new(shares: Vec<ShareFile>, memory: u64, descriptors: u64) -> std::io::Result<Self> {
        let stats = Arc::new(FsStats::default());
        let mut server = FuseServer::new(Limits::new(memory, descriptors), Arc::clone(&stats))?;
        for share in shares {
            server.add_share(share)?;
        }
        Ok(Self { server, stats, unique: 0, room: vec![0; ROOM], uid: 0, gid: 0 })
    }

    /// What the server has done and holds.
    #[must_use]
    pub fn counts(&self) -> FsCounts {
        self.stats.counts()
    }

    /// Agrees on the protocol as a Linux guest does that knows of everything.
    pub fn init(&mut self) -> Reply {
        let mut body = Body::default();
        body.u32(wire::VERSION).u32(wire::MINOR).u32(1 << 17).u32(u32::MAX).u32(u32::MAX).zeros(44);
        self.call(26, 0, &body.0)
    }

    /// Asks, and gets the reply; an empty one for what has none.
    pub fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Reply {
        self.unique += 1;
        let mut request = Body::default();
        let length = u32::try_from(wire::IN_HEADER + body.len()).unwrap_or(u32::MAX);
        request.u32(length).u32(opcode).u64(self.unique).u64(node).u32(self.uid).u32(self.gid);
        request.u32(0).u32(0).bytes(body);
        let mut room = std::mem::take(&mut self.room);
        let written = self.exchange(&mut [&mut request.0], &mut [&mut room]);
        let reply = parse(room.get(..written).unwrap_or_default(), self.unique);
        self.room = room;
        reply
    }

    /// Sends bytes that are cut into these pieces, right or wrong; the reply is written to pieces, too. Gives its length.
    pub fn exchange(&mut self, request: &mut [&mut [u8]], reply: &mut [&mut [u8]]) -> usize {
        let (request, reply) = (buffers(request), buffers(reply));
        let written = match self.server.answer(&request, &reply) {
            Answer::Done(written) => written,
            Answer::Later(pending) => {
                let ticket = pending.ticket;
                self.server.complete(ticket, pending.run(), &reply)
            }
        };
        assert!(written <= reply.len(), "a reply of {written} bytes in room for {}", reply.len());
        written
    }
}

fn buffers<'m>(pieces: &'m mut [&mut [u8]]) -> Buffers<'m> {
    let mut buffers = Buffers::default();
    for piece in pieces {
        buffers.push(vm_memory::VolatileSlice::from(&mut **piece));
    }
    buffers
}

fn parse(bytes: &[u8], unique: u64) -> Reply {
    if bytes.is_empty() {
        return Reply::default();
    }
    let mut fields = wire::Fields(bytes);
    let (length, errno, of) = (fields.u32(), fields.u32(), fields.u64());
    assert_eq!(length.map(usize::try_from), Ok(Ok(bytes.len())), "a reply says its length");
    assert_eq!(of, Ok(unique), "a reply names its request");
    let errno = errno.unwrap_or_default().cast_signed().wrapping_neg();
    assert!((0..4096).contains(&errno), "{errno} is no errno");
    assert!(errno == 0 || fields.0.is_empty(), "an error has no body");
    Reply { errno, body: fields.0.to_vec() }
}
