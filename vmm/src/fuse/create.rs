//! New files: `FUSE_CREATE`, `FUSE_TMPFILE`, `FUSE_MKNOD`, `FUSE_MKDIR`, `FUSE_SYMLINK`, `FUSE_LINK`.
//!
//! They are made as the user whose request it is, with that one's umask, which a default ACL of the directory overrides.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dispatch::Reply;
use super::handles::Handle;
use super::host::{self, Status};
use super::lookup::entry_reply;
use super::name::Name;
use super::nodes::NodeId;
use super::shares::refuse_in_root;
use super::wire::{Body, Entry, Fields, Header};
use super::{FuseServer, OPEN_FLAGS};

/// Bits of a mode beside the kind of file.
const PERMISSIONS: u32 = 0o7777;

impl FuseServer {
    /// Whoever makes something in a directory, and the directory's descriptor.
    fn directory_for(&mut self, header: &Header) -> Result<Arc<OwnedFd>, Errno> {
        refuse_in_root(header.node)?;
        let directory = self.nodes.descriptor(header.node)?;
        self.caller.act_as(header.uid, header.gid)?;
        Ok(directory)
    }

    pub(super) fn mknod(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (mode, device, umask, _) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let name = Name::new(body.last_string()?)?;
        let kind = FileType::from_raw_mode(mode);
        match kind {
            FileType::RegularFile | FileType::Fifo | FileType::Socket => {}
            // A whiteout of overlayfs, which is no device.
            FileType::CharacterDevice if device == 0 => {}
            _ => return Err(Errno::PERM),
        }
        let directory = self.directory_for(header)?;
        self.caller.mask(umask);
        rustix::fs::mknodat(directory, name.as_c_str(), kind, Mode::from_raw_mode(mode & PERMISSIONS), 0)?;
        self.entry(header.node, &name).map(|entry| entry_reply(&entry))
    }

    pub(super) fn mkdir(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (mode, umask) = (body.u32()?, body.u32()?);
        let name = Name::new(body.last_string()?)?;
        let directory = self.directory_for(header)?;
        self.caller.mask(umask);
        rustix::fs::mkdirat(directory, name.as_c_str(), Mode::from_raw_mode(mode & PERMISSIONS))?;
        self.entry(header.node, &name).map(|entry| entry_reply(&entry))
    }

    pub(super) fn symlink(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let name = Name::new(body.string()?)?;
        let target = CString::new(body.last_string()?).map_err(|_| Errno::INVAL)?;
        let directory = self.directory_for(header)?;
        rustix::fs::symlinkat(target.as_c_str(), directory, name.as_c_str())?;
        self.entry(header.node, &name).map(|entry| entry_reply(&entry))
    }

    pub(super) fn link(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let old = body.u64()?;
        let name = Name::new(body.last_string()?)?;
        refuse_in_root(old)?;
        let directory = self.directory_for(header)?;
        self.check_same_share(old, header.node)?;
        let file = self.nodes.descriptor(old)?;
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, host::path(&file), directory, name.as_c_str(), follow)?;
        self.entry(header.node, &name).map(|entry| entry_reply(&entry))
    }

    /// Names of one share do not lead into another, even where the host has both in one filesystem.
    pub(super) fn check_same_share(&self, one: NodeId, other: NodeId) -> Result<(), Errno> {
        if self.nodes.get(one)?.share == self.nodes.get(other)?.share { Ok(()) } else { Err(Errno::XDEV) }
    }

    pub(super) fn create(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (flags, mode, umask, more) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let name = Name::new(body.last_string()?)?;
        let flags = OFlags::from_bits_retain(flags);
        self.handles.check_room()?;
        let directory = self.directory_for(header)?;
        self.caller.mask(umask);
        let new = (flags & OPEN_FLAGS).difference(OFlags::TRUNC) | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        match self.nodes.with_room(|| host::open_below(&directory, &name, new, mode)) {
            Ok(file) => {
                let status = Status::of(&file)?;
                let node = self.nodes.enter(header.node, &name, &status, None)?;
                let entry = self.entry_below(header.node, node, &status)?;
                let handle = self.add_handle(node, file, new);
                Ok(created(&entry, handle, 0))
            }
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                let entry = self.entry(header.node, &name)?;
                match self.open_node(header, entry.node, flags, more) {
                    Ok((handle, flags)) => Ok(created(&entry, handle, flags)),
                    Err(errno) => {
                        self.nodes.forget(entry.node, 1);
                        Err(errno)
                    }
                }
            }
            Err(errno) => Err(errno),
        }
    }

    /// A file without a name. What the guest calls it means nothing.
    pub(super) fn tmpfile(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (flags, mode, umask) = (body.u32()?, body.u32()?, body.u32()?);
        self.handles.check_room()?;
        let share = self.nodes.get(header.node)?.share;
        let directory = self.directory_for(header)?;
        self.caller.mask(umask);
        let flags = OFlags::from_bits_retain(flags);
        let exclusive = flags & OFlags::EXCL;
        let flags =
            flags & (OFlags::ACCMODE | OFlags::NOATIME) | exclusive | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        let file = self.nodes.with_room(|| rustix::fs::openat(&directory, c".", flags, mode))?;
        let status = Status::of(&file)?;
        let node = self.nodes.enter_unnamed(share, &status, file.try_clone().map_err(|_| Errno::MFILE)?)?;
        let entry = self.entry_below(header.node, node, &status)?;
        let handle = self.add_handle(node, file, flags);
        Ok(created(&entry, handle, 0))
    }

    /// The handle of a file that was opened with `flags`. A guest that does without opening files never gives one back
    /// (Linux 6.12, `fuse_file_put`): it gets none, and the file stays at hand for a while.
    pub(super) fn add_handle(&mut self, node: NodeId, file: OwnedFd, flags: OFlags) -> u64 {
        let file = Arc::new(file);
        if self.session.no_open {
            self.handles.add_unasked(node, flags & OFlags::ACCMODE, file);
            return 0;
        }
        self.nodes.opened(node);
        self.handles.add(Handle { node, file, listing: None })
    }
}

fn created(entry: &Entry, handle: u64, flags: u32) -> Reply {
    let mut body = Body::default();
    body.entry(entry).open_out(handle, flags);
    Reply::Body(body)
}
