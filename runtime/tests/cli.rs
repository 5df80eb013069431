//! The real program, as far as it goes without KVM: bad input gives one line and a status, and leaves nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

/// A bundle, a kernel and an initramfs that look right, and an empty state directory.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(site.path("bundle/rootfs")).unwrap();
        site.config(|_| {});
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(4096, 0);
        fs::write(site.path("vmlinux"), elf).unwrap();
        fs::write(site.path("initramfs"), b"070701 TRAILER!!!\0\0\0").unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["true"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "network" }] },
        });
        change(&mut config);
        fs::write(self.path("bundle/config.json"), config.to_string()).unwrap();
    }

    fn drupe(&self) -> Command {
        let mut drupe = Command::new(env!("CARGO_BIN_EXE_drupe"));
        drupe.env("DRUPE_KERNEL", self.path("vmlinux")).env("DRUPE_INITRAMFS", self.path("initramfs"));
        drupe.arg("--root").arg(self.path("root")).stdin(Stdio::null());
        drupe
    }

    fn run(&self, id: &str) -> Command {
        let mut drupe = self.drupe();
        drupe.arg("run").arg("--bundle").arg(self.path("bundle")).arg(id);
        drupe
    }

    /// The one line of a run that fails; nothing is left behind.
    fn failure(&self, drupe: &mut Command) -> String {
        let output = drupe.output().unwrap();
        let line = stderr(&output).replace(&format!("{}/", self.dir.path().display()), "");
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(output.stdout, b"", "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let left = fs::read_dir(self.path("root")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{line}");
        line.trim_end().strip_prefix("drupe: ").unwrap().to_owned()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn output(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drupe")).args(args).output().unwrap()
}

#[test]
fn bad_bundles() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 6] = [
        (
            |c| c["process"]["cwd"] = json!("foo"),
            "config.json: process.cwd: \"foo\": must be an absolute path",
        ),
        (
            |c| c["root"]["path"] = json!("none"),
            "config.json: root.path: \"none\": No such file or directory (os error 2)",
        ),
        (|c| c["process"]["args"] = json!([]), "config.json: process.args: must not be empty"),
        (
            |c| c["process"]["scheduler"] = json!({ "policy": "SCHED_FAST" }),
            "config.json: process.scheduler.policy: \"SCHED_FAST\": no scheduling policy of Linux",
        ),
        (
            |c| c["linux"]["resources"] = json!({ "memory": { "limit": i64::MAX } }),
            "config.json: linux.resources.memory.limit: 9223372036854775807: above the maximum of 1082563026062",
        ),
        (
            |c| c["mounts"] = json!([{ "destination": "/a", "source": "/no/such", "options": ["bind"] }]),
            "config.json: mounts[0].source: \"/no/such\": No such file or directory (os error 2)",
        ),
    ];
    let site = Site::new();
    for (change, line) in cases {
        site.config(change);
        assert_eq!(site.failure(&mut site.run("x")), line);
    }
    fs::write(site.path("bundle/config.json"), "{").unwrap();
    let line = site.failure(&mut site.run("x"));
    assert_eq!(line, "bundle/config.json: not valid JSON: EOF while parsing an object at line 1 column 1");
    fs::remove_file(site.path("bundle/config.json")).unwrap();
    let line = site.failure(&mut site.run("x"));
    assert_eq!(line, "bundle/config.json: No such file or directory (os error 2)");
}

#[test]
fn bad_images() {
    let site = Site::new();
    for (name, content, line) in [
        ("vmlinux", Some("short"), "vmlinux: not an ELF file (a kernel is an uncompressed vmlinux)"),
        ("vmlinux", Some("\x7fELF"), "vmlinux: truncated: 4 bytes"),
        ("vmlinux", None, "vmlinux: No such file or directory (os error 2)"),
        ("initramfs", Some("070701 cut off"), "initramfs: truncated: 14 bytes"),
        ("initramfs", Some("not an archive"), "initramfs: not a cpio archive"),
        ("initramfs", None, "initramfs: No such file or directory (os error 2)"),
    ] {
        let site_path = site.path(name);
        let before = fs::read(&site_path).unwrap();
        match content {
            Some(content) => fs::write(&site_path, content).unwrap(),
            None => fs::remove_file(&site_path).unwrap(),
        }
        assert_eq!(site.failure(&mut site.run("x")), line);
        fs::write(&site_path, before).unwrap();
    }
    let line = site.failure(site.run("x").env_remove("DRUPE_KERNEL"));
    assert!(line.starts_with("vmlinux: not found: looked for "), "{line}");
    assert!(
        line.contains("lib/drupe/vmlinux, /usr/lib/drupe/vmlinux, /usr/local/lib/drupe/vmlinux; name it"),
        "{line}"
    );
}

/// Everything but KVM is right. What comes next depends on where this runs; it is one line and leaves nothing,
/// because the kernel is no kernel.
#[test]
fn a_good_bundle_comes_as_far_as_kvm() {
    let site = Site::new();
    let line = site.failure(&mut site.run("x"));
    assert!(line.starts_with("/dev/kvm") || line.starts_with("the machine"), "{line}");
    // Relative bundles and a second run are the same.
    let line_again = site.failure(site.drupe().current_dir(site.path("bundle")).args(["run", "x"]));
    assert_eq!(line_again, line);
}

#[test]
fn streams_that_are_closed_do_no_harm() {
    let site = Site::new();
    site.config(|c| c["process"]["cwd"] = json!("foo"));
    for closed in ["<&-", ">&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"] {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {closed}")).arg(env!("CARGO_BIN_EXE_drupe"));
        shell.arg("--root").arg(site.path("root")).arg("run").arg("-b").arg(site.path("bundle")).arg("x");
        assert_eq!(shell.output().unwrap().status.code(), Some(1), "{closed}");
    }
}

#[test]
fn bad_roots_and_ids() {
    let site = Site::new();
    for (id, line) in [
        ("a/b", "id \"a/b\": an id has only letters, digits and \"_+-.\", not '/'"),
        ("..", "id \"..\": an id must not be \".\" or \"..\""),
        (".", "id \".\": an id must not be \".\" or \"..\""),
        ("", "id \"\": an id must not be empty"),
    ] {
        assert_eq!(site.failure(&mut site.run(id)), line);
    }
    let log = site.path("log");
    site.failure(site.run("a/b").arg("--log").arg(&log).args(["--log-format", "json"]));
    let logged: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(logged["level"], "error");
    assert!(logged["msg"].as_str().unwrap().starts_with("id \"a/b\": "), "{logged}");
    let line = site.failure(site.run("x").args(["--root", ""]));
    assert_eq!(line, "a value is required for '--root <DIR>' but none was supplied; see drupe run --help");
    fs::create_dir(site.path("elsewhere")).unwrap();
    symlink("elsewhere", site.path("link")).unwrap();
    let line = site.failure(site.run("x").arg("--root").arg(site.path("link")));
    assert_eq!(line, "link: must be a directory, and not a symbolic link");
    assert_eq!(fs::read_dir(site.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn an_id_in_use() {
    let site = Site::new();
    let in_use = site.path("root/x");
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(&in_use).unwrap();
    fs::write(in_use.join("state.json"), "{").unwrap();
    for verb in ["run", "create"] {
        let output =
            site.drupe().arg(verb).arg("--bundle").arg(site.path("bundle")).arg("x").output().unwrap();
        assert_eq!(stderr(&output), "drupe: container with given ID already exists\n");
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(in_use.exists());
    let state = site.drupe().args(["state", "x"]).output().unwrap();
    assert!(stderr(&state).starts_with("drupe: container x: its state is stale"), "{}", stderr(&state));
    assert!(site.drupe().args(["delete", "--force", "x"]).status().unwrap().success());
    site.failure(&mut site.run("x"));
}

#[test]
fn verbs_on_what_is_not_there() {
    let site = Site::new();
    for verb in ["state", "start", "kill", "delete"] {
        let line = site.failure(site.drupe().args([verb, "x"]));
        assert_eq!(line, "container does not exist", "{verb}");
    }
    let forced = site.drupe().args(["delete", "--force", "x"]).output().unwrap();
    assert!(forced.status.success() && forced.stdout.is_empty() && forced.stderr.is_empty(), "{forced:?}");
    let list = site.drupe().arg("list").output().unwrap();
    assert!(list.status.success());
    assert_eq!(list.stdout, b"ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    assert!(!site.path("root").exists());
}

#[test]
fn warnings_name_the_field_and_can_go_to_a_file() {
    let site = Site::new();
    site.config(|c| c["linux"]["mountLabel"] = json!("c"));
    let warning = "config.json: linux.mountLabel: not applied: the guest's kernel has no SELinux";
    let output = site.run("x").output().unwrap();
    assert_eq!(stderr(&output).lines().next(), Some(format!("drupe: warning: {warning}").as_str()));
    let log = site.path("log");
    let line = site.failure(site.run("x").arg("--log").arg(&log).args(["--log-format", "json"]));
    let records: Vec<serde_json::Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["level"], "warning");
    assert_eq!(records[0]["msg"], warning);
    assert_eq!(records.last().unwrap()["level"], "error");
    assert_eq!(records.last().unwrap()["msg"], line.as_str());
    assert!(records.iter().all(|record| record["time"].as_str().unwrap().ends_with('Z')));
}

#[test]
fn what_becomes_a_containers_stderr_gets_no_warnings() {
    let site = Site::new();
    site.config(|c| c["linux"]["mountLabel"] = json!("c"));
    let line = site.failure(site.drupe().arg("create").arg("--bundle").arg(site.path("bundle")).arg("x"));
    assert!(!line.contains("warning"), "{line}");
}

#[test]
fn help_version_and_completion() {
    let help = output(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Examples:") && text.contains("drupe run --bundle"), "{text}");
    let help = output(&["run", "--help"]);
    assert!(String::from_utf8(help.stdout).unwrap().contains("Exit status:"));

    let version = String::from_utf8(output(&["--version"]).stdout).unwrap();
    let lines: Vec<_> = version.lines().collect();
    assert_eq!(lines[0], format!("drupe version {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()), "{version}");
    assert_eq!(lines[2..], ["spec: 1.3.0".to_owned(), format!("protocol: {}", drupe_protocol::VERSION)]);

    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completion", shell]);
        assert!(script.status.success() && !script.stdout.is_empty(), "{shell}");
    }
    let wrong = output(&["run"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(
        stderr(&wrong),
        "drupe: the following required arguments were not provided: <ID>; see drupe run --help\n"
    );
    assert_eq!(output(&[]).status.code(), Some(1));
}

/// A log that cannot be opened is an error of its own.
#[test]
fn a_bad_log_is_named() {
    let output = output(&["--log", "/no/such/dir/log", "completion", "bash"]);
    assert_eq!(stderr(&output), "drupe: /no/such/dir/log: No such file or directory (os error 2)\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(!Path::new("/no/such").exists());
}
