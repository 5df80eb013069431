//! What a container with a user namespace gets from the agent, since its root has no right to it: mounts of shares and
//! of filesystems that the guest's root alone can mount, and device nodes. Each is a mount that lies nowhere yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drupe_protocol::{GuestConfig, MountSource};

use crate::Places;
use crate::devices::Nodes;
use crate::failure::{Named, Result, setup};
use crate::mounts;

/// Filesystems that belong to the user namespace of who mounts them, or to that of another namespace of theirs.
const OF_USER_NAMESPACES: [&str; 8] =
    ["tmpfs", "proc", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "ramfs"];

/// The mounts, in the order in which they are used: the root, those of `mounts`, the nodes.
#[derive(Debug)]
pub(crate) struct Sources(VecDeque<OwnedFd>);

impl Sources {
    /// Makes them, with the rights of the guest's root.
    pub(crate) fn make(config: &GuestConfig, places: &Places) -> Result<Self> {
        let mut made = VecDeque::new();
        made.push_back(
            mounts::open_share(&places.shares, &config.root.share, true)
                .named("root.path", format_args!("share {:?}", config.root.share))?,
        );
        for mount in config.mounts.iter().filter(|mount| is_guests(&mount.source)) {
            made.push_back(mounts::make(&places.shares, mount, None)?);
        }
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

fn is_guests(source: &MountSource) -> bool {
    match source {
        MountSource::Share { .. } => true,
        MountSource::Filesystem { fstype, .. } => !OF_USER_NAMESPACES.contains(&fstype.as_str()),
    }
}
