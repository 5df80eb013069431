//! Files and directories that the guest has open.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::Listing;
use super::nodes::NodeId;

/// An open file or directory.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) node: NodeId,
    pub(super) file: Arc<OwnedFd>,
    /// How far a directory was read; `None` for a file.
    pub(super) listing: Option<Listing>,
}

/// All of them. A handle is a number that the guest gets from opening and gives back; it serves for its own node alone.
#[derive(Debug)]
pub(super) struct Handles {
    handles: HashMap<u64, Handle>,
    next: u64,
    limit: usize,
    /// Files that are used without having been opened, the newest last.
    unasked: VecDeque<(NodeId, OFlags, Arc<OwnedFd>)>,
    /// Directories of which something was read ahead, the newest last.
    ahead: VecDeque<u64>,
}

/// Directories of which something is read ahead: each takes memory, and a guest may have very many open.
const MAX_AHEAD: usize = 64;

/// Files that are kept open for a guest that does without opening them.
const MAX_UNASKED: usize = 256;

impl Handles {
    /// At most `limit` at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self { handles: HashMap::new(), next: 1, limit, unasked: VecDeque::new(), ahead: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether one more may be opened.
    ///
    /// # Errors
    /// `ENFILE`
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        if self.handles.len() < self.limit { Ok(()) } else { Err(Errno::NFILE) }
    }

    pub(super) fn add(&mut self, handle: Handle) -> u64 {
        let number = self.next;
        self.next += 1;
        self.handles.insert(number, handle);
        number
    }

    /// The file or directory behind a handle.
    ///
    /// # Errors
    /// `EBADF`: the guest has no such handle for this node.
    pub(super) fn get(&mut self, node: NodeId, number: u64) -> Result<&mut Handle, Errno> {
        self.handles.get_mut(&number).filter(|handle| handle.node == node).ok_or(Errno::BADF)
    }

    /// Keeps how far a directory was read.
    ///
    /// # Errors
    /// `EBADF`
    pub(super) fn keep_listing(&mut self, node: NodeId, number: u64, listing: Listing) -> Result<(), Errno> {
        self.get(node, number)?.listing = Some(listing);
        if self.ahead.back() != Some(&number) {
            self.ahead.retain(|other| *other != number);
            self.ahead.push_back(number);
        }
        if self.ahead.len() > MAX_AHEAD
            && let Some(oldest) = self.ahead.pop_front()
            && let Some(listing) = self.handles.get_mut(&oldest).and_then(|handle| handle.listing.as_mut())
        {
            listing.drop_ahead();
        }
        Ok(())
    }

    /// Number of directories of which something is read ahead.
    #[cfg(test)]
    pub(super) fn read_ahead(&self) -> usize {
        let listings = self.handles.values().filter_map(|handle| handle.listing.as_ref());
        listings.filter(|listing| listing.is_ahead()).count()
    }

    /// The file behind a handle.
    ///
    /// # Errors
    /// `EBADF`, also when it is a directory.
    pub(super) fn file(&mut self, node: NodeId, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        let handle = self.get(node, number)?;
        if handle.listing.is_some() { Err(Errno::BADF) } else { Ok(Arc::clone(&handle.file)) }
    }

    /// Closes a handle.
    ///
    /// # Errors
    /// `EBADF`
    pub(super) fn remove(&mut self, node: NodeId, number: u64) -> Result<(), Errno> {
        self.get(node, number)?;
        self.handles.remove(&number);
        Ok(())
    }

    /// A file that is in use without having been opened.
    pub(super) fn unasked(&self, node: NodeId, flags: OFlags) -> Option<Arc<OwnedFd>> {
        let is_it = |(of, by, _): &&(NodeId, OFlags, _)| (*of, *by) == (node, flags);
        self.unasked.iter().rev().find(is_it).map(|(.., file)| Arc::clone(file))
    }

    /// Keeps a file open for a while.
    pub(super) fn add_unasked(&mut self, node: NodeId, flags: OFlags, file: Arc<OwnedFd>) {
        if self.unasked.len() >= MAX_UNASKED {
            self.unasked.pop_front();
        }
        self.unasked.push_back((node, flags, file));
    }

    /// Closes those of nodes that are gone.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(NodeId) -> bool) {
        self.unasked.retain(|(node, ..)| is_kept(*node));
        self.handles.retain(|_, handle| is_kept(handle.node));
    }
}
