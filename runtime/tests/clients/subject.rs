//! The runtime under test, and the clients that are set up for it when a case first wants them.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::containerd::Containerd;
use crate::podman::Podman;

/// The runtime under test.
pub(crate) struct Subject {
    pub(crate) program: PathBuf,
    /// A root filesystem with busybox.
    pub(crate) image: PathBuf,
    directory: tempfile::TempDir,
    podman: OnceLock<Podman>,
    containerd: OnceLock<Containerd>,
}

impl Subject {
    pub(crate) fn from_env() -> Self {
        let path =
            |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
        Self {
            program: path("DRUPE_TEST_RUNTIME"),
            image: path("DRUPE_TEST_IMAGE"),
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
            podman: OnceLock::new(),
            containerd: OnceLock::new(),
        }
    }

    /// The name of the runtime's program, by which clients call it.
    pub(crate) fn name(&self) -> &str {
        self.program.file_name().and_then(|name| name.to_str()).expect("the runtime's path ends in a name")
    }

    pub(crate) fn is_drupe(&self) -> bool {
        self.name() == "drupe"
    }

    /// Where clients keep what is theirs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn podman(&self) -> &Podman {
        self.podman.get_or_init(|| Podman::new(self))
    }

    pub(crate) fn containerd(&self) -> &Containerd {
        self.containerd.get_or_init(|| Containerd::new(self))
    }

    /// Stops and unmounts what the clients have left running.
    pub(crate) fn end(&self) {
        if let Some(containerd) = self.containerd.get() {
            containerd.end();
        }
        if let Some(podman) = self.podman.get() {
            podman.end();
        }
    }
}
