//! The root directory: read-only, made up, with one entry per share.

use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::name::Name;
use super::nodes::NodeId;
use super::wire::{Attr, ROOT};
use crate::config::ShareCache;

/// How long the guest may believe what it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    /// Names, and that there is no such name.
    pub(super) entry: Duration,
    /// Attributes.
    pub(super) attr: Duration,
    /// Nobody but the guest changes anything.
    pub(super) is_immutable: bool,
}

impl From<ShareCache> for Validity {
    fn from(cache: ShareCache) -> Self {
        let duration = match cache {
            // The host may change the tree while the container runs (a copy into it, another container with the same
            // volume), and that is then seen after this time.
            ShareCache::Shared => Duration::from_secs(1),
            ShareCache::Immutable => Duration::from_hours(24 * 365),
        };
        Self { entry: duration, attr: duration, is_immutable: cache == ShareCache::Immutable }
    }
}

/// One entry of the root.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) name: Name,
    pub(super) root: NodeId,
    pub(super) kind: FileType,
    pub(super) validity: Validity,
}

/// The entries, by an index that is never used again.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Option<Share>>);

impl Shares {
    /// The index that the next one gets.
    pub(super) fn next(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn add(&mut self, share: Share) {
        self.0.push(Some(share));
    }

    /// Removes the one of this name; gives its index.
    pub(super) fn remove(&mut self, name: &Name) -> Option<u32> {
        let index =
            self.0.iter().position(|share| share.as_ref().is_some_and(|share| share.name == *name))?;
        *self.0.get_mut(index)? = None;
        u32::try_from(index).ok()
    }

    pub(super) fn by_name(&self, name: &Name) -> Option<&Share> {
        self.iter().find(|(_, share)| share.name == *name).map(|(_, share)| share)
    }

    /// How long the guest may believe what it is told of a share.
    pub(super) fn validity(&self, index: u32) -> Validity {
        let share = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        share.and_then(Option::as_ref).map_or_else(|| ShareCache::Shared.into(), |share| share.validity)
    }

    /// All of them, each with its place in the root directory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Share)> {
        (1..).zip(&self.0).filter_map(|(place, share)| share.as_ref().map(|share| (place, share)))
    }

    /// Whether nobody but the guest changes anything in any of them.
    pub(super) fn are_immutable(&self) -> bool {
        self.iter().all(|(_, share)| share.validity.is_immutable)
    }
}

/// Attributes of the root directory.
pub(super) fn root_attr() -> Attr {
    let mode = FileType::Directory.as_raw_mode() | 0o555;
    Attr { ino: ROOT, mode, nlink: 2, blksize: 4096, ..Attr::default() }
}

/// What cannot be done in the root directory.
pub(super) fn refuse_in_root(node: NodeId) -> Result<(), Errno> {
    if node == ROOT { Err(Errno::ROFS) } else { Ok(()) }
}
