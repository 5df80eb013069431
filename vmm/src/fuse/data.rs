//! Open files and what is in them: `FUSE_OPEN`, `FUSE_RELEASE`, `FUSE_READ`, `FUSE_WRITE`, `FUSE_FSYNC`,
//! `FUSE_FALLOCATE`, `FUSE_LSEEK`, `FUSE_COPY_FILE_RANGE`, `FUSE_SYNCFS`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use super::dispatch::{Reply, Request};
use super::host::{self, Status, Time};
use super::nodes::NodeId;
use super::shares::refuse_in_root;
use super::wire::{Body, FOPEN_KEEP_CACHE, Fields, Header, IN_HEADER, ROOT, WRITE_IN};
use super::{FuseServer, OPEN_FLAGS, session};
use crate::buffers::Buffers;

/// `FUSE_OPEN_KILL_SUIDGID`
const OPEN_KILL_SUIDGID: u32 = 1;
/// `FUSE_WRITE_CACHE`: pages of a mapping, which have their place whatever the file was opened for.
const WRITE_CACHE: u32 = 1;
/// `FUSE_WRITE_KILL_SUIDGID`
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `FUSE_FSYNC_FDATASYNC`
const FDATASYNC: u32 = 1;
/// The longest read: what the guest's kernel asks for at most.
const MAX_READ: usize = 1 << 20;
/// The longest write, of which the guest was told.
const MAX_WRITE: usize = session::MAX_WRITE as usize;
/// The longest copy that one request makes: the guest asks again for the rest.
const MAX_COPY: u64 = 64 << 20;
/// Changes within so much time can have one timestamp: more than a tick of any host.
const TIMESTAMP_NANOSECONDS: i128 = 50_000_000;

/// Modes of fallocate(2) that a guest may give.
const FALLOCATE_FLAGS: FallocateFlags =
    FallocateFlags::KEEP_SIZE.union(FallocateFlags::PUNCH_HOLE).union(FallocateFlags::ZERO_RANGE);

impl FuseServer {
    pub(super) fn open(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (flags, more) = (body.u32()?, body.u32()?);
        if self.session.no_open {
            return Err(Errno::NOSYS);
        }
        refuse_in_root(header.node)?;
        let (handle, flags) = self.open_node(header, header.node, OFlags::from_bits_retain(flags), more)?;
        let mut reply = Body::default();
        reply.open_out(handle, flags);
        Ok(Reply::Body(reply))
    }

    /// Opens a node's file; gives its handle, and flags for the guest.
    pub(super) fn open_node(
        &mut self,
        header: &Header,
        node: NodeId,
        flags: OFlags,
        more: u32,
    ) -> Result<(u64, u32), Errno> {
        self.handles.check_room()?;
        self.check_is_file(node)?;
        let file = self.nodes.descriptor(node)?;
        let flags = flags & OPEN_FLAGS;
        let open = || match host::reopen(&file, flags) {
            // The guest's kernel has allowed it; without the privilege here the time is changed.
            Err(Errno::PERM) => host::reopen(&file, flags.difference(OFlags::NOATIME)),
            result => result,
        };
        let opened = if more & OPEN_KILL_SUIDGID != 0 && flags.contains(OFlags::TRUNC) {
            let caller = &mut self.caller;
            self.nodes.with_room(|| caller.without_fsetid(header.uid, header.gid, open))?
        } else {
            self.nodes.with_room(open)?
        };
        let is_unchanged = self.is_unchanged_since_opened(node, &Status::of(&opened)?)?;
        Ok((self.add_handle(node, opened, flags), if is_unchanged { FOPEN_KEEP_CACHE } else { 0 }))
    }

    /// Only regular files are opened: others are the guest's own (a fifo), or nothing that a guest may reach.
    pub(super) fn check_is_file(&self, node: NodeId) -> Result<(), Errno> {
        match self.nodes.get(node)?.kind {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::PERM),
        }
    }

    /// Whether what the guest has cached of the file since it last opened it still holds.
    pub(super) fn is_unchanged_since_opened(&mut self, node: NodeId, status: &Status) -> Result<bool, Errno> {
        let share = self.nodes.get(node)?.share;
        let is_immutable = self.shares.validity(share).is_immutable;
        let known = self.nodes.get_mut(node)?;
        let is_unchanged = known.opened_at == Some(status.changed);
        // A file that has just been changed may be changed once more without another timestamp.
        known.opened_at = is_settled(status.changed).then_some(status.changed);
        Ok(is_unchanged || is_immutable)
    }

    pub(super) fn release(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let handle = body.u64()?;
        let has_none = header.node == ROOT || (handle == 0 && self.session.no_open);
        if !has_none {
            self.handles.remove(header.node, handle)?;
            self.nodes.closed(header.node);
        }
        Ok(Reply::done())
    }

    pub(super) fn read(&mut self, request: &Request<'_, '_>) -> Result<Reply, Errno> {
        let mut body = request.body;
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        let file = self.file(request.header.node, handle, OFlags::RDONLY)?;
        let room = request.room.range(0, usize::try_from(size).unwrap_or(usize::MAX).min(MAX_READ));
        let mut done = 0;
        // What the host has in memory is read at once. A read that is short tells the guest that the file ends there.
        let mut flags = libc::RWF_NOWAIT;
        while done < room.len() {
            let part = room.range(done, usize::MAX);
            match part.read_from(file.as_fd(), offset.saturating_add(done as u64), flags) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // Not every filesystem can tell whether it would have to wait.
                Err(Errno::OPNOTSUPP | Errno::INVAL) if flags != 0 => flags = 0,
                Err(Errno::AGAIN) if flags != 0 => {
                    let (start, length) = (offset.saturating_add(done as u64), room.len() - done);
                    self.stats.read(done);
                    let stats = Arc::clone(&self.stats);
                    let read =
                        move || read_later(&file, start, length).inspect(|bytes| stats.read(bytes.len()));
                    return Ok(Reply::Later(done, Box::new(read)));
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        self.stats.read(done);
        Ok(Reply::Data(done))
    }

    pub(super) fn write(&mut self, request: &Request<'_, '_>) -> Result<Reply, Errno> {
        let mut body = request.body;
        let (handle, offset, size, how) = (body.u64()?, body.u64()?, body.u32()?, body.u32()?);
        body.skip(8)?;
        let flags = OFlags::from_bits_retain(body.u32()?);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let data = request.buffers.range(IN_HEADER + WRITE_IN, size);
        // A chain may name the same memory many times, so that what it holds is no bound.
        if data.len() < size || size > MAX_WRITE {
            return Err(Errno::INVAL);
        }
        let file = self.file(request.header.node, handle, OFlags::RDWR)?;
        let appends = flags.contains(OFlags::APPEND) && how & WRITE_CACHE == 0;
        let write = || write_all(file.as_fd(), &data, offset, if appends { libc::RWF_APPEND } else { 0 });
        let written = if how & WRITE_KILL_SUIDGID != 0 && has_special_bits(&file)? {
            self.caller.without_fsetid(request.header.uid, request.header.gid, write)?
        } else {
            write()?
        };
        self.stats.written(written);
        let mut reply = Body::default();
        reply.u32(u32::try_from(written).unwrap_or(u32::MAX)).u32(0);
        Ok(Reply::Body(reply))
    }

    pub(super) fn fsync(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (handle, flags) = (body.u64()?, body.u32()?);
        if header.node == ROOT {
            return Ok(Reply::done());
        }
        let file = match handle {
            0 => Arc::new(self.reopened(header.node)?),
            _ => Arc::clone(&self.handles.get(header.node, handle)?.file),
        };
        let data_only = flags & FDATASYNC != 0;
        Ok(later(move || if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }))
    }

    /// The filesystem that a share, or a mount in it, is on.
    pub(super) fn syncfs(&mut self, header: &Header) -> Result<Reply, Errno> {
        let nodes: Vec<_> = match header.node {
            ROOT => self.shares.iter().map(|(_, share)| share.root).collect(),
            node => vec![node],
        };
        // What cannot be opened for it has nothing that the guest has written.
        let files: Vec<_> = nodes.into_iter().filter_map(|node| self.reopened(node).ok()).collect();
        Ok(later(move || files.into_iter().try_for_each(rustix::fs::syncfs)))
    }

    pub(super) fn fallocate(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (handle, offset, length, mode) = (body.u64()?, body.u64()?, body.u64()?, body.u32()?);
        let mode = FallocateFlags::from_bits_retain(mode);
        if !FALLOCATE_FLAGS.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        let file = self.file(header.node, handle, OFlags::RDWR)?;
        if header.uid != 0 && has_special_bits(&file)? {
            let allocate = || rustix::fs::fallocate(&file, mode, offset, length);
            self.caller.without_fsetid(header.uid, header.gid, allocate)?;
            return Ok(Reply::done());
        }
        Ok(later(move || rustix::fs::fallocate(&file, mode, offset, length)))
    }

    pub(super) fn lseek(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (handle, offset, whence) = (body.u64()?, body.u64()?, body.u32()?);
        let file = self.file(header.node, handle, OFlags::RDONLY)?;
        let place = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let mut reply = Body::default();
        reply.u64(rustix::fs::seek(file, place)?);
        Ok(Reply::Body(reply))
    }

    pub(super) fn copy_file_range(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (handle, mut offset) = (body.u64()?, body.u64()?);
        let (node_out, handle_out, mut offset_out) = (body.u64()?, body.u64()?, body.u64()?);
        let (length, flags) = (body.u64()?, body.u64()?);
        if flags != 0 {
            return Err(Errno::INVAL);
        }
        let from = self.file(header.node, handle, OFlags::RDONLY)?;
        let to = self.file(node_out, handle_out, OFlags::RDWR)?;
        let length = usize::try_from(length.min(MAX_COPY)).unwrap_or(usize::MAX);
        let loses_bits = header.uid != 0 && has_special_bits(&to)?;
        let copy = move || {
            let copied =
                rustix::fs::copy_file_range(&from, Some(&mut offset), &to, Some(&mut offset_out), length)?;
            let mut reply = Body::default();
            reply.u32(u32::try_from(copied).unwrap_or(u32::MAX)).u32(0);
            Ok(reply.0)
        };
        if loses_bits {
            return self
                .caller
                .without_fsetid(header.uid, header.gid, copy)
                .map(|reply| Reply::Body(Body(reply)));
        }
        Ok(Reply::Later(0, Box::new(copy)))
    }

    /// The file behind a handle, or, where the guest does without opening files, the node's file.
    fn file(&mut self, node: NodeId, handle: u64, flags: OFlags) -> Result<Arc<OwnedFd>, Errno> {
        if handle != 0 || !self.session.no_open {
            return self.handles.file(node, handle);
        }
        if let Some(file) = self.handles.unasked(node, flags) {
            return Ok(file);
        }
        self.check_is_file(node)?;
        let found = self.nodes.descriptor(node)?;
        let file = Arc::new(self.nodes.with_room(|| host::reopen(&found, flags))?);
        self.handles.add_unasked(node, flags, Arc::clone(&file));
        Ok(file)
    }

    /// A node's file or directory, open for reading.
    pub(super) fn reopened(&mut self, node: NodeId) -> Result<OwnedFd, Errno> {
        if self.nodes.get(node)?.kind != FileType::Directory {
            self.check_is_file(node)?;
        }
        let found = self.nodes.descriptor(node)?;
        self.nodes.with_room(|| host::reopen(&found, OFlags::RDONLY))
    }
}

/// A reply without a body, to what may take long.
fn later(job: impl FnOnce() -> Result<(), Errno> + Send + 'static) -> Reply {
    Reply::Later(0, Box::new(|| job().map(|()| Vec::new())))
}

/// Reads what is not in the host's memory yet.
fn read_later(file: &OwnedFd, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while let Some(part) = bytes.get_mut(done..).filter(|part| !part.is_empty()) {
        match rustix::io::pread(file, part, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Writes all of it, unless the file ends up full.
fn write_all(file: BorrowedFd<'_>, data: &Buffers<'_>, offset: u64, flags: i32) -> Result<usize, Errno> {
    let mut done = 0;
    while done < data.len() {
        let part = data.range(done, usize::MAX);
        match part.write_to(file, offset.saturating_add(done as u64), flags) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Whether a file has a set-user-ID or set-group-ID bit.
fn has_special_bits(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstat(file)?.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0)
}

/// Whether a change lies so far back that the next one has another timestamp.
fn is_settled((seconds, nanoseconds): Time) -> bool {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
    let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
    now - (i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)) > TIMESTAMP_NANOSECONDS
}
