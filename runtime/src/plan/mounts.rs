//! `root` and `mounts` -> what the guest mounts, and which parts of the host are shared for it.

use drupe_protocol::{MountConfig, MountSource, RecursiveAttributes, RootConfig};
use oci_spec::runtime::Mount;

use super::SharePlan;
use super::options::{self, MountOptions};
use super::support::Warning;
use crate::bundle::{Bundle, FieldError, Problem, SourceKind, clean, is_bind};

/// Name of the share that is the root filesystem.
const ROOT_SHARE: &str = "rootfs";

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
        // What is mounted in the root filesystem is part of it, as it is for an ordinary container.
        recursive: true,
        file: false,
        // Its name may be in a directory that others write to.
        follow: false,
    };
    (RootConfig { share: ROOT_SHARE.into(), readonly }, share)
}

/// The mounts, in their order.
pub(crate) fn mounts(bundle: &Bundle) -> Result<Mounts, FieldError> {
    let mut planned = Mounts::default();
    for (index, mount) in bundle.config.mounts().iter().enumerate() {
        let field = format!("mounts[{index}]");
        let given = mount.options().as_deref().unwrap_or_default();
        let options = options::parse(given).map_err(|(at, problem)| {
            let option = given.get(at).map_or("", String::as_str);
            FieldError::text(format!("{field}.options[{at}]"), option, problem)
        })?;
        let source = if is_bind(mount) {
            planned.share(bundle, index, mount, &options)?
        } else {
            filesystem(mount, &options)
        };
        planned.mounts.push(MountConfig {
            destination: clean(mount.destination()).to_string_lossy().into_owned(),
            source,
            flags: options.flags,
            propagation: options.propagation,
            recursive: RecursiveAttributes::default(),
            copy_up: false,
            field,
        });
    }
    Ok(planned)
}

impl Mounts {
    fn share(
        &mut self,
        bundle: &Bundle,
        index: usize,
        mount: &Mount,
        options: &MountOptions,
    ) -> Result<MountSource, FieldError> {
        let field = format!("mounts[{index}]");
        if options.flags & libc::MS_REMOUNT != 0 {
            let why = "a bind mount is made once, with all its options";
            return Err(FieldError::text(format!("{field}.options"), "remount", Problem::Unsupported(why)));
        }
        // The kernel would ignore it, and nobody would notice a slip of the pen in `ro`.
        if let Some(option) = options.data.first() {
            let why = "not an option of bind mounts";
            return Err(FieldError::text(format!("{field}.options"), option, Problem::Unsupported(why)));
        }
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| FieldError::new(format!("{field}.source"), Problem::Missing))?;
        let kind = bundle.sources.get(&index).copied().unwrap_or(SourceKind::Directory);
        if kind == SourceKind::Special {
            self.warnings.push(Warning {
                field: format!("{field}.source"),
                reason: format!("{source:?}: a socket, fifo or device of the host is seen but not reached"),
            });
        }
        let name = format!("mount{index}");
        let file = kind != SourceKind::Directory;
        self.shares.push(SharePlan {
            field: format!("{field}.source"),
            name: name.clone(),
            path: bundle.source(source),
            readonly: options.flags & libc::MS_RDONLY != 0,
            recursive: options.recursive,
            file,
            follow: true,
        });
        Ok(MountSource::Share { name, file })
    }
}

fn filesystem(mount: &Mount, options: &MountOptions) -> MountSource {
    let fstype = match mount.typ().as_deref().unwrap_or_default() {
        // The guest has cgroup v2 alone, whatever the host has.
        "cgroup" => "cgroup2",
        other => other,
    };
    let source = mount.source().as_ref().map_or(fstype.into(), |source| source.to_string_lossy());
    MountSource::Filesystem {
        fstype: fstype.to_owned(),
        source: source.into_owned(),
        data: options.data.join(","),
    }
}
