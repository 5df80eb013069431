//! A containerd of its own, whose runc shim is told to call the runtime under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::done::{Done, eventually};
use crate::subject::Subject;

/// The image that containers are made of.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";

/// A containerd.
pub(crate) struct Containerd {
    directory: PathBuf,
    runtime: PathBuf,
    daemon: Mutex<Child>,
}

impl Containerd {
    pub(crate) fn new(subject: &Subject) -> Self {
        let directory = subject.directory().join("containerd");
        fs::create_dir_all(&directory).unwrap();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[debug]\nlevel = \"debug\"\n",
            directory.join("root"),
            directory.join("state"),
            directory.join("socket")
        );
        fs::write(directory.join("config.toml"), config).unwrap();
        let log = File::create(directory.join("log")).unwrap();
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(directory.join("config.toml")).stdin(Stdio::null());
        let daemon =
            daemon.stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("containerd can be run");
        let runtime = subject.program.clone();
        let containerd = Self { directory, runtime, daemon: Mutex::new(daemon) };
        eventually("containerd answers", || containerd.ctr(&["version"]).status == 0);
        let archive = containerd.directory.join("image.tar");
        oci_archive(&subject.image, &containerd.directory.join("layout"), &archive);
        let path = archive.to_str().unwrap();
        containerd.ctr(&["images", "import", "--snapshotter", "native", "--index-name", IMAGE, path]).ok();
        containerd
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.directory.join("socket")).args(args);
        command
    }

    pub(crate) fn ctr(&self, args: &[&str]) -> Done {
        Done::of(&self.command(args), Stdio::null())
    }

    /// With something to read.
    pub(crate) fn ctr_with_input(&self, args: &[&str], input: &str) -> Done {
        let path = self.directory.join("input");
        fs::write(&path, input).unwrap();
        Done::of(&self.command(args), File::open(&path).unwrap().into())
    }

    /// `ctr run OPTIONS IMAGE NAME ARGS`.
    pub(crate) fn run(&self, options: &[&str], name: &str, args: &[&str]) -> Done {
        let runtime = self.runtime.to_str().unwrap();
        let fixed = ["run", "--runc-binary", runtime, "--snapshotter", "native"];
        self.ctr(&[&fixed, options, &[IMAGE, name], args].concat())
    }

    pub(crate) fn end(&self) {
        let mut daemon = self.daemon.lock().unwrap();
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

/// Makes an OCI archive of a root filesystem: one layer, as it is.
fn oci_archive(root: &Path, layout: &Path, archive: &Path) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let tar = |from: &Path, to: &Path| {
        Done::of(Command::new("tar").arg("-cf").arg(to).arg("-C").arg(from).arg("."), Stdio::null()).ok();
    };
    let add = |file: &Path, kind: &str| -> Value {
        let sum = Done::of(Command::new("sha256sum").arg(file), Stdio::null());
        let digest = sum.ok().split(' ').next().unwrap();
        fs::rename(file, blobs.join(digest)).unwrap();
        let size = fs::metadata(blobs.join(digest)).unwrap().len();
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size })
    };
    let part = layout.join("part");
    tar(root, &part);
    let layer = add(&part, "layer.v1.tar");
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] } });
    fs::write(&part, config.to_string()).unwrap();
    let config = add(&part, "config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    fs::write(&part, manifest.to_string()).unwrap();
    let manifest = add(&part, "manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string()).unwrap();
    tar(layout, archive);
}
