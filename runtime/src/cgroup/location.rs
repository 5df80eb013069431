//! What `linux.cgroupsPath` means: as for runc, an absolute path begins at the hierarchy's mount point and a relative one
//! at the cgroup of the caller (version 1) or beside it (version 2, where only leaves have processes). Without a path
//! the cgroup has the container's id for its name, and is where a relative path would be.

use std::path::{Path, PathBuf};

use super::hierarchy::Hierarchy;
use super::{CgroupError, Request};
use crate::lexical::within;

/// A place in a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    path: PathBuf,
    from: Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Mount,
    Own,
    BesideOwn,
}

impl Location {
    /// Where a container's cgroup is in hierarchies of this version.
    pub(super) fn new(request: &Request, version: u8) -> Result<Self, CgroupError> {
        let relative = if version == 1 { Start::Own } else { Start::BesideOwn };
        let name = if request.path.is_empty() { request.id } else { request.path };
        let from = if request.path.starts_with('/') { Start::Mount } else { relative };
        let path = within(Path::new(name));
        // It would be the hierarchy's own root, or the caller's cgroup, which are nobody's to limit.
        if path.as_os_str().is_empty() {
            let why = "must name a cgroup, not the root of all";
            return Err(CgroupError::Path { path: request.path.into(), why });
        }
        Ok(Self { path, from })
    }

    /// The cgroup of this path in every hierarchy.
    pub(super) fn absolute(path: &str) -> Self {
        Self { path: within(Path::new(path)), from: Start::Mount }
    }

    /// The directory in a hierarchy.
    pub(super) fn directory(&self, hierarchy: &Hierarchy) -> PathBuf {
        let start = match self.from {
            Start::Mount => Path::new(""),
            Start::Own => &hierarchy.own,
            Start::BesideOwn => hierarchy.own.parent().unwrap_or(Path::new("")),
        };
        hierarchy.mount.join(start).join(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_where_those_of_runc_do() {
        let hierarchy = Hierarchy { controllers: Vec::new(), mount: "/m".into(), own: "user/own".into() };
        for (path, v1, v2) in [
            ("", "/m/user/own/id", "/m/user/id"),
            ("/a/b", "/m/a/b", "/m/a/b"),
            ("a/b", "/m/user/own/a/b", "/m/user/a/b"),
            ("/../../a/./b", "/m/a/b", "/m/a/b"),
            ("../../../a", "/m/user/own/a", "/m/user/a"),
        ] {
            let request = Request { path, id: "id", systemd: false, rootless: false };
            assert_eq!(Location::new(&request, 1).unwrap().directory(&hierarchy), Path::new(v1), "{path}");
            assert_eq!(Location::new(&request, 2).unwrap().directory(&hierarchy), Path::new(v2), "{path}");
        }
        for path in ["/", "..", "/a/.."] {
            let request = Request { path, id: "id", systemd: false, rootless: false };
            let error = Location::new(&request, 1).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("config.json: linux.cgroupsPath: {path:?}: must name a cgroup, not the root of all")
            );
        }
    }
}
