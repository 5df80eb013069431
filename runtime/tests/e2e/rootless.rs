//! Users without root: they run their own bundles, where they may use /dev/kvm.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::until;
use crate::running::{Output, Running};
use crate::stage::Stage;

/// nobody.
const USER: u32 = 65_534;

pub(crate) fn cases() -> Vec<Case> {
    let elsewhere = "runc wants a user namespace in the config";
    let cases = vec![
        Case::new("rootless::a_user_without_root_has_every_verb", |stage| {
            life(&Rootless::new(stage, &[]), "")
        })
        .cost(4),
        Case::new("rootless::so_has_root_of_a_user_namespace", |stage| {
            life(&Rootless::new(stage, &["unshare", "--map-root-user", "--mount"]), "--rootless true");
        })
        .cost(4),
        Case::new("rootless::a_cgroup_that_was_asked_for_is_not_left_out", cgroups).cost(4),
    ];
    cases.into_iter().map(|case| case.drupe_only(elsewhere).needs(kvm_for_users)).collect()
}

/// A bundle of a user's own, and what the user needs to run it.
struct Rootless<'stage> {
    stage: &'stage Stage,
    id: String,
    dir: PathBuf,
    config: Value,
    program: PathBuf,
    /// What runs the program.
    before: &'static [&'static str],
}

impl<'stage> Rootless<'stage> {
    fn new(stage: &'stage Stage, before: &'static [&'static str]) -> Self {
        let bundle = stage.bundle(&["sh", "-c", "echo begun; sleep 1000"]);
        // The user need not get at where they are built.
        let copy = |from: &Path, name: &str| {
            fs::copy(from, stage.path(name)).expect("a copy");
            stage.path(name)
        };
        let program = copy(&stage.subject.program, "drupe");
        for variable in ["DRUPE_KERNEL", "DRUPE_INITRAMFS"] {
            if let Some(file) = std::env::var_os(variable) {
                copy(Path::new(&file), variable);
            }
        }
        stage.directory("run");
        let (id, dir, config) = (bundle.id.clone(), bundle.dir.clone(), bundle.config.clone());
        let rootless = Self { stage, id, dir, config, program, before };
        rootless.write(|_| ());
        for path in [&rootless.dir, &stage.path("run")] {
            let given = Command::new("chown").args(["-R", "65534:65534"]).arg(path).status();
            assert!(given.is_ok_and(|status| status.success()), "{}", path.display());
        }
        rootless
    }

    fn write(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config.clone();
        change(&mut config);
        fs::write(self.dir.join("config.json"), config.to_string()).expect("config.json");
    }

    /// The runtime with these words, as the user, who has no directory for state but XDG_RUNTIME_DIR.
    fn line(&self, line: &str) -> Command {
        let words = self.before.iter().map(Path::new).chain([self.program.as_path()]);
        let mut words = words.map(Path::as_os_str);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        for word in line.split_whitespace() {
            match word {
                "ID" => command.arg(&self.id),
                "BUNDLE" => command.arg(&self.dir),
                other => command.arg(other),
            };
        }
        for variable in ["DRUPE_KERNEL", "DRUPE_INITRAMFS"] {
            let file = self.stage.path(variable);
            if file.exists() {
                command.env(variable, file);
            }
        }
        command.env("XDG_RUNTIME_DIR", self.stage.path("run")).env_remove("USER");
        command.uid(USER).gid(USER).current_dir("/").stdin(Stdio::null());
        command
    }

    fn call(&self, line: &str) -> Output {
        Running::start(&mut self.line(line)).finish()
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let output = self.call(line);
        output.assert(0, &output.stdout_text());
        output.stdout_text()
    }

    /// `create`, with files for the container's streams; what it says.
    fn create(&self, flags: &str) -> (i32, String) {
        let file = |name: &str| fs::File::create(self.stage.path(name)).expect("a file");
        let mut command = self.line(&format!("{flags} create -b BUNDLE ID"));
        let status = Running::completed(command.stdout(file("stdout")).stderr(file("stderr")));
        (status, self.read("stderr"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.stage.path(name)).expect("a file")
    }

    #[track_caller]
    fn end(&self) {
        self.ok("delete --force ID");
        let left = fs::read_dir(self.stage.path("run/drupe")).expect("the user's state").count();
        assert_eq!(left, 0);
    }
}

/// That the user may use /dev/kvm: nothing can be asked of the runtime elsewhere.
fn kvm_for_users() -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3<>/dev/kvm"]).uid(USER).gid(USER);
    let may = shell.output().is_ok_and(|output| output.status.success());
    if may { Ok(()) } else { Err("users without root may not use /dev/kvm".into()) }
}

fn life(user: &Rootless<'_>, flags: &str) {
    assert_eq!(user.create(flags), (0, String::new()));
    user.ok("start ID");
    assert!(until(|| user.read("stdout") == "begun\n"), "{:?}", user.read("stderr"));
    let state: Value = serde_json::from_str(&user.ok("state ID")).expect("JSON");
    assert_eq!(state["status"], "running");
    assert_eq!(user.ok("exec ID id -u"), "0\n");
    assert!(user.ok("list -q").lines().any(|id| id == user.id));
    assert!(user.ok("ps ID").contains("sleep 1000"));
    user.ok("update --pids-limit 30 ID");
    assert!(user.ok("events --stats ID").contains("\"limit\":"));
    user.ok("pause ID");
    user.ok("resume ID");
    user.ok("kill ID KILL");
    assert!(until(|| user.ok("state ID").contains("\"stopped\"")));
    user.ok("delete ID");
    user.end();
}

fn cgroups(stage: &Stage) {
    let user = Rootless::new(stage, &[]);
    user.write(|config| config["linux"]["resources"] = json!({ "pids": { "limit": 50 } }));
    // Not on stderr, which is the container's.
    let (status, _) = user.create(&format!("--log {}", stage.path("run/log").display()));
    let text = user.read("run/log");
    let warned = "linux.resources.pids.limit: without a cgroup on the host it holds in the guest alone";
    assert!(status == 0 && text.contains(warned), "{status}: {text}");
    user.ok("delete --force ID");
    for (flags, path, resources, error) in [
        ("", "", json!({ "blockIO": { "weight": 100 } }), "linux.resources.blockIO.weight"),
        ("", "/drupe-e2e-asked-for", json!({}), "/sys/fs/cgroup/drupe-e2e-asked-for: Permission denied"),
        ("--rootless false", "", json!({}), "Permission denied"),
    ] {
        user.write(|config| {
            config["linux"]["resources"] = resources;
            config["linux"]["cgroupsPath"] = json!(path);
        });
        let (status, text) = user.create(flags);
        assert!(status == 1 && text.contains(error), "{flags} {path}: {status}: {text}");
    }
    user.end();
}
