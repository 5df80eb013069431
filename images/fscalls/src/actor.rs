//! Who makes a call: a user, groups and effective capabilities, taken on by the calling thread and given back.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::random::Random;

/// What root keeps: the capabilities that matter to files and to changing actors, whatever it was started with.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);

/// An identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Root,
    /// Root without the capabilities that override permissions.
    NoOverride,
    /// Root without the one that keeps set-user-ID and set-group-ID.
    NoFsetid,
    /// Root without those that override ownership.
    NoOwner,
    /// 1000:1000 and groups 1001, 2000.
    User,
    /// 1001:1001.
    Other,
}

/// Who takes part in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cast {
    Root,
    User,
    Bare,
}

impl Cast {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "root" => Some(Self::Root),
            "user" => Some(Self::User),
            "bare" => Some(Self::Bare),
            _ => None,
        }
    }

    /// Whose turn it is.
    pub(crate) fn choose(self, random: &mut Random) -> Actor {
        let weighed: &[(u64, Actor)] = match self {
            Self::Root => &[(1, Actor::Root)],
            Self::User => &[(14, Actor::User), (3, Actor::Other), (2, Actor::Root)],
            Self::Bare => &[
                (4, Actor::NoOverride),
                (4, Actor::NoFsetid),
                (3, Actor::NoOwner),
                (2, Actor::User),
                (2, Actor::Root),
            ],
        };
        *random.weighed(weighed)
    }
}

impl Actor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::NoOverride => "no-override",
            Self::NoFsetid => "no-fsetid",
            Self::NoOwner => "no-owner",
            Self::User => "user",
            Self::Other => "other",
        }
    }

    /// Becomes this actor, from any other.
    pub(crate) fn take_on(self) -> io::Result<()> {
        let root = Uid::ROOT;
        // The saved user ID is root's always: it gives the effective capabilities back.
        set_thread_res_uid(root, root, root)?;
        let (group, groups): (u32, &[u32]) = match self {
            Self::User => (1000, &[1001, 2000]),
            Self::Other => (1001, &[]),
            _ => (0, &[]),
        };
        let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_capabilities(None, sets(KEPT))?;
        set_thread_groups(&groups)?;
        let group = Gid::from_raw(group);
        set_thread_res_gid(group, group, group)?;
        match self {
            Self::User => set_thread_res_uid(Uid::from_raw(1000), Uid::from_raw(1000), root)?,
            Self::Other => set_thread_res_uid(Uid::from_raw(1001), Uid::from_raw(1001), root)?,
            _ => set_capabilities(None, sets(KEPT.difference(self.lacks())))?,
        }
        Ok(())
    }

    fn lacks(self) -> CapabilitySet {
        match self {
            Self::NoOverride => CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH,
            Self::NoFsetid => CapabilitySet::FSETID,
            Self::NoOwner => CapabilitySet::FOWNER | CapabilitySet::CHOWN | CapabilitySet::SETFCAP,
            _ => CapabilitySet::empty(),
        }
    }
}

/// Gives up every capability that is not to play a part.
///
/// # Errors
/// When one that plays a part is missing.
pub(crate) fn keep_capabilities() -> io::Result<()> {
    let missing = KEPT.difference(capabilities(None)?.permitted);
    if !missing.is_empty() {
        return Err(io::Error::other(format!("lacks the capabilities {missing:?}")));
    }
    Ok(set_capabilities(None, sets(KEPT))?)
}

fn sets(effective: CapabilitySet) -> CapabilitySets {
    CapabilitySets { effective, permitted: KEPT, inheritable: CapabilitySet::empty() }
}
