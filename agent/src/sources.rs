//! What a container with a user namespace gets from the agent, since its root has no right to it: mounts of shares and
//! of filesystems that the guest's root alone can mount, and device nodes. Each is a mount that lies nowhere yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drupe_protocol::{GuestConfig, MountSource};
use rustix::fs::{AtFlags, Gid, Uid, chownat};

use crate::Places;
use crate::devices::Nodes;
use crate::failure::{Named, Result, setup};
use crate::ids;
use crate::layer::Below;
use crate::mounts::{self, Origins};

/// Filesystems that belong to the user namespace of who mounts them, or to that of another namespace of theirs.
const OF_USER_NAMESPACES: [&str; 8] =
    ["tmpfs", "proc", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "ramfs"];

/// The mounts, in the order in which they are used: the root, those of `mounts`, the nodes.
#[derive(Debug)]
pub(crate) struct Sources(VecDeque<OwnedFd>);

impl Sources {
    /// Makes them, with the rights of the guest's root.
    pub(crate) fn make(config: &GuestConfig, places: &Places) -> Result<Self> {
        let share = mounts::open_share(&places.shares, &config.root.share, true)
            .named("root.path", format_args!("share {:?}", config.root.share))?;
        let mut made = match &config.root.layer {
            None => with_mounts(share, config, Origins { shares: &places.shares, layer: None })?,
            Some(_) => {
                let below = Below::new(&share, &places.stage)?;
                let origins = Origins { shares: &places.shares, layer: Some(below.layer()) };
                let made = below.tree(true).and_then(|tree| with_mounts(tree, config, origins));
                below.take_away(&places.stage)?;
                made?
            }
        };
        made.extend(Nodes::make(config, &places.stage)?.0);
        Ok(Self(made))
    }

    /// How many there are for a configuration.
    pub(crate) fn count(config: &GuestConfig) -> usize {
        1 + config.mounts.iter().filter(|mount| is_guests(&mount.source)).count() + Nodes::count(config)
    }

    /// Those that came over a connection.
    pub(crate) fn received(fds: Vec<OwnedFd>) -> Self {
        Self(fds.into())
    }

    /// To be sent over one.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// The next one.
    pub(crate) fn take(&mut self) -> Result<OwnedFd> {
        self.0.pop_front().ok_or_else(|| setup("linux.namespaces", "a mount of the guest is missing"))
    }

    /// The one for a mount, if it has one.
    pub(crate) fn take_for(&mut self, source: &MountSource) -> Result<Option<OwnedFd>> {
        is_guests(source).then(|| self.take()).transpose()
    }

    /// What is left: the nodes.
    pub(crate) fn into_nodes(self) -> Nodes {
        Nodes(self.0.into())
    }
}

/// The root, and the mounts of the guest's root.
fn with_mounts(root: OwnedFd, config: &GuestConfig, origins: Origins<'_>) -> Result<VecDeque<OwnedFd>> {
    let mut made = VecDeque::from([root]);
    for mount in config.mounts.iter().filter(|mount| is_guests(&mount.source)) {
        let tree = mounts::make(origins, mount, None)?;
        if let (MountSource::Layer { .. }, Some(user)) = (&mount.source, &config.namespaces.user) {
            let root_of = |ranges| ids::outside(ranges, 0);
            let (uid, gid) = (root_of(&user.uids), root_of(&user.gids));
            chownat(&tree, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
                .named(&mount.field, "owner")?;
        }
        made.push_back(tree);
    }
    Ok(made)
}

fn is_guests(source: &MountSource) -> bool {
    match source {
        MountSource::Share { .. } | MountSource::Layer { .. } => true,
        MountSource::Filesystem { fstype, .. } => !OF_USER_NAMESPACES.contains(&fstype.as_str()),
    }
}
