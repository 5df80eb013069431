//! What the guest knows of: each node is a file of the host, kept as a name below its parent.
//!
//! A descriptor for it is a cache, which may be dropped and found again by the name; it is then checked that it is the
//! same file. So the number of descriptors does not grow with what the guest knows of. A file without a name (unlinked
//! while the guest still knows of it, or made without one) keeps its descriptor.
//!
//! What the guest says of lookups being forgotten is believed only so far as it was counted: a node that has children,
//! open files or lookups stays.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::host::{self, FileId, Status, Time};
use super::name::Name;

/// Descriptors that are kept for nodes with names.
pub(super) const MAX_CACHED: usize = 4096;

/// A file as the guest names it. It is never used again for another.
pub(super) type NodeId = u64;

/// Bounds of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeLimits {
    /// Nodes in all.
    pub(super) nodes: usize,
    /// Descriptors for files with names.
    pub(super) cached: usize,
    /// Descriptors for files without names.
    pub(super) pinned: usize,
}

/// A file's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: NodeId,
    pub(super) name: Name,
}

#[derive(Debug)]
enum Descriptor {
    None,
    /// May be dropped; `used` since the last look for one to drop.
    Cached {
        fd: Arc<OwnedFd>,
        used: bool,
    },
    /// Cannot be found again.
    Pinned(Arc<OwnedFd>),
}

/// One file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: FileType,
    /// The share that it is in.
    pub(super) share: u32,
    /// Its last change when the guest last opened it: what the guest has cached is from then or later.
    pub(super) opened_at: Option<Time>,
    id: FileId,
    born: Option<Time>,
    lookups: u64,
    children: u64,
    handles: u64,
    is_root: bool,
    place: Option<Place>,
    descriptor: Descriptor,
}

impl Node {
    fn is_idle(&self) -> bool {
        !self.is_root && self.lookups == 0 && self.children == 0 && self.handles == 0
    }

    /// The mount that it is in.
    pub(super) fn mount(&self) -> u64 {
        self.id.mount
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: HashMap<NodeId, Node>,
    by_file: HashMap<(u32, FileId), NodeId>,
    next: NodeId,
    /// Whose descriptor to drop next; some have none any more.
    queue: VecDeque<NodeId>,
    cached: usize,
    pinned: usize,
    limits: NodeLimits,
}

impl Nodes {
    pub(super) fn new(limits: NodeLimits) -> Self {
        Self {
            nodes: HashMap::new(),
            by_file: HashMap::new(),
            next: super::wire::ROOT + 1,
            queue: VecDeque::new(),
            cached: 0,
            pinned: 0,
            limits,
        }
    }

    /// A node that the guest has named. One that is not known is stale.
    pub(super) fn get(&self, id: NodeId) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&id).ok_or(Errno::STALE)
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Descriptors that may be dropped, and those that may not.
    pub(super) fn descriptors(&self) -> (usize, usize) {
        (self.cached, self.pinned)
    }

    /// The root of a share: it stays until the share is removed.
    pub(super) fn add_root(&mut self, share: u32, status: &Status, fd: OwnedFd) -> NodeId {
        let id = self.insert(share, status, None, Descriptor::Pinned(Arc::new(fd)));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_root = true;
        }
        self.pinned += 1;
        id
    }

    /// Forgets every node of a share.
    pub(super) fn remove_share(&mut self, share: u32) {
        let of_share: Vec<_> =
            self.nodes.iter().filter(|(_, node)| node.share == share).map(|(id, _)| *id).collect();
        for id in of_share {
            self.take(id);
        }
    }

    /// Forgets all but the roots of shares, as a guest does that starts anew.
    pub(super) fn clear(&mut self) {
        let known: Vec<_> = self.nodes.iter().filter(|(_, node)| !node.is_root).map(|(id, _)| *id).collect();
        for id in known {
            self.take(id);
        }
        for node in self.nodes.values_mut() {
            (node.lookups, node.children, node.handles) = (0, 0, 0);
        }
    }

    /// The node of a file that was found in a directory, which the guest is told of: one more lookup.
    ///
    /// # Errors
    /// `ENFILE`: the guest knows of too many files.
    pub(super) fn enter(
        &mut self,
        parent: NodeId,
        name: &Name,
        status: &Status,
        fd: Option<OwnedFd>,
    ) -> Result<NodeId, Errno> {
        let share = self.get(parent)?.share;
        let place = Place { parent, name: name.clone() };
        let id = match self.known(share, status) {
            Some(id) => {
                self.put(id, Some(place));
                id
            }
            None if self.nodes.len() >= self.limits.nodes => return Err(Errno::NFILE),
            None => {
                let id = self.insert(share, status, None, Descriptor::None);
                self.put(id, Some(place));
                id
            }
        };
        if let Some(fd) = fd {
            self.cache(id, Arc::new(fd));
        }
        self.get_mut(id)?.lookups += 1;
        Ok(id)
    }

    /// The node of a file without a name, which the guest is told of.
    ///
    /// # Errors
    /// `ENFILE`: the guest knows of too many files.
    pub(super) fn enter_unnamed(
        &mut self,
        share: u32,
        status: &Status,
        fd: OwnedFd,
    ) -> Result<NodeId, Errno> {
        if self.nodes.len() >= self.limits.nodes || self.pinned >= self.limits.pinned {
            return Err(Errno::NFILE);
        }
        let id = self.insert(share, status, None, Descriptor::Pinned(Arc::new(fd)));
        self.pinned += 1;
        self.get_mut(id)?.lookups += 1;
        Ok(id)
    }

    /// The node of a file, if the guest knows of it.
    pub(super) fn known(&self, share: u32, status: &Status) -> Option<NodeId> {
        let id = *self.by_file.get(&(share, status.id))?;
        self.nodes.get(&id).is_some_and(|node| status.is_same(node.id, node.born, node.kind)).then_some(id)
    }

    /// Takes back lookups that the guest was told of, or says to have forgotten.
    pub(super) fn forget(&mut self, id: NodeId, count: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(count);
            self.remove_idle(id);
        }
    }

    /// A file of the node was opened.
    pub(super) fn opened(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles += 1;
        }
    }

    /// A file of the node was closed.
    pub(super) fn closed(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles = node.handles.saturating_sub(1);
            self.remove_idle(id);
        }
    }

    /// The node was moved to another name.
    pub(super) fn moved(&mut self, id: NodeId, parent: NodeId, name: &Name) {
        self.put(id, Some(Place { parent, name: name.clone() }));
    }

    /// Keeps the node's file at hand, since the name by which it is known is about to go.
    pub(super) fn hold(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        self.descriptor(id)
    }

    /// The name by which the node is known is gone; `held` is from [`Nodes::hold`].
    pub(super) fn unnamed(&mut self, id: NodeId, parent: NodeId, name: &Name, held: Arc<OwnedFd>) {
        let is_at = |place: &Place| place.parent == parent && place.name == *name;
        if !self.nodes.get(&id).is_some_and(|node| node.place.as_ref().is_some_and(is_at)) {
            return;
        }
        self.drop_descriptor(id);
        // Beyond the bound the file is lost to the guest, which then gets ESTALE.
        if self.pinned < self.limits.pinned
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.descriptor = Descriptor::Pinned(held);
            self.pinned += 1;
        }
        self.put(id, None);
    }

    /// A descriptor that stands for the node's file.
    ///
    /// # Errors
    /// `ESTALE`: the node is not known, or the file is no longer where it was.
    pub(super) fn descriptor(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        // Upwards to the first directory that is at hand, then down again.
        let mut missing = Vec::new();
        let mut at = id;
        let mut fd = loop {
            let node = self.get_mut(at)?;
            match &mut node.descriptor {
                Descriptor::Cached { fd, used } => {
                    *used = true;
                    break Arc::clone(fd);
                }
                Descriptor::Pinned(fd) => break Arc::clone(fd),
                Descriptor::None => {
                    let place = node.place.as_ref().ok_or(Errno::STALE)?;
                    missing.push(at);
                    at = place.parent;
                    // Directories moved about on the host must not make this a circle.
                    if missing.len() > self.nodes.len() {
                        return Err(Errno::STALE);
                    }
                }
            }
        };
        for id in missing.into_iter().rev() {
            fd = self.find_again(id, &fd)?;
        }
        Ok(fd)
    }

    fn find_again(&mut self, id: NodeId, directory: &Arc<OwnedFd>) -> Result<Arc<OwnedFd>, Errno> {
        let node = self.get(id)?;
        let (known, born, kind) = (node.id, node.born, node.kind);
        let name = node.place.as_ref().ok_or(Errno::STALE)?.name.clone();
        let found = self.with_room(|| host::find(directory, &name));
        let found = found.map_err(|errno| if errno == Errno::NOENT { Errno::STALE } else { errno })?;
        if !Status::of(&found)?.is_same(known, born, kind) {
            return Err(Errno::STALE);
        }
        let found = Arc::new(found);
        self.cache(id, Arc::clone(&found));
        Ok(found)
    }

    fn insert(
        &mut self,
        share: u32,
        status: &Status,
        place: Option<Place>,
        descriptor: Descriptor,
    ) -> NodeId {
        let id = self.next;
        self.next += 1;
        let node = Node {
            kind: status.kind,
            share,
            opened_at: None,
            id: status.id,
            born: status.born,
            lookups: 0,
            children: 0,
            handles: 0,
            is_root: false,
            place,
            descriptor,
        };
        // Where the file's number had another file before, that one is gone from the host.
        self.by_file.insert((share, status.id), id);
        self.nodes.insert(id, node);
        id
    }

    /// Gives the node this place, or none.
    fn put(&mut self, id: NodeId, place: Option<Place>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.is_root || node.place == place {
            return;
        }
        let parent = place.as_ref().map(|place| place.parent);
        let before = std::mem::replace(&mut node.place, place).map(|place| place.parent);
        if parent.is_some()
            && let Descriptor::Pinned(fd) = &node.descriptor
        {
            let fd = Arc::clone(fd);
            self.drop_descriptor(id);
            self.cache(id, fd);
        }
        if let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children += 1;
        }
        if let Some(parent) = before {
            self.lost_child(parent);
        }
    }

    fn lost_child(&mut self, parent: NodeId) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
            self.remove_idle(parent);
        }
    }

    /// Removes a node that nothing keeps, then those that only it kept.
    fn remove_idle(&mut self, id: NodeId) {
        let mut next = Some(id);
        while let Some(id) = next.take() {
            if !self.nodes.get(&id).is_some_and(Node::is_idle) {
                return;
            }
            let parent = self.take(id).and_then(|node| node.place).map(|place| place.parent);
            if let Some(parent) = parent
                && let Some(node) = self.nodes.get_mut(&parent)
            {
                node.children = node.children.saturating_sub(1);
                next = Some(parent);
            }
        }
    }

    fn take(&mut self, id: NodeId) -> Option<Node> {
        self.drop_descriptor(id);
        let node = self.nodes.remove(&id)?;
        if self.by_file.get(&(node.share, node.id)) == Some(&id) {
            self.by_file.remove(&(node.share, node.id));
        }
        Some(node)
    }

    fn drop_descriptor(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match std::mem::replace(&mut node.descriptor, Descriptor::None) {
            Descriptor::None => {}
            Descriptor::Cached { .. } => self.cached -= 1,
            Descriptor::Pinned(_) => self.pinned -= 1,
        }
    }

    /// Keeps a descriptor for the node, unless it has one.
    fn cache(&mut self, id: NodeId, fd: Arc<OwnedFd>) {
        self.shrink(self.limits.cached.saturating_sub(1));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if matches!(node.descriptor, Descriptor::None) && node.place.is_some() {
            node.descriptor = Descriptor::Cached { fd, used: false };
            self.cached += 1;
            self.queue.push_back(id);
        }
    }

    /// Opens something. Where descriptors have run out, half of those that are cached make room for it.
    pub(super) fn with_room<T>(&mut self, mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) if self.cached > 0 => {
                self.shrink(self.cached / 2);
                open()
            }
            result => result,
        }
    }

    /// Drops descriptors until no more than `most` are cached: those first that have not been used for longest.
    fn shrink(&mut self, most: usize) {
        while self.queue.len() > most {
            let Some(id) = self.queue.pop_front() else { return };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            match &mut node.descriptor {
                Descriptor::Cached { used, .. } if *used => {
                    *used = false;
                    self.queue.push_back(id);
                }
                Descriptor::Cached { .. } => self.drop_descriptor(id),
                // It has no place in the queue any more.
                Descriptor::None | Descriptor::Pinned(_) => {}
            }
        }
    }
}
