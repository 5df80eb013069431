//! The cgroups that this process was in before it entered a container's: a container that ends in the foreground has its
//! cgroup removed by the process that was in it.

use std::path::PathBuf;

use super::hierarchy::Hierarchies;
use super::{CgroupError, directory};

/// The cgroups of a process, to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(Vec<PathBuf>);

impl Origin {
    /// Those of this process.
    pub(crate) fn of_process() -> Result<Self, CgroupError> {
        Ok(Self::of(&Hierarchies::of_host()?))
    }

    fn of(hierarchies: &Hierarchies) -> Self {
        let list = match hierarchies {
            Hierarchies::None => [].as_slice(),
            Hierarchies::V1(list) => list.as_slice(),
            Hierarchies::V2(unified) => std::slice::from_ref(unified),
        };
        Self(list.iter().map(|hierarchy| hierarchy.mount.join(&hierarchy.own)).collect())
    }

    /// Puts a process back into them. It stays where it is where that cannot be.
    pub(crate) fn restore(&self, pid: u32) {
        for path in &self.0 {
            if let Err(error) = directory::enter(path, pid) {
                log::debug!("{}", crate::text::chain(&error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_below_their_mounts() {
        let mountinfo = "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hierarchies = Hierarchies::parse(mountinfo, "0::/user.slice/a.scope\n");
        assert_eq!(Origin::of(&hierarchies), Origin(vec!["/sys/fs/cgroup/user.slice/a.scope".into()]));
        assert_eq!(Origin::of(&Hierarchies::None), Origin(Vec::new()));
    }
}
