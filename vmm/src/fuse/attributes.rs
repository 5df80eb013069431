//! What is known about a file: `FUSE_GETATTR`, `FUSE_SETATTR`, `FUSE_STATX`, `FUSE_STATFS`, `FUSE_READLINK`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::FuseServer;
use super::dispatch::Reply;
use super::host::{self, Status};
use super::nodes::NodeId;
use super::shares::{refuse_in_root, root_attr};
use super::wire::{Body, Fields, Header, ROOT};

/// `FUSE_GETATTR_FH`
const GETATTR_HANDLE: u32 = 1;

/// `FATTR_*`: which fields of `fuse_setattr_in` are meant.
mod set {
    pub(super) const MODE: u32 = 1 << 0;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ATIME: u32 = 1 << 4;
    pub(super) const MTIME: u32 = 1 << 5;
    pub(super) const HANDLE: u32 = 1 << 6;
    pub(super) const ATIME_NOW: u32 = 1 << 7;
    pub(super) const MTIME_NOW: u32 = 1 << 8;
    pub(super) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `fuse_setattr_in`
struct Changes {
    valid: u32,
    handle: u64,
    size: u64,
    times: [Timespec; 2],
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Changes {
    fn parse(mut body: Fields<'_>) -> Result<Self, Errno> {
        let valid = body.u32()?;
        body.skip(4)?;
        let (handle, size, _lock_owner) = (body.u64()?, body.u64()?, body.u64()?);
        let seconds = [body.u64()?, body.u64()?, body.u64()?];
        let nanoseconds = [body.u32()?, body.u32()?, body.u32()?];
        let mode = body.u32()?;
        body.skip(4)?;
        let (uid, gid) = (body.u32()?, body.u32()?);
        let [atime, mtime, _] = seconds;
        let [atime_nsec, mtime_nsec, _] = nanoseconds;
        let time = |seconds: u64, nanoseconds: u32, given, now| Timespec {
            tv_sec: seconds.cast_signed(),
            tv_nsec: match valid {
                _ if valid & now != 0 => UTIME_NOW,
                _ if valid & given != 0 => nanoseconds.into(),
                _ => UTIME_OMIT,
            },
        };
        let times = [
            time(atime, atime_nsec, set::ATIME, set::ATIME_NOW),
            time(mtime, mtime_nsec, set::MTIME, set::MTIME_NOW),
        ];
        Ok(Self { valid, handle, size, times, mode, uid, gid })
    }

    fn has(&self, field: u32) -> bool {
        self.valid & field != 0
    }
}

impl FuseServer {
    pub(super) fn getattr(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let flags = body.u32()?;
        body.skip(4)?;
        let handle = body.u64()?;
        let mut reply = Body::default();
        if header.node == ROOT {
            reply.attr_out(&root_attr(), Duration::from_secs(1));
        } else {
            let status = self.status(header.node, (flags & GETATTR_HANDLE != 0).then_some(handle))?;
            reply.attr_out(&status.attr, self.attr_validity(header.node)?);
        }
        Ok(Reply::Body(reply))
    }

    fn attr_validity(&self, node: NodeId) -> Result<Duration, Errno> {
        Ok(self.shares.validity(self.nodes.get(node)?.share).attr)
    }

    /// What a node's file is now. A handle is of use for a file that cannot be found any more.
    fn status(&mut self, node: NodeId, handle: Option<u64>) -> Result<Status, Errno> {
        match handle.filter(|handle| *handle != 0) {
            Some(handle) => Status::of(&self.handles.get(node, handle)?.file),
            None => Status::of(self.nodes.descriptor(node)?),
        }
    }

    pub(super) fn setattr(&mut self, header: &Header, body: Fields<'_>) -> Result<Reply, Errno> {
        refuse_in_root(header.node)?;
        let changes = Changes::parse(body)?;
        let file = self.nodes.descriptor(header.node)?;
        if changes.has(set::MODE) {
            rustix::fs::chmodat(
                CWD,
                host::path(&file),
                Mode::from_raw_mode(changes.mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        let asks_for_none = |field, id| changes.has(field) && id == u32::MAX;
        if asks_for_none(set::UID, changes.uid) || asks_for_none(set::GID, changes.gid) {
            return Err(Errno::INVAL);
        }
        let uid = changes.has(set::UID).then(|| Uid::from_raw(changes.uid));
        let gid = changes.has(set::GID).then(|| Gid::from_raw(changes.gid));
        if uid.is_some() || gid.is_some() {
            rustix::fs::chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if changes.has(set::SIZE) {
            self.truncate(header, &file, &changes)?;
        }
        let [atime, mtime] = changes.times;
        if changes.has(set::ATIME | set::MTIME | set::ATIME_NOW | set::MTIME_NOW) {
            let times = Timestamps { last_access: atime, last_modification: mtime };
            rustix::fs::utimensat(CWD, host::path(&file), &times, AtFlags::empty())?;
        }
        let status = Status::of(&file)?;
        let mut reply = Body::default();
        reply.attr_out(&status.attr, self.attr_validity(header.node)?);
        Ok(Reply::Body(reply))
    }

    fn truncate(&mut self, header: &Header, file: &Arc<OwnedFd>, changes: &Changes) -> Result<(), Errno> {
        let opened = if changes.has(set::HANDLE) && changes.handle != 0 {
            self.handles.file(header.node, changes.handle)?
        } else {
            self.check_is_file(header.node)?;
            Arc::new(self.nodes.with_room(|| host::reopen(file, OFlags::WRONLY))?)
        };
        let truncate = || rustix::fs::ftruncate(&opened, changes.size);
        if changes.has(set::KILL_SUIDGID) {
            self.caller.without_fsetid(header.uid, header.gid, truncate)
        } else {
            truncate()
        }
    }

    pub(super) fn statx(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let flags = body.u32()?;
        body.skip(4)?;
        let handle = body.u64()?;
        // The guest's kernel does with GETATTR then.
        if header.node == ROOT {
            return Err(Errno::NOSYS);
        }
        let status = self.status(header.node, (flags & GETATTR_HANDLE != 0).then_some(handle))?;
        let valid = self.attr_validity(header.node)?;
        let statx = &status.statx;
        let mut reply = Body::default();
        reply.u64(valid.as_secs()).u32(valid.subsec_nanos()).u32(0).zeros(16);
        reply.u32(statx.stx_mask).u32(statx.stx_blksize).u64(statx.stx_attributes.bits());
        reply.u32(statx.stx_nlink).u32(statx.stx_uid).u32(statx.stx_gid).u16(statx.stx_mode).u16(0);
        reply.u64(statx.stx_ino).u64(statx.stx_size).u64(statx.stx_blocks);
        reply.u64(statx.stx_attributes_mask.bits());
        for time in [&statx.stx_atime, &statx.stx_btime, &statx.stx_ctime, &statx.stx_mtime] {
            reply.u64(time.tv_sec.cast_unsigned()).u32(time.tv_nsec).u32(0);
        }
        reply.u32(statx.stx_rdev_major).u32(statx.stx_rdev_minor).u32(0).u32(0).zeros(112);
        Ok(Reply::Body(reply))
    }

    pub(super) fn statfs(&mut self, header: &Header) -> Result<Reply, Errno> {
        let mut reply = Body::default();
        if header.node == ROOT {
            reply.zeros(40).u32(4096).u32(255).u32(4096).zeros(28);
            return Ok(Reply::Body(reply));
        }
        let found = rustix::fs::fstatvfs(self.nodes.descriptor(header.node)?)?;
        for count in [found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree] {
            reply.u64(count);
        }
        for size in [found.f_bsize, found.f_namemax, found.f_frsize] {
            reply.u32(u32::try_from(size).unwrap_or(u32::MAX));
        }
        reply.zeros(28);
        Ok(Reply::Body(reply))
    }

    pub(super) fn readlink(&mut self, header: &Header) -> Result<Reply, Errno> {
        refuse_in_root(header.node)?;
        let file = self.nodes.descriptor(header.node)?;
        let target = rustix::fs::readlinkat(file, c"", Vec::new())?;
        Ok(Reply::Body(Body(target.into_bytes())))
    }
}
