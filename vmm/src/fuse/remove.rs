//! Names that go or change: `FUSE_UNLINK`, `FUSE_RMDIR`, `FUSE_RENAME`, `FUSE_RENAME2`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::FuseServer;
use super::dispatch::Reply;
use super::host::Status;
use super::name::Name;
use super::nodes::NodeId;
use super::shares::refuse_in_root;
use super::wire::{Fields, Header};

/// Flags of renameat2(2) that a guest may give.
const RENAME_FLAGS: RenameFlags =
    RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE).union(RenameFlags::WHITEOUT);

impl FuseServer {
    pub(super) fn unlink(&mut self, header: &Header, body: Fields<'_>) -> Result<Reply, Errno> {
        self.remove(header, body, AtFlags::empty())
    }

    pub(super) fn rmdir(&mut self, header: &Header, body: Fields<'_>) -> Result<Reply, Errno> {
        self.remove(header, body, AtFlags::REMOVEDIR)
    }

    fn remove(&mut self, header: &Header, mut body: Fields<'_>, flags: AtFlags) -> Result<Reply, Errno> {
        let name = Name::new(body.last_string()?)?;
        refuse_in_root(header.node)?;
        let directory = self.nodes.descriptor(header.node)?;
        let held = self.known_and_held(header.node, &directory, &name);
        rustix::fs::unlinkat(&directory, name.as_c_str(), flags)?;
        if let Some((node, file)) = held {
            self.nodes.unnamed(node, header.node, &name, file);
        }
        Ok(Reply::done())
    }

    pub(super) fn rename(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let new_parent = body.u64()?;
        self.rename_to(header, new_parent, RenameFlags::empty(), body)
    }

    pub(super) fn rename2(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (new_parent, flags, _) = (body.u64()?, body.u32()?, body.u32()?);
        let flags = RenameFlags::from_bits_retain(flags);
        if !RENAME_FLAGS.contains(flags) {
            return Err(Errno::INVAL);
        }
        self.rename_to(header, new_parent, flags, body)
    }

    fn rename_to(
        &mut self,
        header: &Header,
        new_parent: NodeId,
        flags: RenameFlags,
        mut names: Fields<'_>,
    ) -> Result<Reply, Errno> {
        let (name, new_name) = (Name::new(names.string()?)?, Name::new(names.last_string()?)?);
        refuse_in_root(header.node)?;
        refuse_in_root(new_parent)?;
        self.check_same_share(header.node, new_parent)?;
        let directory = self.nodes.descriptor(header.node)?;
        let new_directory = self.nodes.descriptor(new_parent)?;
        // A whiteout is left in the place of what goes, and belongs to whoever renames.
        self.caller.act_as(header.uid, header.gid)?;
        let moved = self.known_and_held(header.node, &directory, &name);
        let replaced = self.known_and_held(new_parent, &new_directory, &new_name);
        rustix::fs::renameat_with(&directory, name.as_c_str(), &new_directory, new_name.as_c_str(), flags)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            if let Some((node, _)) = replaced {
                self.nodes.moved(node, header.node, &name);
            }
        } else if let Some((node, file)) = replaced
            && moved.as_ref().is_none_or(|(moved, _)| *moved != node)
        {
            self.nodes.unnamed(node, new_parent, &new_name, file);
        }
        if let Some((node, _)) = moved {
            self.nodes.moved(node, new_parent, &new_name);
        }
        Ok(Reply::done())
    }

    /// The node of a name that may be gone soon, and a descriptor that outlives the name; `None` when the guest does not
    /// know of it.
    fn known_and_held(
        &mut self,
        parent: NodeId,
        directory: &Arc<OwnedFd>,
        name: &Name,
    ) -> Option<(NodeId, Arc<OwnedFd>)> {
        let status = Status::of_name(directory, name).ok()?;
        let share = self.nodes.get(parent).ok()?.share;
        let node = self.nodes.known(share, &status)?;
        self.nodes.hold(node).ok().map(|file| (node, file))
    }
}
