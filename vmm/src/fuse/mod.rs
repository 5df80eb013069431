//! The file server: answers a guest's FUSE requests from shares of the host.
//!
//! bytes -> [`wire`] -> one method of [`FuseServer`] -> [`host`] -> bytes. It knows no virtio: a request is what is in
//! one set of buffers, its reply goes into another.
//!
//! The guest is not trusted, its kernel included. A name is a checked type ([`name`]), a share is a descriptor, and what
//! lies outside of it has no name here. Read-only is the host's mount. What is held for a guest is bounded ([`Limits`]).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable
)]

mod attributes;
mod caller;
#[cfg(any(test, feature = "fuzzing"))]
mod client;
mod create;
mod data;
mod directory;
mod dispatch;
mod handles;
mod host;
mod lookup;
mod name;
mod nodes;
mod remove;
mod session;
mod shares;
mod stats;
mod sys;
mod wire;
mod xattrs;

use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

#[cfg(any(test, feature = "fuzzing"))]
pub use client::{Client, Reply};
pub(crate) use dispatch::{Answer, JobResult, Pending, Ticket};
pub use stats::FsCounts;
pub(crate) use stats::FsStats;

use crate::config::ShareFile;
use caller::Caller;
use handles::Handles;
use host::Status;
use name::Name;
use nodes::{MAX_CACHED, NodeLimits, Nodes};
use session::Session;
use shares::{Share, Shares};

/// Descriptors that are left for everything else in this process.
const RESERVED_FDS: usize = 1024;

/// The least guest memory that a Linux guest spends for a file that it knows of: its inode and its dentry.
const GUEST_BYTES_PER_NODE: u64 = 512;

/// What a guest can make the server hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    nodes: NodeLimits,
    handles: usize,
}

impl Limits {
    /// For a guest with `memory` bytes, in a process that may have `descriptors` open.
    pub(crate) fn new(memory: u64, descriptors: u64) -> Self {
        let nodes = usize::try_from(memory / GUEST_BYTES_PER_NODE).unwrap_or(usize::MAX);
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let cached = MAX_CACHED.min(descriptors / 4);
        let rest = descriptors.saturating_sub(cached + RESERVED_FDS) / 2;
        Self { nodes: NodeLimits { nodes, cached, pinned: rest.max(64) }, handles: rest.max(64) }
    }
}

/// A file server. It belongs to the thread that made it, whose identity it changes.
#[derive(Debug)]
pub(crate) struct FuseServer {
    caller: Caller,
    shares: Shares,
    nodes: Nodes,
    handles: Handles,
    session: Session,
    stats: Arc<FsStats>,
}

impl FuseServer {
    /// Makes a server without shares; the calling thread becomes the one that serves.
    ///
    /// # Errors
    /// When the thread cannot get a working directory of its own in /proc.
    pub(crate) fn new(limits: Limits, stats: Arc<FsStats>) -> io::Result<Self> {
        Ok(Self {
            caller: Caller::enter()?,
            shares: Shares::default(),
            nodes: Nodes::new(limits.nodes),
            handles: Handles::new(limits.handles),
            session: Session::default(),
            stats,
        })
    }

    /// Adds a share to the root directory.
    ///
    /// # Errors
    /// `EEXIST` for a name that there is already, `EINVAL` for what is no name; what opening a single file gives.
    pub(crate) fn add_share(&mut self, share: ShareFile) -> io::Result<()> {
        let name = Name::new(share.name.as_bytes())?;
        if self.shares.by_name(&name).is_some() {
            return Err(Errno::EXIST.into());
        }
        let file = match &share.only {
            Some(only) => host::find(&share.root, &Name::new(only.to_bytes())?)?,
            None => share.root,
        };
        let status = Status::of(&file)?;
        if share.only.is_some() && status.kind == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        let root = self.nodes.add_root(self.shares.next(), &status, file);
        self.shares.add(Share { name, root, kind: status.kind, validity: share.cache.into() });
        Ok(())
    }

    /// Removes a share: what the guest still has open of it is closed, and its files are stale.
    ///
    /// # Errors
    /// `ENOENT`
    pub(crate) fn remove_share(&mut self, name: &str) -> io::Result<()> {
        let name = Name::new(name.as_bytes())?;
        let index = self.shares.remove(&name).ok_or(Errno::NOENT)?;
        self.nodes.remove_share(index);
        let nodes = &self.nodes;
        self.handles.retain(|node| node == wire::ROOT || nodes.get(node).is_ok());
        self.count_held();
        Ok(())
    }

    /// Forgets the guest: what it has open is closed.
    pub(crate) fn reset(&mut self) {
        self.handles.retain(|_| false);
        self.nodes.clear();
        self.session = Session::default();
        self.count_held();
    }

    fn count_held(&self) {
        self.stats.holds(self.nodes.len(), self.nodes.descriptors(), self.handles.len());
    }
}

/// Flags of open(2) by which the guest may open a file. Others are the guest's own affair: it appends and syncs itself.
const OPEN_FLAGS: OFlags = OFlags::ACCMODE.union(OFlags::TRUNC).union(OFlags::NOATIME);

#[cfg(test)]
mod tests;
