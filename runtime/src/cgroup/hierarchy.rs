//! The cgroup hierarchies of this host, from /proc/self/mountinfo and /proc/self/cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// Where runc, systemd and everybody else mount them.
const USUAL: &str = "/sys/fs/cgroup";

/// Options of a mount of version 1 that are no controllers.
const OPTIONS: [&str; 6] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"];

/// The hierarchies that containers are put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hierarchies {
    /// None is mounted.
    None,
    /// Those of version 1, one of version 2 beside them or not: that one has no controllers then.
    V1(Vec<Hierarchy>),
    /// The one of version 2.
    V2(Hierarchy),
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its controllers in version 1; `name=...` for one without.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The cgroup of this process, as seen below `mount`.
    pub(super) own: PathBuf,
}

impl Hierarchies {
    pub(super) fn of_host() -> Result<Self, CgroupError> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|source| CgroupError::File { path: path.into(), source })
        };
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    pub(super) fn parse(mountinfo: &str, own: &str) -> Self {
        let mounts: Vec<_> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut list: Vec<Hierarchy> = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.version == 1 && !mount.controllers.is_empty()) {
            let known = |hierarchy: &Hierarchy| hierarchy.controllers == mount.controllers;
            if !list.iter().any(known) {
                list.push(mount.hierarchy(own));
            }
        }
        if list.iter().any(|hierarchy| !hierarchy.controllers[0].starts_with("name=")) {
            return Self::V1(list);
        }
        let mut unified = mounts.iter().filter(|mount| mount.version == 2);
        let usual = unified.clone().find(|mount| mount.point == Path::new(USUAL));
        match usual.or_else(|| unified.next()) {
            Some(mount) => Self::V2(mount.hierarchy(own)),
            None => Self::None,
        }
    }
}

/// A line of mountinfo.
struct Mount {
    version: u8,
    root: PathBuf,
    point: PathBuf,
    controllers: Vec<String>,
}

impl Mount {
    /// `id parent major:minor root point options [optional ...] - type source super-options`; `None` for what is no cgroup.
    fn parse(line: &str) -> Option<Self> {
        let (mount, superblock) = line.split_once(" - ")?;
        let mut superblock = superblock.split(' ');
        let version = match superblock.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let mut fields = mount.split(' ').skip(3);
        let root = PathBuf::from(unescape(fields.next()?));
        let point = PathBuf::from(unescape(fields.next()?));
        let options = superblock.nth(1).unwrap_or_default();
        let is_controller =
            |option: &&str| !OPTIONS.contains(option) && !option.starts_with("release_agent=");
        let controllers = options.split(',').filter(is_controller).map(str::to_owned).collect();
        Some(Self { version, root, point, controllers })
    }

    fn hierarchy(&self, own: &str) -> Hierarchy {
        let cgroup = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let same = if self.version == 2 {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|name| self.controllers.iter().any(|known| known == name))
            };
            same.then_some(path)
        });
        // A cgroup outside of what is mounted, as in a container without a cgroup namespace, is as good as the topmost.
        let own =
            cgroup.and_then(|path| Path::new(path).strip_prefix(&self.root).ok()).unwrap_or(Path::new(""));
        let controllers = if self.version == 1 { self.controllers.clone() } else { Vec::new() };
        Hierarchy { controllers, mount: self.point.clone(), own: own.strip_prefix("/").unwrap_or(own).into() }
    }
}

/// Undoes the octal escapes of mountinfo (`\040`).
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        match escape.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &escape[3..];
            }
            None => {
                plain.push('\\');
                rest = escape;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(controllers: &[&str], mount: &str, own: &str) -> Hierarchy {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        Hierarchy { controllers, mount: mount.into(), own: own.into() }
    }

    #[test]
    fn version_2() {
        let mountinfo = "22 1 0:20 / /sys rw - sysfs sysfs rw\n\
                         30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            Hierarchies::parse(mountinfo, "0::/user.slice/a.scope\n"),
            Hierarchies::V2(hierarchy(&[], "/sys/fs/cgroup", "user.slice/a.scope"))
        );
        assert_eq!(
            Hierarchies::parse(mountinfo, "0::/\n"),
            Hierarchies::V2(hierarchy(&[], "/sys/fs/cgroup", ""))
        );
        assert_eq!(Hierarchies::parse("", "0::/\n"), Hierarchies::None);
    }

    #[test]
    fn version_1_and_hybrid() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                         33 31 0:30 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                         34 31 0:31 / /sys/fs/cgroup/a\\040b rw - cgroup cgroup rw,memory\n\
                         35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
                         36 31 0:31 / /mnt rw - cgroup cgroup rw,memory\n";
        let own = "4:memory:/m\n3:cpu,cpuacct:/docker/x/y\n1:name=systemd:/s\n0::/u\n";
        assert_eq!(
            Hierarchies::parse(mountinfo, own),
            Hierarchies::V1(vec![
                hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "y"),
                hierarchy(&["memory"], "/sys/fs/cgroup/a b", "m"),
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd", "s"),
            ])
        );
    }

    #[test]
    fn systemd_of_version_1_alone_is_no_reason_for_version_1() {
        let mountinfo = "32 31 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                         35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup none rw,name=systemd\n";
        let Hierarchies::V2(unified) = Hierarchies::parse(mountinfo, "1:name=systemd:/s\n0::/u\n") else {
            panic!("not version 2")
        };
        assert_eq!(unified, hierarchy(&[], "/sys/fs/cgroup", "u"));
    }
}
