//! A bundle: config.json read, parsed and checked, and what the plan must know about the host's files.
//!
//! After [`Bundle::load`] nothing that later code relies on is optional, and every path to share exists.
//! Nothing below the root filesystem is looked at: a path in there belongs to the container.

mod capabilities;
mod config;
mod error;
mod json;
mod process;
mod required;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

pub use config::Config;
pub(crate) use config::{is_bind, is_remount, require_absolute};
pub use error::{BundleError, FieldError, Problem};
pub(crate) use json::{below, check_nul, typed, without_nulls};
pub(crate) use process::{ProcessObject, SchedulerObject, check_variable};

use crate::document::{self, DocumentError};

/// The version of the OCI runtime specification that drupe follows.
pub const SPEC_VERSION: &str = "1.3.0";

/// The longest config.json that is read.
const MAX_CONFIG: u64 = 16 << 20;

/// A checked bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub dir: PathBuf,
    /// config.json.
    pub config: Config,
    /// What the sources of the bind mounts are, by the mount's place in `mounts`.
    pub sources: BTreeMap<usize, SourceKind>,
}

/// What the source of a bind mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A socket, a fifo or a device node.
    Special,
}

impl Bundle {
    /// Reads and checks the bundle in a directory.
    ///
    /// # Errors
    /// [`BundleError`] names the file, and the field if there is one.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join("config.json");
        let (json, _) = document::read(&path, MAX_CONFIG)?;
        let dir =
            std::path::absolute(dir).map_err(|source| DocumentError::Read { path: dir.into(), source })?;
        let config = Config::parse(&json, &path)?;
        check_rootfs(&dir, &config)?;
        let sources = bind_sources(&dir, &config)?;
        Ok(Self { dir, config, sources })
    }

    /// The root filesystem's path on the host.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        host_path(&self.dir, self.config.root().path())
    }

    /// A bind mount's source on the host.
    #[must_use]
    pub fn source(&self, source: &Path) -> PathBuf {
        host_path(&self.dir, source)
    }
}

/// A path of config.json on the host: relative ones start at the bundle. Without `.` and trailing slashes, so
/// that `O_NOFOLLOW` is about its last name.
fn host_path(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path).components().collect()
}

fn kind(path: &Path, follow: OFlags) -> Result<FileType, Problem> {
    let open = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty());
    let stat = open.and_then(rustix::fs::fstat).map_err(|errno| Problem::Path(errno.into()))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn check_rootfs(dir: &Path, config: &Config) -> Result<(), FieldError> {
    let path = config.root().path();
    let problem = match kind(&host_path(dir, path), OFlags::NOFOLLOW) {
        Ok(FileType::Directory) => return Ok(()),
        Ok(FileType::Symlink) => Problem::Symlink,
        Ok(_) => Problem::NotADirectory,
        Err(problem) => problem,
    };
    Err(FieldError::text("root.path", &path.to_string_lossy(), problem))
}

fn bind_sources(dir: &Path, config: &Config) -> Result<BTreeMap<usize, SourceKind>, FieldError> {
    let mut sources = BTreeMap::new();
    for (index, mount) in config.mounts().iter().enumerate() {
        if !is_bind(mount) || is_remount(mount) {
            continue;
        }
        let field = || format!("mounts[{index}].source");
        let Some(source) = mount.source() else { return Err(FieldError::new(field(), Problem::Missing)) };
        let kind = match kind(&host_path(dir, source), OFlags::empty()) {
            Ok(FileType::Directory) => SourceKind::Directory,
            Ok(FileType::RegularFile) => SourceKind::File,
            Ok(_) => SourceKind::Special,
            Err(problem) => return Err(FieldError::text(field(), &source.to_string_lossy(), problem)),
        };
        sources.insert(index, kind);
    }
    Ok(sources)
}

#[cfg(test)]
mod tests;
