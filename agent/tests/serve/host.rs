//! The host's side of the tests: starts an agent, speaks the protocol, holds the other ends of the streams.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{
    Capabilities, ExitStatus, Failure, GuestConfig, GuestMessage, HostMessage, MountConfig, MountSource,
    Process, RecursiveAttributes, RootConfig, SignalTarget,
};
use tempfile::TempDir;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "kill", "sleep", "head", "dd", "id", "grep", "stat", "wc", "echo", "env", "pwd",
    "mkdir", "touch", "hostname", "readlink", "ps", "mount", "md5sum", "test", "true", "chmod", "uname",
    "ifconfig", "ionice", "ln", "stty", "tty", "chown",
];

/// Why the tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    if !fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t0\t0\n") {
        return Some("they mount filesystems, and need root".into());
    }
    if busybox().is_none() {
        return Some("there is no static busybox (Debian: busybox-static)".into());
    }
    if cgroup2().is_none() {
        return Some("no cgroup2 hierarchy is mounted".into());
    }
    None
}

fn busybox() -> Option<PathBuf> {
    let path =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|path| path.exists())?;
    // A program with an interpreter does not run in a root without libraries.
    let bytes = fs::read(&path).ok()?;
    (!bytes.windows(8).take(4096).any(|window| window == b"ld-linux")).then_some(path)
}

/// On the lab's machine, which is thrown away, agents get every controller.
pub(crate) fn offer_controllers() {
    if std::env::var_os("LAB").is_some() {
        let root = cgroup2().unwrap();
        for name in fs::read_to_string(root.join("cgroup.controllers")).unwrap().split_whitespace() {
            fs::write(root.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
        }
    }
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| fields[1].into())
    })
}

/// An agent with its directories, and the control connection to it.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) cgroup: PathBuf,
    control: UnixStream,
    decoder: Decoder,
    agent: Child,
    next_port: u32,
}

/// How a container ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Host {
    /// Starts an agent with one share, `root`, that holds busybox.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("drupe-agent").tempdir().unwrap();
        // The root of a user namespace passes here too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["shares", "stage", "ports"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        // Its name is nobody else's.
        let cgroup = cgroup2().unwrap().join(dir.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        let listener = UnixListener::bind(dir.path().join("control")).unwrap();
        let agent = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--ipc",
                "--uts",
                "--net",
                "--mount-proc",
                "--",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg("--agent")
            .args([dir.path(), &cgroup])
            .spawn()
            .unwrap();
        let (control, _) = listener.accept().unwrap();
        control.set_read_timeout(Some(LIMIT)).unwrap();
        let mut host = Self { dir, cgroup, control, decoder: Decoder::new(), agent, next_port: 5000 };
        host.make_root("root");
        let GuestMessage::Hello { version, build, pid1_us, now_us } = host.receive() else {
            panic!("no hello")
        };
        assert_eq!((version, build.as_str()), (drupe_protocol::VERSION, drupe_protocol::BUILD));
        assert!(pid1_us <= now_us);
        host
    }

    pub(crate) fn share(&self, name: &str) -> PathBuf {
        self.dir.path().join("shares").join(name)
    }

    /// Makes a share with a minimal userland.
    pub(crate) fn make_root(&self, name: &str) -> PathBuf {
        let root = self.share(name);
        for dir in ["bin", "etc", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        root
    }

    /// Makes a share read-only for the agent, as the host does: a read-only mount in its mount namespace.
    pub(crate) fn protect(&self, name: &str) {
        let path = self.share(name);
        for args in [vec!["--bind"], vec!["-o", "remount,bind,ro"]] {
            let mut command = Command::new("nsenter");
            command
                .args(["-t", &self.agent_pid().to_string(), "-m", "mount"])
                .args(args)
                .args([&path, &path]);
            assert!(command.status().unwrap().success());
        }
    }

    /// Mounts a tmpfs on a directory of a share, as the agent sees it.
    pub(crate) fn mount_tmpfs(&self, path: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.agent_pid().to_string(), "-m", "mount", "-t", "tmpfs", "tmpfs"]);
        assert!(command.arg(self.share(path)).status().unwrap().success());
    }

    /// The agent is the child of unshare(1).
    pub(crate) fn agent_pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.agent.id());
        fs::read_to_string(children).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn send(&mut self, message: &HostMessage) {
        self.control.write_all(&frame::encode(message).unwrap()).unwrap();
    }

    pub(crate) fn send_slowly(&mut self, message: &HostMessage) {
        for byte in frame::encode(message).unwrap() {
            self.control.write_all(&[byte]).unwrap();
        }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).unwrap();
    }

    /// Sends on a thread of its own, while the test does something else.
    pub(crate) fn send_beside(&self, messages: Vec<HostMessage>) -> JoinHandle<()> {
        let mut control = self.control.try_clone().unwrap();
        thread::spawn(move || {
            messages.iter().for_each(|message| control.write_all(&frame::encode(message).unwrap()).unwrap());
        })
    }

    pub(crate) fn receive(&mut self) -> GuestMessage {
        loop {
            if let Some(message) = self.decoder.take().unwrap() {
                return message;
            }
            let mut bytes = [0; 4096];
            let length = self.control.read(&mut bytes).expect("a message within the time limit");
            assert!(length > 0, "the agent closed the connection");
            self.decoder.push(&bytes[..length]);
        }
    }

    /// Closes the control connection and waits for the agent's end.
    pub(crate) fn hang_up(&mut self) -> bool {
        self.control.shutdown(std::net::Shutdown::Both).unwrap();
        self.agent.wait().unwrap().success()
    }

    pub(crate) fn listen(&mut self) -> (u32, UnixListener) {
        self.next_port += 1;
        let path = self.dir.path().join("ports").join(self.next_port.to_string());
        (self.next_port, UnixListener::bind(path).unwrap())
    }

    pub(crate) fn configure(&mut self, config: &GuestConfig) -> Result<(), Failure> {
        self.send(&HostMessage::Configure { config: Box::new(config.clone()) });
        match self.receive() {
            GuestMessage::Ready { container, configured_us, mounted_us, now_us } => {
                assert_eq!(container, config.id);
                assert!(configured_us <= mounted_us && mounted_us <= now_us);
                Ok(())
            }
            GuestMessage::Failed { container, failure } => {
                assert_eq!(container, config.id);
                Err(failure)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start(&mut self, id: &str) -> Result<(), Failure> {
        self.send(&HostMessage::Start { container: id.into(), state: String::new() });
        match self.receive() {
            GuestMessage::Started { container, pid, .. } => {
                assert_eq!(container, id);
                assert!(pid > 1);
                Ok(())
            }
            GuestMessage::Failed { failure, .. } => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exited(&mut self, id: &str) -> ExitStatus {
        match self.receive() {
            GuestMessage::Exited { container, status } => {
                assert_eq!(container, id);
                // "nothing of it is left" when it is said to have ended.
                assert!(!self.cgroup.join("drupe").join(id).exists(), "the cgroup is left");
                status
            }
            other => panic!("{other:?}"),
        }
    }

    /// Configures and starts a container.
    pub(crate) fn run(&mut self, config: &GuestConfig) {
        self.configure(config).unwrap();
        self.start(&config.id).unwrap();
    }

    pub(crate) fn signal(&mut self, container: &str, target: SignalTarget, signal: i32) {
        self.send(&HostMessage::Signal { container: container.into(), target, signal });
    }

    /// Starts an exec; returns its pid in the agent's namespace.
    pub(crate) fn exec_start(&mut self, id: &str, exec: u32, process: Process) -> Result<i32, Failure> {
        self.send(&HostMessage::Exec { container: id.into(), exec, process: Box::new(process) });
        match self.receive() {
            GuestMessage::ExecStarted { container, exec: started, pid } => {
                assert_eq!((container.as_str(), started), (id, exec));
                Ok(pid)
            }
            GuestMessage::ExecFailed { container, exec: failed, failure } => {
                assert_eq!((container.as_str(), failed), (id, exec));
                Err(failure)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exec_exited(&mut self, id: &str, exec: u32) -> ExitStatus {
        match self.receive() {
            GuestMessage::ExecExited { container, exec: ended, status } => {
                assert_eq!((container.as_str(), ended), (id, exec));
                status
            }
            other => panic!("{other:?}"),
        }
    }

    /// Runs an exec to its end, with stdout and stderr.
    pub(crate) fn exec(&mut self, id: &str, exec: u32, mut process: Process) -> Result<Outcome, Failure> {
        let (port, stdout) = self.listen();
        process.stdio.stdout = Some(port);
        let (port, stderr) = self.listen();
        process.stdio.stderr = Some(port);
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        self.exec_start(id, exec, process)?;
        let status = self.exec_exited(id, exec);
        Ok(Outcome { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs a container to its end, with stdout and stderr.
    pub(crate) fn try_run(&mut self, mut config: GuestConfig) -> Result<Outcome, Failure> {
        let (port, stdout) = self.listen();
        config.process.stdio.stdout = Some(port);
        let stdout = collect(stdout);
        let (port, stderr) = self.listen();
        config.process.stdio.stderr = Some(port);
        let stderr = collect(stderr);
        self.configure(&config)?;
        self.start(&config.id)?;
        let status = self.exited(&config.id);
        Ok(Outcome { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs a container that must succeed, and returns what it wrote to stdout.
    pub(crate) fn output(&mut self, config: GuestConfig) -> String {
        let outcome = self.try_run(config).unwrap();
        assert_eq!(outcome.status, ExitStatus::Code(0), "{outcome:?}");
        outcome.stdout
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.agent.wait();
        remove_cgroups(&self.cgroup);
    }
}

/// Removes a cgroup and those below it; the processes of containers that a test left running end with the agent.
fn remove_cgroups(cgroup: &Path) {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_cgroups(&entry.path()));
    for _ in 0..100 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn text(bytes: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.join().unwrap()).into_owned()
}

fn collect(listener: UnixListener) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A container that runs a shell script in the share `root`, with /proc.
pub(crate) fn script(text: &str) -> GuestConfig {
    command(&["sh", "-c", text])
}

pub(crate) fn command(args: &[&str]) -> GuestConfig {
    GuestConfig {
        id: "c1".into(),
        root: RootConfig { share: "root".into(), readonly: false, layer: None },
        mounts: vec![filesystem("proc", "/proc", "")],
        process: Process {
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/usr/bin:/bin".into()],
            cwd: "/".into(),
            capabilities: every_capability(),
            ..Process::default()
        },
        ..GuestConfig::default()
    }
}

/// All that the tests have, where root may lack some: tests of other things are root with all its rights.
fn every_capability() -> Capabilities {
    let all: Vec<String> =
        caps::read(None, caps::CapSet::Permitted).unwrap().iter().map(ToString::to_string).collect();
    Capabilities {
        bounding: all.clone(),
        effective: all.clone(),
        inheritable: vec![],
        permitted: all,
        ambient: vec![],
    }
}

pub(crate) fn filesystem(fstype: &str, destination: &str, data: &str) -> MountConfig {
    MountConfig {
        field: "mounts[0]".into(),
        destination: destination.into(),
        source: MountSource::Filesystem { fstype: fstype.into(), source: fstype.into(), data: data.into() },
        flags: 0,
        propagation: vec![],
        recursive: RecursiveAttributes::default(),
        copy_up: false,
    }
}

pub(crate) fn bind(share: &str, destination: &str, file: bool) -> MountConfig {
    MountConfig {
        field: "mounts[0]".into(),
        destination: destination.into(),
        source: MountSource::Share { name: share.into(), file },
        flags: 0,
        propagation: vec![],
        recursive: RecursiveAttributes::default(),
        copy_up: false,
    }
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}
