//! Names to nodes: `FUSE_LOOKUP`, and `FUSE_FORGET`, which takes them back.

use rustix::fs::FileType;
use rustix::io::Errno;

use super::FuseServer;
use super::dispatch::Reply;
use super::host::{self, Status};
use super::name::Name;
use super::nodes::NodeId;
use super::shares::Validity;
use super::wire::{ATTR_SUBMOUNT, Body, Entry, Fields, Header, ROOT};

impl FuseServer {
    pub(super) fn lookup(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let name = Name::new(body.last_string()?)?;
        if header.node == ROOT {
            return self.lookup_share(&name);
        }
        match self.entry(header.node, &name) {
            Err(Errno::NOENT) => {
                let share = self.nodes.get(header.node)?.share;
                let entry_valid = self.shares.validity(share).entry;
                Ok(entry_reply(&Entry { entry_valid, ..Entry::default() }))
            }
            entry => entry.map(|entry| entry_reply(&entry)),
        }
    }

    fn lookup_share(&mut self, name: &Name) -> Result<Reply, Errno> {
        let share = self.shares.by_name(name).ok_or(Errno::NOENT)?;
        let (root, validity) = (share.root, share.validity);
        let status = Status::of(self.nodes.descriptor(root)?)?;
        Ok(entry_reply(&entry_of(root, &status, validity, true)))
    }

    /// The entry for a name, of which the guest is told.
    pub(super) fn entry(&mut self, parent: NodeId, name: &Name) -> Result<Entry, Errno> {
        let directory = self.nodes.descriptor(parent)?;
        let file = self.nodes.with_room(|| host::find(&directory, name))?;
        let status = Status::of(&file)?;
        let node = self.nodes.enter(parent, name, &status, Some(file))?;
        self.entry_below(parent, node, &status)
    }

    /// The entry for a node that was entered below a directory.
    pub(super) fn entry_below(&self, parent: NodeId, node: NodeId, status: &Status) -> Result<Entry, Errno> {
        let parent = self.nodes.get(parent)?;
        let validity = self.shares.validity(parent.share);
        Ok(entry_of(node, status, validity, parent.mount() != status.id.mount))
    }

    pub(super) fn forget(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        self.nodes.forget(header.node, body.u64()?);
        Ok(Reply::Silent)
    }

    pub(super) fn batch_forget(&mut self, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let count = body.u32()?;
        body.skip(4)?;
        for _ in 0..count {
            let (node, lookups) = (body.u64()?, body.u64()?);
            self.nodes.forget(node, lookups);
        }
        Ok(Reply::Silent)
    }
}

/// An entry as the guest gets it. A directory that is another mount than the one above it has a device number of its own
/// in the guest too.
fn entry_of(node: NodeId, status: &Status, validity: Validity, is_mount: bool) -> Entry {
    let mut attr = status.attr;
    if is_mount && status.kind == FileType::Directory {
        attr.flags |= ATTR_SUBMOUNT;
    }
    Entry { node, entry_valid: validity.entry, attr_valid: validity.attr, attr }
}

/// A reply that is an entry.
pub(super) fn entry_reply(entry: &Entry) -> Reply {
    let mut body = Body::default();
    body.entry(entry);
    Reply::Body(body)
}
