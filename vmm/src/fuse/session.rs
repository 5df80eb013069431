//! What guest and server agree on when the guest mounts (`FUSE_INIT`).

use rustix::io::Errno;

use super::FuseServer;
use super::dispatch::Reply;
use super::wire::{Body, Fields, MINOR, OLDEST_MINOR, VERSION, init};

/// Features that are always wanted.
const WANTED: u64 = init::ASYNC_READ
    | init::ATOMIC_O_TRUNC
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::AUTO_INVAL_DATA
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::ASYNC_DIO
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::MAX_PAGES
    // A symbolic link never changes; another one in its place is another file.
    | init::CACHE_SYMLINKS
    | init::SUBMOUNTS
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT
    | init::FEW_TRIPS;

/// Pages of one request: 1 MiB, for which the request queue has room.
const MAX_PAGES: u16 = 256;
/// Bytes of one write.
pub(super) const MAX_WRITE: u32 = 1 << 20;
/// Bytes that a guest reads ahead that lets the server say so: of a program that starts, most is needed.
const READAHEAD: u32 = 1 << 20;
/// Requests that the guest makes in the background, reading ahead, and when it takes that for congestion.
const MAX_BACKGROUND: u16 = 128;
const CONGESTION: u16 = 96;
/// Timestamps are exact to the nanosecond.
const TIME_GRANULARITY: u32 = 1;

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    /// `FUSE_SETXATTR` has four words.
    pub(super) setxattr_ext: bool,
    /// The guest does without opening files.
    pub(super) no_open: bool,
    /// The guest does without opening directories.
    pub(super) no_opendir: bool,
    /// The guest opens only directories that one `FUSE_READDIRPLUS` is not enough for.
    pub(super) lazy_opendir: bool,
}

impl FuseServer {
    pub(super) fn init(&mut self, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (major, minor) = (body.u32()?, body.u32()?);
        if major < VERSION || (major == VERSION && minor < OLDEST_MINOR) {
            return Err(Errno::PROTO);
        }
        let mut reply = Body::default();
        if major > VERSION {
            // The guest tries again with this version.
            reply.u32(VERSION).u32(MINOR).zeros(56);
            return Ok(Reply::Body(reply));
        }
        let mut readahead = body.u32()?;
        let mut offered = u64::from(body.u32()?);
        if offered & init::INIT_EXT != 0 {
            offered |= u64::from(body.u32()?) << 32;
        }
        let mut agreed = offered & WANTED;
        // Both hold for the whole device, so that one share that others change is enough to rule them out.
        let immutable = self.shares.are_immutable();
        self.session = Session {
            setxattr_ext: agreed & init::SETXATTR_EXT != 0,
            no_open: immutable && offered & init::NO_OPEN_SUPPORT != 0,
            no_opendir: immutable && offered & init::NO_OPENDIR_SUPPORT != 0,
            lazy_opendir: !immutable && offered & init::LAZY_OPENDIR != 0,
        };
        if self.session.no_open {
            // A file that is not opened here is not truncated by opening it.
            agreed &= !init::ATOMIC_O_TRUNC;
        }
        if self.session.lazy_opendir {
            agreed |= init::LAZY_OPENDIR;
        }
        if agreed & init::FEW_TRIPS != 0 {
            readahead = READAHEAD;
            // A directory is read in few pieces: whoever lists it gets the attributes as well.
            agreed &= !init::READDIRPLUS_AUTO;
        }
        let (low, high) = (agreed & u64::from(u32::MAX), agreed >> 32);
        reply.u32(VERSION).u32(MINOR).u32(readahead);
        reply.u32(u32::try_from(low).map_err(|_| Errno::INVAL)?);
        reply.u16(MAX_BACKGROUND).u16(CONGESTION).u32(MAX_WRITE).u32(TIME_GRANULARITY);
        reply.u16(MAX_PAGES).u16(0);
        reply.u32(u32::try_from(high).map_err(|_| Errno::INVAL)?).zeros(28);
        Ok(Reply::Body(reply))
    }
}
