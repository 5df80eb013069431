//! What is in a directory: `FUSE_OPENDIR`, `FUSE_READDIR`, `FUSE_READDIRPLUS`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use super::dispatch::{Reply, Request};
use super::handles::Handle;
use super::host::Status;
use super::name::Name;
use super::nodes::NodeId;
use super::wire::{Body, Entry, FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, Fields, Header, ROOT};
use super::{FuseServer, host, sys};

/// Bytes of entries that are read from the host at a time.
const BUFFER: usize = 32 << 10;
/// The most bytes of one reply.
const MAX_REPLY: usize = 128 << 10;
/// Bytes of `fuse_dirent` before the name, and of `fuse_entry_out`.
const DIRENT: usize = 24;
const ENTRY: usize = 128;

/// How far a directory was read: entries that the host has given and the guest has not got yet.
#[derive(Debug, Default)]
pub(super) struct Listing {
    buffer: Vec<u8>,
    start: usize,
    /// The offset behind the last entry that the guest has got.
    next: u64,
    /// What was read ahead has been dropped: the host goes on elsewhere than the guest.
    is_behind: bool,
}

/// `linux_dirent64`, as getdents64(2) gives it.
struct HostEntry<'a> {
    ino: u64,
    offset: u64,
    length: usize,
    kind: u8,
    name: &'a [u8],
}

impl Listing {
    /// Goes to where the guest wants to read on.
    fn seek(&mut self, directory: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        if offset != self.next || self.is_behind {
            rustix::fs::seek(directory, SeekFrom::Start(offset))?;
            *self = Self { next: offset, ..Self::default() };
        }
        // What was read ahead from the start may be of before a rewind.
        if offset == 0 && !self.buffer.is_empty() {
            rustix::fs::seek(directory, SeekFrom::Start(0))?;
            *self = Self::default();
        }
        Ok(())
    }

    /// The next entry; `None` at the end.
    fn peek(&mut self, directory: BorrowedFd<'_>) -> Result<Option<HostEntry<'_>>, Errno> {
        if self.start >= self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
            let count = sys::read_entries(directory, &mut self.buffer);
            self.buffer.truncate(*count.as_ref().unwrap_or(&0));
            self.start = 0;
            if count? == 0 {
                self.buffer = Vec::new();
                return Ok(None);
            }
        }
        let mut fields = Fields(self.buffer.get(self.start..).unwrap_or_default());
        let whole = fields.0;
        let (ino, offset, length) = (fields.u64()?, fields.u64()?, usize::from(fields.u16()?));
        let kind = fields.0.first().copied().unwrap_or(libc::DT_UNKNOWN);
        let name = whole.get(19..length).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Some(HostEntry { ino, offset, length: length.max(1), kind, name }))
    }

    #[cfg(test)]
    pub(super) fn is_ahead(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Drops what was read ahead.
    pub(super) fn drop_ahead(&mut self) {
        if !self.buffer.is_empty() {
            *self = Self { next: self.next, is_behind: true, ..Self::default() };
        }
    }

    fn pass(&mut self, length: usize, offset: u64) {
        self.start += length;
        self.next = offset;
    }
}

impl FuseServer {
    pub(super) fn opendir(&mut self, header: &Header) -> Result<Reply, Errno> {
        if self.session.no_opendir {
            return Err(Errno::NOSYS);
        }
        let mut reply = Body::default();
        if header.node == ROOT {
            reply.open_out(0, 0);
            return Ok(Reply::Body(reply));
        }
        self.handles.check_room()?;
        let file = self.open_directory(header.node)?;
        let is_unchanged = self.is_unchanged_since_opened(header.node, &Status::of(&file)?)?;
        let flags = FOPEN_CACHE_DIR | if is_unchanged { FOPEN_KEEP_CACHE } else { 0 };
        self.nodes.opened(header.node);
        let listing = Some(Listing::default());
        let handle = self.handles.add(Handle { node: header.node, file: Arc::new(file), listing });
        reply.open_out(handle, flags);
        Ok(Reply::Body(reply))
    }

    fn open_directory(&mut self, node: NodeId) -> Result<OwnedFd, Errno> {
        if self.nodes.get(node)?.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let found = self.nodes.descriptor(node)?;
        self.nodes.with_room(|| host::reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY))
    }

    pub(super) fn readdir(&mut self, request: &Request<'_, '_>, plus: bool) -> Result<Reply, Errno> {
        let mut body = request.body;
        let (number, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let room = request.room.len().min(MAX_REPLY).min(usize::try_from(size).unwrap_or(usize::MAX));
        let mut reply = Body::default();
        let node = request.header.node;
        if node == ROOT {
            let is_end = self.list_shares(offset, room, plus, &mut reply)?;
            if is_end && offset == 0 && plus && self.session.lazy_opendir {
                end(room, &mut reply);
            }
            return Ok(Reply::Body(reply));
        }
        if number == 0 && self.session.no_opendir {
            // Nothing is kept between two reads: the offset says it all in a directory that does not change.
            let directory = self.open_directory(node)?;
            let mut listing = Listing::default();
            listing.seek(directory.as_fd(), offset)?;
            self.list(node, &directory, &mut listing, room, plus, &mut reply)?;
            return Ok(Reply::Body(reply));
        }
        if number == 0 && offset == 0 && plus && self.session.lazy_opendir {
            let directory = self.open_directory(node)?;
            if self.list(node, &directory, &mut Listing::default(), room, plus, &mut reply)? {
                end(room, &mut reply);
            }
            return Ok(Reply::Body(reply));
        }
        let handle = self.handles.get(node, number)?;
        let directory = Arc::clone(&handle.file);
        let mut listing = std::mem::take(handle.listing.as_mut().ok_or(Errno::NOTDIR)?);
        let result = listing
            .seek(directory.as_fd(), offset)
            .and_then(|()| self.list(node, &directory, &mut listing, room, plus, &mut reply));
        self.handles.keep_listing(node, number, listing)?;
        result.map(|_| Reply::Body(reply))
    }

    /// Lists what fits in `room`; whether that is all there is.
    fn list(
        &mut self,
        node: NodeId,
        directory: &OwnedFd,
        listing: &mut Listing,
        room: usize,
        plus: bool,
        reply: &mut Body,
    ) -> Result<bool, Errno> {
        loop {
            let entry = match listing.peek(directory.as_fd()) {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(true),
                Err(_) if !reply.0.is_empty() => return Ok(false),
                Err(errno) => return Err(errno),
            };
            let (length, offset) = (entry.length, entry.offset);
            if reply.0.len() + size(entry.name, plus) > room {
                // Not even one entry fits: the guest must not take this for the end.
                return if reply.0.is_empty() { Err(Errno::INVAL) } else { Ok(false) };
            }
            let mut ino = entry.ino;
            if entry.name == b".." && self.is_share_root(node) {
                // What is above a share is not the guest's to see.
                ino = Status::of(directory)?.attr.ino;
            }
            let found = if plus { self.look_at(node, directory, entry.name) } else { Some(None) };
            // An entry that is gone meanwhile is left out.
            if let Some(found) = found {
                if plus {
                    reply.entry(&found.unwrap_or_default());
                }
                dirent(reply, ino, offset, entry.kind, entry.name);
            }
            listing.pass(length, offset);
        }
    }

    /// The node of an entry, of which the guest is told; `Some(None)` for one that it has to look up itself, `None` for
    /// one that is gone.
    fn look_at(&mut self, node: NodeId, directory: &OwnedFd, name: &[u8]) -> Option<Option<Entry>> {
        // `.` and `..` are no names.
        let Ok(name) = Name::new(name) else { return Some(None) };
        match Status::of_name(directory, &name) {
            Ok(status) => {
                let found = self.nodes.enter(node, &name, &status, None);
                Some(found.and_then(|found| self.entry_below(node, found, &status)).ok())
            }
            Err(Errno::NOENT) => None,
            Err(_) => Some(None),
        }
    }

    fn is_share_root(&self, node: NodeId) -> bool {
        self.shares.iter().any(|(_, share)| share.root == node)
    }

    fn list_shares(&mut self, offset: u64, room: usize, plus: bool, reply: &mut Body) -> Result<bool, Errno> {
        let dots = [(1, FileType::Directory, &b"."[..]), (2, FileType::Directory, b"..")];
        let shares = self
            .shares
            .iter()
            .map(|(place, share)| (place + 2, share.kind, share.name.as_c_str().to_bytes()));
        for (place, kind, name) in dots.into_iter().chain(shares).filter(|(place, ..)| *place > offset) {
            if reply.0.len() + size(name, plus) > room {
                return if reply.0.is_empty() { Err(Errno::INVAL) } else { Ok(false) };
            }
            if plus {
                reply.entry(&Entry::default());
            }
            // The number of the directory that a share is mounted on, which nothing else tells of.
            dirent(reply, if place <= 2 { ROOT } else { place }, place, kind_byte(kind), name);
        }
        Ok(true)
    }
}

/// An entry without a name, which says that the one before was the last. Where there is no room for it the guest opens
/// the directory and reads it again.
fn end(room: usize, reply: &mut Body) {
    if reply.0.len() + size(b"", true) <= room {
        reply.zeros(size(b"", true));
    }
}

/// Bytes of an entry in a reply.
fn size(name: &[u8], plus: bool) -> usize {
    (DIRENT + name.len()).next_multiple_of(8) + if plus { ENTRY } else { 0 }
}

/// `fuse_dirent`
fn dirent(reply: &mut Body, ino: u64, offset: u64, kind: u8, name: &[u8]) {
    reply.u64(ino).u64(offset).u32(u32::try_from(name.len()).unwrap_or(0)).u32(kind.into()).bytes(name);
    reply.zeros((DIRENT + name.len()).next_multiple_of(8) - DIRENT - name.len());
}

fn kind_byte(kind: FileType) -> u8 {
    if kind == FileType::Directory { libc::DT_DIR } else { libc::DT_REG }
}
