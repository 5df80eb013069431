//! What who operates the host decides: /etc/drupe/config.toml.
//!
//! Nothing in a bundle chooses a kernel, its command line or the size of a machine unless this file says that it may.
//! Without the file everything has its default. A key that drupe does not know is an error, so that a slip of the pen
//! in `allow` does not go unnoticed.

mod size;

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use drupe_vmm::{MemorySize, VcpuCount};
use serde::Deserialize;

pub use size::Size;

use crate::document::{self, DocumentError};

/// The file, unless `DRUPE_CONFIG` names another.
pub const DEFAULT_FILE: &str = "/etc/drupe/config.toml";

/// The variable that names another file.
pub const VARIABLE: &str = "DRUPE_CONFIG";

/// The longest file that is read.
const MAX_LENGTH: u64 = 1 << 20;

/// What the operator decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Guest kernel, an ELF vmlinux; beside the program when not given.
    pub kernel: Option<PathBuf>,
    /// Guest initramfs with drupe's agent; beside the program when not given.
    pub initramfs: Option<PathBuf>,
    /// Memory of machines.
    pub memory: MemorySettings,
    /// Processors of machines.
    pub vcpus: VcpuSettings,
    /// What takes the writes to root filesystems.
    pub writable_layer: WritableLayer,
    /// What a config.json may choose by itself.
    pub allow: Allow,
}

/// Memory of machines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// Of a container without a limit.
    #[serde(deserialize_with = "size::memory")]
    pub default: MemorySize,
    /// The most that a machine gets.
    #[serde(deserialize_with = "size::memory")]
    pub max: MemorySize,
    /// Beside what the guest needs, on top of a container's limit.
    pub spare: Size,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { default: MemorySize::DEFAULT, max: MemorySize::MAX, spare: Size(0) }
    }
}

/// Processors of machines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VcpuSettings {
    /// Of a container that says nothing about them.
    #[serde(deserialize_with = "size::vcpus")]
    pub default: VcpuCount,
    /// The most that a machine gets.
    #[serde(deserialize_with = "size::vcpus")]
    pub max: VcpuCount,
}

impl Default for VcpuSettings {
    fn default() -> Self {
        Self { default: VcpuCount::ONE, max: VcpuCount::MAX }
    }
}

/// What takes the writes to a container's root filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WritableLayer {
    /// What it is.
    pub kind: LayerKind,
    /// The most that it holds.
    #[serde(deserialize_with = "size::layer")]
    pub size: Size,
    /// Where on the host the files of ext4 layers are made.
    pub directory: PathBuf,
    /// Directories of containers that are on the layer itself, with no overlay in between.
    pub volumes: Vec<PathBuf>,
}

impl Default for WritableLayer {
    fn default() -> Self {
        let (size, directory) = (Size(10 << 30), PathBuf::from("/var/tmp"));
        Self { kind: LayerKind::None, size, directory, volumes: Vec::new() }
    }
}

/// What kind of filesystem a writable layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// There is no layer: what is written is in the bundle's root filesystem.
    #[default]
    None,
    /// In the guest's memory.
    Tmpfs,
    /// In a file of the host that has no name.
    Ext4,
}

/// What the `vm` object of a config.json may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// `vm.kernel.path`.
    pub vm_kernel: bool,
    /// `vm.kernel.parameters`.
    pub vm_parameters: bool,
    /// `vm.kernel.initrd`.
    pub vm_initrd: bool,
    /// `vm.hwConfig.vcpus` and `vm.hwConfig.memory`.
    pub vm_hardware: bool,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Others than its owner may write it.
    #[error("{}: must be writable for its owner alone, which is root or who runs drupe", .0.display())]
    Untrusted(PathBuf),
    /// It is not UTF-8, which TOML is.
    #[error("{}: not UTF-8", .0.display())]
    NotText(PathBuf),
    /// A key or value is wrong.
    #[error("{}: line {line}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What.
        message: String,
    },
    /// A path must not depend on where drupe is started.
    #[error("{}: {key}: {value:?}: must be an absolute path", path.display())]
    Relative {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: PathBuf,
    },
}

impl Settings {
    /// Reads the file that `DRUPE_CONFIG` names, or else the default one, which need not be there.
    ///
    /// # Errors
    /// [`SettingsError`] names the file and what is wrong with it.
    pub fn load() -> Result<Self, SettingsError> {
        match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => Self::of_file(Path::new(&name), true),
            None => Self::of_file(Path::new(OsStr::new(DEFAULT_FILE)), false),
        }
    }

    fn of_file(path: &Path, required: bool) -> Result<Self, SettingsError> {
        match read(path) {
            Err(SettingsError::Document(error)) if !required && error.is_missing() => Ok(Self::default()),
            text => Self::parse(&text?, path),
        }
    }

    /// Parses the text of a file, whose path is for messages.
    ///
    /// # Errors
    /// As for [`Settings::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError::Value {
            path: path.to_owned(),
            line: error
                .span()
                .map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1),
            message: error.message().trim_end().replace('\n', ", "),
        })?;
        let layer = &settings.writable_layer;
        let paths = settings.kernel.iter().map(|value| ("kernel", value));
        let paths = paths.chain(settings.initramfs.iter().map(|value| ("initramfs", value)));
        let paths = paths.chain([("writable_layer.directory", &layer.directory)]);
        let paths = paths.chain(layer.volumes.iter().map(|value| ("writable_layer.volumes", value)));
        for (key, value) in paths {
            if !value.is_absolute() {
                return Err(SettingsError::Relative { path: path.to_owned(), key, value: value.clone() });
            }
        }
        Ok(settings)
    }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let (bytes, metadata) = document::read(path, MAX_LENGTH)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o022 != 0 || (metadata.uid() != 0 && metadata.uid() != own) {
        return Err(SettingsError::Untrusted(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| SettingsError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests;
