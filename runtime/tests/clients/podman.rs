//! podman with a store of its own, whose only runtime is the one under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::done::{Done, eventually};
use crate::subject::Subject;

/// The image that containers are made of.
pub(crate) const IMAGE: &str = "localhost/busybox:latest";

/// A podman.
pub(crate) struct Podman {
    directory: PathBuf,
}

/// A container, removed by force at the end of its case.
pub(crate) struct Container<'a> {
    podman: &'a Podman,
    pub(crate) name: &'a str,
}

impl Podman {
    pub(crate) fn new(subject: &Subject) -> Self {
        let directory = subject.directory().join("podman");
        let store = directory.join("store");
        fs::create_dir_all(&store).unwrap();
        // The lab's root is an overlay, and one cannot be the upper directory of another.
        Done::of(Command::new("mount").args(["-t", "tmpfs", "store"]).arg(&store), Stdio::null()).ok();
        let name = subject.name();
        let engine = format!(
            "[engine]\nruntime = {name:?}\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             runtime_supports_json = [{name:?}]\n[engine.runtimes]\n{name} = [{:?}]\n\
             [network]\nnetwork_backend = \"cni\"\n[containers]\nlog_driver = \"k8s-file\"\n",
            subject.program
        );
        fs::write(directory.join("containers.conf"), engine).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            store.join("graph"),
            store.join("run")
        );
        fs::write(directory.join("storage.conf"), storage).unwrap();
        fs::write(directory.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .unwrap();
        let podman = Self { directory };
        let archive = podman.directory.join("image.tar");
        Done::of(
            Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&subject.image).arg("."),
            Stdio::null(),
        )
        .ok();
        let policy = podman.directory.join("policy.json");
        podman.run(&["import", "-q", "--signature-policy", text(&policy), text(&archive), IMAGE]).ok();
        podman
    }

    /// A path below podman's own directory, for files of cases.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.directory.join("storage.conf"));
        command.args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(&self.command(args), Stdio::null())
    }

    /// With something to read.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Done {
        let path = self.directory.join("input");
        fs::write(&path, input).unwrap();
        Done::of(&self.command(args), File::open(&path).unwrap().into())
    }

    /// On a terminal of its own.
    pub(crate) fn run_on_terminal(&self, args: &[&str]) -> Done {
        let mut words = vec!["podman".to_owned()];
        words.extend(args.iter().map(|arg| format!("'{}'", arg.replace('\'', r"'\''"))));
        let mut command = Command::new("script");
        for (name, value) in self.command(&[]).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        // At the end of its input `script` types what ends a line's; so it gets none before the command has ended.
        let (input, _open) = std::io::pipe().expect("pipe");
        Done::of(&command, input.into())
    }

    /// `podman run --rm --network none OPTIONS IMAGE ARGS`.
    pub(crate) fn run_once(&self, options: &[&str], args: &[&str]) -> Done {
        self.run(&[&["run", "--rm", "--network", "none"], options, &[IMAGE], args].concat())
    }

    /// A container that runs in the background.
    pub(crate) fn start<'a>(&'a self, name: &'a str, options: &[&str], args: &[&str]) -> Container<'a> {
        self.make("run", name, &[&["--detach"], options].concat(), args)
    }

    /// A container that is created.
    pub(crate) fn create<'a>(&'a self, name: &'a str, options: &[&str], args: &[&str]) -> Container<'a> {
        self.make("create", name, options, args)
    }

    fn make<'a>(&'a self, verb: &str, name: &'a str, options: &[&str], args: &[&str]) -> Container<'a> {
        let container = Container { podman: self, name };
        self.run(&[&[verb, "--name", name, "--network", "none"], options, &[IMAGE], args].concat()).ok();
        container
    }

    pub(crate) fn end(&self) {
        let store = self.directory.join("store");
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(store.join("graph/overlay"))
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("umount").arg("--lazy").arg(store).status();
    }
}

impl Container<'_> {
    /// `podman VERB ARGS NAME`.
    pub(crate) fn podman(&self, args: &[&str]) -> Done {
        self.podman.run(&[args, &[self.name]].concat())
    }

    /// `podman exec OPTIONS NAME ARGS`.
    pub(crate) fn exec(&self, options: &[&str], args: &[&str]) -> Done {
        self.podman.run(&[&["exec"], options, &[self.name], args].concat())
    }

    /// One field of `podman inspect`.
    pub(crate) fn inspect(&self, field: &str) -> String {
        self.podman(&["inspect", "--format", &format!("{{{{{field}}}}}")]).ok().to_owned()
    }

    /// Waits for a line in its log.
    #[track_caller]
    pub(crate) fn await_log(&self, line: &str) {
        eventually(line, || self.podman(&["logs"]).ok().lines().any(|logged| logged == line));
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let done = self.podman(&["rm", "--force", "--time", "0"]);
        if !std::thread::panicking() {
            done.ok();
        }
    }
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the paths here are text")
}
