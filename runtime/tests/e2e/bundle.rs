//! Bundles: config.json from the sample of images/bundles, changed as a case needs, and a root filesystem.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::running::{Output, Running};
use crate::stage::Stage;

const SAMPLE: &str = include_str!("../../../images/bundles/config.json");

/// A root filesystem of images/build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Busybox,
    Debian,
}

impl Image {
    /// Where the tree is; made on the first call where it was never made.
    pub(crate) fn path(self) -> &'static Path {
        static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
        static DEBIAN: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Busybox => BUSYBOX.get_or_init(|| build("busybox")),
            Self::Debian => DEBIAN.get_or_init(|| build("debian")),
        }
    }
}

fn build(name: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/build");
    let output = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("images/build");
    assert!(output.status.success(), "images/build {name}: {}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// A bundle on disk, as soon as it is run; until then its configuration can be changed.
#[derive(Debug)]
pub(crate) struct Bundle<'stage> {
    pub(crate) stage: &'stage Stage,
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
}

impl<'stage> Bundle<'stage> {
    pub(crate) fn copy(stage: &'stage Stage, args: &[&str]) -> Self {
        let mut bundle = Self::shared(stage, Image::Busybox, args);
        copy_tree(Image::Busybox.path(), &bundle.rootfs());
        bundle.config["root"] = json!({ "path": "rootfs" });
        bundle
    }

    pub(crate) fn shared(stage: &'stage Stage, image: Image, args: &[&str]) -> Self {
        let id = stage.id();
        let dir = stage.path(&id);
        fs::create_dir(&dir).expect("a new directory");
        let mut config: Value = serde_json::from_str(SAMPLE).expect("images/bundles/config.json");
        config["process"]["args"] = json!(args);
        config["root"] = json!({ "path": image.path(), "readonly": true });
        Self { stage, id, dir, config }
    }

    /// The copied root filesystem.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Puts the probe at /probe.
    pub(crate) fn add_probe(&self) {
        fs::copy(probe_program(), self.rootfs().join("probe")).expect("a copy of the probe");
    }

    /// Changes the configuration.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(self, mount: Value) -> Self {
        self.with(|config| config["mounts"].as_array_mut().expect("mounts").push(mount))
    }

    /// Adds a bind mount.
    pub(crate) fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Self {
        self.mount(
            json!({ "destination": destination, "type": "bind", "source": source, "options": options }),
        )
    }

    /// Leaves one namespace out of `linux.namespaces`.
    pub(crate) fn without_namespace(self, kind: &str) -> Self {
        self.with(|config| {
            let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            all.retain(|namespace| namespace["type"] != kind);
        })
    }

    /// Gives the workload these capabilities (in all sets but ambient), and no_new_privs as it was.
    pub(crate) fn capabilities(self, names: &[&str]) -> Self {
        self.with(|config| {
            config["process"]["capabilities"] =
                json!({ "bounding": names, "effective": names, "permitted": names });
        })
    }

    /// Writes config.json.
    pub(crate) fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).expect("config.json");
    }

    /// The command line that runs it, with nothing redirected yet.
    pub(crate) fn command(&self) -> Command {
        self.stage.subject.run(&self.stage.state(), &self.dir, &self.id)
    }

    /// Runs it with stdin from /dev/null and waits for its end.
    #[track_caller]
    pub(crate) fn run(&self) -> Output {
        self.write();
        Running::start(self.command().stdin(Stdio::null())).finish()
    }

    /// Runs it with these bytes on stdin, then end of file.
    #[track_caller]
    pub(crate) fn run_with(&self, stdin: &[u8]) -> Output {
        let mut running = self.start();
        running.send(stdin);
        running.close_stdin();
        running.finish()
    }

    /// Starts it with pipes for all three streams.
    pub(crate) fn start(&self) -> Running {
        self.write();
        Running::start(self.command().stdin(Stdio::piped()))
    }

    /// Runs the probe's report.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        let output = self.run();
        output.assert_status(0);
        serde_json::from_slice(&output.stdout).expect("the probe's JSON")
    }
}

/// `DRUPE_TEST_PROBE`, or the probe beside this test's own build.
pub(crate) fn probe_program() -> PathBuf {
    program("DRUPE_TEST_PROBE", "drupe-probe")
}

/// `DRUPE_TEST_FSCALLS`, or the program beside this test's own build.
pub(crate) fn fscalls_program() -> PathBuf {
    program("DRUPE_TEST_FSCALLS", "drupe-fscalls")
}

fn program(variable: &str, name: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(
        || {
            let own = env::current_exe().expect("own path");
            own.ancestors().nth(2).expect("target/.../deps/e2e").join(name)
        },
        PathBuf::from,
    );
    assert!(path.is_file(), "{}: not there (cargo build -p {name} makes it)", path.display());
    path
}

/// Copies a tree with modes, owners and links. Not hard links: a container may write to its copy.
fn copy_tree(from: &Path, to: &Path) {
    let metadata = fs::symlink_metadata(from).expect("the image");
    if metadata.is_symlink() {
        symlink(fs::read_link(from).expect("a link"), to).expect("a link's copy");
        return;
    }
    if metadata.is_dir() {
        fs::create_dir(to).expect("a directory's copy");
        for entry in fs::read_dir(from).expect("the image") {
            let name = entry.expect("an entry").file_name();
            copy_tree(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).expect("a file's copy");
    }
    if metadata.uid() != 0 {
        std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid())).expect("root");
    }
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)).expect("own file");
}
