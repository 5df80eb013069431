//! `root` and `mounts` -> what the guest mounts, and which parts of the host are shared for it.

use std::path::Path;

use drupe_protocol::{MountConfig, MountSource, RootConfig};
use drupe_vmm::ShareCache;
use libc::{MS_REMOUNT, MS_SHARED, MS_SLAVE};
use oci_spec::runtime::Mount;

use super::namespaces::id_ranges;
use super::options::{self, Idmap, MountOptions};
use super::support::Warning;
use super::{IdMappings, SharePlan};
use crate::bundle::{Bundle, FieldError, Problem, SourceKind, is_bind};
use crate::lexical::clean;

/// Name of the share that is the root filesystem.
const ROOT_SHARE: &str = "rootfs";

/// Filesystems that the guest's kernel makes of nothing. Others are made of devices or directories, and what a
/// configuration names is the host's: those are not in the guest.
const FILESYSTEMS: [&str; 13] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "devpts",
    "devtmpfs",
    "hugetlbfs",
    "mqueue",
    "proc",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
];

/// Mounts for the guest, shares of the host, and what is not as asked for.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) mounts: Vec<MountConfig>,
    pub(crate) shares: Vec<SharePlan>,
    pub(crate) warnings: Vec<Warning>,
}

/// The root filesystem, and its share.
pub(crate) fn root(bundle: &Bundle) -> (RootConfig, SharePlan) {
    let readonly = bundle.config.root().readonly().unwrap_or(false);
    let share = SharePlan {
        field: "root.path".into(),
        name: ROOT_SHARE.into(),
        path: bundle.rootfs(),
        readonly,
        writable: false,
        // What is mounted in the root filesystem is part of it, as it is for an ordinary container.
        recursive: true,
        file: false,
        // Its name may be in a directory that others write to.
        follow: false,
        idmap: None,
        cache: ShareCache::Shared,
    };
    (RootConfig { share: ROOT_SHARE.into(), readonly, layer: None }, share)
}

/// `linux.rootfsPropagation`, as flags of mount(2).
pub(crate) fn root_propagation(
    bundle: &Bundle,
    warnings: &mut Vec<Warning>,
) -> Result<Option<u64>, FieldError> {
    let name = bundle.config.linux().rootfs_propagation().as_deref().filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(None) };
    let field = "linux.rootfsPropagation";
    let problem =
        Problem::Invalid("must be shared, slave, private or unbindable, or one of them behind an r");
    let flags = options::propagation(name).ok_or_else(|| FieldError::text(field, name, problem))?;
    if flags & MS_SHARED != 0 {
        let reason = format!("{name:?}: mounts of the container never propagate to the host");
        warnings.push(Warning { field: field.into(), reason });
    }
    Ok(Some(flags))
}

/// The mounts, in their order.
pub(crate) fn mounts(bundle: &Bundle) -> Result<Mounts, FieldError> {
    let mut planned = Mounts::default();
    for (index, mount) in bundle.config.mounts().iter().enumerate() {
        let options = options::parse(mount.options().as_deref().unwrap_or_default());
        let entry = Entry { bundle, index, mount, options };
        if entry.options.flags & MS_REMOUNT == 0 {
            planned.mount(&entry)?;
        } else {
            planned.remount(&entry)?;
        }
    }
    Ok(planned)
}

/// One of `mounts`.
#[derive(Debug)]
struct Entry<'a> {
    bundle: &'a Bundle,
    index: usize,
    mount: &'a Mount,
    options: MountOptions,
}

impl Entry<'_> {
    fn field(&self, name: &str) -> String {
        format!("mounts[{}].{name}", self.index)
    }

    fn destination(&self) -> String {
        clean(self.mount.destination()).to_string_lossy().into_owned()
    }

    /// The field of an option, by its name.
    fn option_error(&self, option: &str, problem: Problem) -> FieldError {
        let at = self.mount.options().iter().flatten().position(|given| given == option).unwrap_or(0);
        FieldError::text(self.field(&format!("options[{at}]")), option, problem)
    }

    fn idmap(&self) -> Result<Option<IdMappings>, FieldError> {
        let linux = self.bundle.config.linux();
        let own = (self.mount.uid_mappings(), self.mount.gid_mappings());
        let given = |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|list| !list.is_empty());
        let recursive = match self.options.idmap {
            Some(idmap) => idmap == Idmap::Tree,
            None if given(own.0) || given(own.1) => false,
            None => return Ok(None),
        };
        // Without mappings of its own a mount has those of the container's user namespace.
        let (uids, gids, field) = if given(own.0) || given(own.1) {
            (own.0, own.1, format!("mounts[{}]", self.index))
        } else {
            (linux.uid_mappings(), linux.gid_mappings(), "linux".to_owned())
        };
        let ranges = |name: &str, mappings: &Option<Vec<_>>| match mappings.as_deref() {
            None | Some([]) => Err(FieldError::new(format!("{field}.{name}"), Problem::Missing)),
            Some(mappings) => id_ranges(&format!("{field}.{name}"), mappings),
        };
        let (uids, gids) = (ranges("uidMappings", uids)?, ranges("gidMappings", gids)?);
        Ok(Some(IdMappings { field: format!("{field}.uidMappings"), uids, gids, recursive }))
    }
}

impl Mounts {
    /// The share that is mounted at `destination`: the last one, as only that is seen.
    pub(super) fn share_at(&mut self, destination: &str) -> Option<&mut SharePlan> {
        let mount = self.mounts.iter().rev().find(|mount| mount.destination == destination)?;
        let MountSource::Share { name, .. } = &mount.source else { return None };
        self.shares.iter_mut().find(|share| share.name == *name)
    }

    fn mount(&mut self, entry: &Entry<'_>) -> Result<(), FieldError> {
        let options = &entry.options;
        let source = if is_bind(entry.mount) { self.share(entry)? } else { filesystem(entry)? };
        self.warn_about_propagation(entry);
        self.mounts.push(MountConfig {
            field: format!("mounts[{}]", entry.index),
            destination: entry.destination(),
            source,
            flags: options.flags,
            propagation: options.propagation.clone(),
            recursive: options.attributes,
            copy_up: options.copy_up,
        });
        Ok(())
    }

    fn share(&mut self, entry: &Entry<'_>) -> Result<MountSource, FieldError> {
        let options = &entry.options;
        // The kernel would ignore it, and nobody would notice a slip of the pen in `ro`.
        let foreign = options.data.first().map(String::as_str);
        if let Some(option) = foreign.or(options.copy_up.then_some("tmpcopyup")) {
            return Err(entry.option_error(option, Problem::Unsupported("not an option of bind mounts")));
        }
        let field = entry.field("source");
        let source = entry.mount.source().as_ref();
        let source = source.ok_or_else(|| FieldError::new(field.clone(), Problem::Missing))?;
        let kind = entry.bundle.sources.get(&entry.index).copied().unwrap_or(SourceKind::Directory);
        if kind == SourceKind::Special {
            self.warnings.push(Warning {
                field: field.clone(),
                reason: format!("{source:?}: a socket, fifo or device of the host is seen but not reached"),
            });
        }
        let name = format!("mount{}", entry.index);
        let file = kind != SourceKind::Directory;
        self.shares.push(SharePlan {
            field,
            name: name.clone(),
            path: entry.bundle.source(source),
            readonly: options.readonly(),
            writable: options.writable(),
            recursive: options.recursive,
            file,
            follow: true,
            idmap: entry.idmap()?,
            cache: ShareCache::Shared,
        });
        Ok(MountSource::Share { name, file })
    }

    /// What is mounted on the host later is not seen, and what the container mounts is not either.
    fn warn_about_propagation(&mut self, entry: &Entry<'_>) {
        if !is_bind(entry.mount) {
            return;
        }
        if let Some(flags) =
            entry.options.propagation.iter().find(|&flags| flags & (MS_SHARED | MS_SLAVE) != 0)
        {
            let word = if flags & MS_SHARED == 0 { "slave" } else { "shared" };
            let reason = format!("{word:?}: mounts do not propagate between the host and the guest");
            self.warnings.push(Warning { field: entry.field("options"), reason });
        }
    }

    /// Other options for what was mounted before, as if that had been asked for with them.
    fn remount(&mut self, entry: &Entry<'_>) -> Result<(), FieldError> {
        let destination = entry.destination();
        let Some(mount) = self.mounts.iter_mut().rev().find(|mount| mount.destination == destination) else {
            let why = "there is no earlier mount at its destination";
            return Err(entry.option_error("remount", Problem::Unsupported(why)));
        };
        let options = &entry.options;
        mount.flags = options.flags & !MS_REMOUNT;
        mount.propagation.extend(&options.propagation);
        if options.attributes.set | options.attributes.clear != 0 {
            mount.recursive = options.attributes;
        }
        match &mut mount.source {
            MountSource::Share { name, .. } => {
                for share in self.shares.iter_mut().filter(|share| share.name == *name) {
                    share.readonly = options.readonly();
                }
            }
            // Not one of `mounts`.
            MountSource::Layer { .. } => {}
            MountSource::Filesystem { data, .. } => {
                let both = std::iter::once(data.as_str()).chain(options.data.iter().map(String::as_str));
                *data = both.filter(|option| !option.is_empty()).collect::<Vec<_>>().join(",");
            }
        }
        Ok(())
    }
}

fn filesystem(entry: &Entry<'_>) -> Result<MountSource, FieldError> {
    let (mount, options) = (entry.mount, &entry.options);
    let asked = mount.typ().as_deref().unwrap_or_default();
    if !FILESYSTEMS.contains(&asked) {
        let why = "not a filesystem that the guest can make: paths and devices of the host are not in it";
        return Err(FieldError::text(entry.field("type"), asked, Problem::Unsupported(why)));
    }
    let fstype = match asked {
        // The guest has cgroup v2 alone, whatever the host has.
        "cgroup" => "cgroup2",
        other => other,
    };
    if options.copy_up && fstype != "tmpfs" {
        return Err(entry.option_error("tmpcopyup", Problem::Unsupported("an option of tmpfs alone")));
    }
    if let Some(mappings) = entry.idmap()? {
        let name = if mappings.recursive { "ridmap" } else { "idmap" };
        let why = "only bind mounts can have their owners mapped";
        return Err(FieldError::text(entry.field("options"), name, Problem::Unsupported(why)));
    }
    let source = mount.source().as_deref().unwrap_or(Path::new(fstype)).to_string_lossy().into_owned();
    Ok(MountSource::Filesystem { fstype: fstype.to_owned(), source, data: options.data.join(",") })
}
