//! The cgroup on the host that a container's monitor is in: `linux.cgroupsPath`.
//!
//! ```text
//! let mut cgroup = HostCgroup::plan(&request)?;   // where; nothing is made yet; an occupied one is refused
//! record.cgroup = cgroup.clone();                 // written down, so that whoever comes later can remove it
//! cgroup.create(&limits)?;                        // made, and its limits set
//! let own = cgroup.enter(pid)?;                   // in the monitor, before its first vCPU runs; its own as long as it lives
//! cgroup.confine_devices(&rules)?;                // in the monitor, when it has opened what it needs
//! cgroup.update(&limits)?;                        // update
//! cgroup.remove()?;                               // what plan saw was missing, and is empty
//! ```
//!
//! Limits are [`Resources::for_host`]: those of the container with what its machine needs beside it. systemd makes a scope
//! only around a process, so with it `create` makes nothing and `enter` does all.

mod devices;
mod directory;
mod hierarchy;
mod location;
mod occupation;
mod origin;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::resources::{Resources, guest, v1, v2};
use hierarchy::Hierarchies;
use location::Location;
use systemd::Scope;

pub(crate) use occupation::Occupation;
pub(crate) use origin::Origin;

/// Why a cgroup cannot be made, entered, changed or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("config.json: linux.cgroupsPath: {path:?}: {why}")]
    Path { path: String, why: &'static str },
    #[error("cgroups: no hierarchy is mounted on this host")]
    NoHierarchy,
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{field}: {value:?} to {}", path.display())]
    Setting { field: String, value: String, path: PathBuf, source: io::Error },
    #[error("{field}: cgroup controller {controller}: not available in {place}")]
    NoController { field: String, controller: String, place: String },
    #[error("{field}.devices: the rules to {}", path.display())]
    Devices { field: String, path: PathBuf, source: io::Error },
    #[error("container's cgroup is not empty: {}: {count} process(es) found", path.display())]
    Occupied { path: PathBuf, count: usize },
    #[error("container's cgroup unexpectedly frozen: {}", path.display())]
    Frozen { path: PathBuf },
    #[error("{}: cgroup is in mode {mode:?}, in which no machine can be", path.display())]
    Threaded { path: PathBuf, mode: String },
    #[error("--systemd-cgroup: systemd does not run on this host")]
    NoSystemd,
    #[error("--systemd-cgroup: busctl, which comes with systemd")]
    Busctl(#[source] io::Error),
    #[error("--systemd-cgroup: {unit}: {message}")]
    Systemd { unit: String, message: String },
    #[error("--systemd-cgroup: {unit}: process {pid} was not put into it within {seconds} s")]
    NotMoved { unit: String, pid: u32, seconds: u64 },
}

/// What a container's cgroup is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// `linux.cgroupsPath`; empty when it is not given.
    pub(crate) path: &'a str,
    /// The container's id, which names the cgroup when no path does.
    pub(crate) id: &'a str,
    /// `--systemd-cgroup`.
    pub(crate) systemd: bool,
    /// A cgroup that was not asked for may be missing ([`is_rootless`]).
    pub(crate) rootless: bool,
}

/// Whether missing privileges are to be expected: what `--rootless` says, or that this is not root, or root of a user
/// namespace alone.
pub(crate) fn is_rootless(asked: Option<bool>) -> bool {
    asked.unwrap_or_else(|| !rustix::process::geteuid().is_root() || in_user_namespace())
}

/// Whether root is root of a user namespace alone.
pub(crate) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all: Vec<_> = map.split_whitespace().collect();
    !map.is_empty() && all != ["0", "0", "4294967295"]
}

/// The cgroup of a container: in each hierarchy a directory. This is what the container's record keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HostCgroup {
    /// Version of the cgroups: 1 or 2; 0 when the container has none.
    version: u8,
    /// Its directories: one in version 2, one for each hierarchy in version 1.
    members: Vec<Member>,
    /// The unit of systemd that it is.
    scope: Option<Scope>,
    /// Directories that cannot be made are left out.
    tolerant: bool,
    /// What only root may do is left out.
    #[serde(default)]
    unprivileged: bool,
    /// The container's monitor was put into it.
    #[serde(default)]
    entered: bool,
}

/// The cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Member {
    /// Names of its controllers; none in version 2, where the directory tells.
    controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    /// The directory.
    path: PathBuf,
    /// What was missing of it, from the outermost directory on: only these are removed.
    made: Vec<PathBuf>,
}

impl HostCgroup {
    /// Decides where the cgroup is. Nothing is made; one that has processes is refused.
    pub(crate) fn plan(request: &Request) -> Result<Self, CgroupError> {
        Self::plan_in(&Hierarchies::of_host()?, request)
    }

    fn plan_in(hierarchies: &Hierarchies, request: &Request) -> Result<Self, CgroupError> {
        let tolerant = request.rootless && request.path.is_empty();
        let (version, list) = match hierarchies {
            Hierarchies::V1(list) => (1, list.as_slice()),
            Hierarchies::V2(unified) => (2, std::slice::from_ref(unified)),
            Hierarchies::None if tolerant => (0, [].as_slice()),
            Hierarchies::None => return Err(CgroupError::NoHierarchy),
        };
        let scope = request.systemd.then(|| Scope::new(request.path, request.id)).transpose()?;
        let location = match &scope {
            Some(scope) => Location::absolute(scope.cgroup()),
            None => Location::new(request, version)?,
        };
        let mut members = Vec::new();
        for hierarchy in list {
            let path = location.directory(hierarchy);
            directory::check_free(&path)?;
            if tolerant && !directory::may_be_made(&path) {
                continue;
            }
            let mut made = directory::missing(&hierarchy.mount, &path);
            // Slices are systemd's, which removes them itself.
            if scope.is_some() {
                made.retain(|directory| *directory == path);
            }
            let (controllers, mount) = (hierarchy.controllers.clone(), hierarchy.mount.clone());
            members.push(Member { controllers, mount, path, made });
        }
        Ok(Self { version, members, scope, tolerant, unprivileged: request.rootless, entered: false })
    }

    /// Says which limits hold in the guest alone, since this user can have no cgroup on the host.
    pub(crate) fn warn_of_missing(&self, limits: &Resources, field: &str) {
        if !self.members.is_empty() {
            return;
        }
        for setting in v2::settings(limits, field, false) {
            if guest::keeps(&setting.file) {
                log::warn!("{}: without a cgroup on the host it holds in the guest alone", setting.field);
            }
        }
    }

    /// Makes the cgroup and sets its limits. What was made before a failure is for [`Self::remove`].
    pub(crate) fn create(&mut self, limits: &Resources, field: &str) -> Result<(), CgroupError> {
        if self.scope.is_some() {
            return systemd::check_running();
        }
        let tolerant = self.tolerant;
        let mut made = Vec::new();
        for member in self.members.drain(..) {
            match directory::make(&member.mount, &member.path, self.version) {
                Ok(()) => made.push(member),
                Err(error) if tolerant && is_denied(&error) => {
                    log::debug!("no cgroup: {}", crate::text::chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
        self.members = made;
        self.set(limits, field)
    }

    /// Puts a process into the cgroup, unless others have entered it since it was planned. It is the container's as long as
    /// the process has what this gives.
    pub(crate) fn enter(
        &mut self,
        pid: u32,
        limits: &Resources,
        field: &str,
    ) -> Result<Occupation, CgroupError> {
        if let Some(scope) = &self.scope {
            scope.start(pid, limits, self.version)?;
            // systemd has made what it knows of; the rest is made as without it.
            if self.version == 1 {
                for member in &self.members {
                    directory::make(&member.mount, &member.path, self.version)?;
                }
            }
            self.set(limits, field)?;
        }
        let mut occupation = Occupation::default();
        self.members.iter().try_for_each(|member| occupation.enter(&member.path, pid))?;
        self.entered = true;
        Ok(occupation)
    }

    /// Sets other limits, those that systemd keeps among them. `field` is where they come from, for messages.
    pub(crate) fn update(&self, limits: &Resources, field: &str) -> Result<(), CgroupError> {
        if let Some(scope) = &self.scope {
            scope.set(limits, self.version)?;
        }
        self.set(limits, field)
    }

    /// Sets limits. `field` is where they come from, for messages.
    fn set(&self, limits: &Resources, field: &str) -> Result<(), CgroupError> {
        let settings = match self.version {
            1 => v1::settings(limits, field, self.has("blkio", "blkio.bfq.weight")),
            _ => v2::settings(limits, field, self.has("io", "io.bfq.weight")),
        };
        let mut writes = Vec::new();
        for setting in settings {
            let controller = setting.file.split('.').next().unwrap_or_default();
            match self.directory(controller) {
                Some(directory) => writes.push((directory.to_owned(), setting)),
                None if self.tolerant && guest::keeps(&setting.file) => {}
                None => {
                    let (controller, place) =
                        (controller.to_owned(), "a mounted hierarchy of cgroups".to_owned());
                    return Err(CgroupError::NoController { field: setting.field, controller, place });
                }
            }
        }
        directory::write_all(writes)
    }

    /// The directory of a controller.
    fn directory(&self, controller: &str) -> Option<&Path> {
        let has =
            |member: &&Member| self.version == 2 || member.controllers.iter().any(|name| name == controller);
        self.members.iter().find(has).map(|member| member.path.as_path())
    }

    fn has(&self, controller: &str, file: &str) -> bool {
        self.directory(controller).is_some_and(|directory| directory.join(file).exists())
    }

    /// Removes the directories that were missing before. The last processes in them may take a moment to be gone; what
    /// else was put into the container's cgroup is ended, but nothing below it, and nothing in one that the container never
    /// entered or that another one has by now. A directory above that others use stays.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        let mut occupation = Occupation::default();
        for member in &self.members {
            if !occupation.claim(&member.path)? {
                log::debug!("another container has {}", member.path.display());
                return Ok(());
            }
        }
        // systemd removes a scope with its last process; only one that it did not notice yet is left.
        if let Some(scope) = self
            .scope
            .as_ref()
            .filter(|_| self.entered && self.members.iter().any(|member| member.path.exists()))
        {
            scope.stop();
        }
        self.members.iter().try_for_each(|member| {
            let removed = if member.is_ours() { self.remove_own(&member.path) } else { Ok(()) };
            directory::remove_empty(&member.made);
            removed
        })
    }

    fn remove_own(&self, path: &Path) -> Result<(), CgroupError> {
        match directory::remove(path) {
            Err(_) if self.entered => {
                directory::kill(path);
                directory::remove(path)
            }
            Err(error) => {
                log::debug!("others have it: {}", crate::text::chain(&error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Member {
    fn is_ours(&self) -> bool {
        self.made.last() == Some(&self.path)
    }
}

fn is_denied(error: &CgroupError) -> bool {
    let CgroupError::File { source, .. } = error else { return false };
    matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

#[cfg(test)]
mod occupation_test;
#[cfg(test)]
mod tests;
