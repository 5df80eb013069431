//! `--systemd-cgroup`: systemd makes the cgroup, and keeps its limits.
//!
//! Where it is not this machine's init, as in the lab, one is started in namespaces of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::until;
use crate::running::{Output, Running};
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("systemd::a_scope_keeps_its_limits", scope).needs(available).cost(6)]
}

const PROGRAM: &str = "/lib/systemd/systemd";
/// What it is asked through.
const BUS: [&str; 2] = ["/usr/bin/dbus-daemon", "/usr/bin/busctl"];

const NOT_WANTED: &str = "systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
                          systemd-tmpfiles-clean.timer tmp.mount systemd-sysctl.service";

/// A systemd that answers.
enum Systemd {
    /// The machine's own.
    OfHost,
    /// One of ours: who made its namespaces, and its process as seen from here.
    Ours(Child, String),
}

fn runs_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// That there is one, or that one may be started.
fn available() -> Result<(), String> {
    if runs_here() {
        return Ok(());
    }
    if std::env::var_os("LAB").is_none() {
        return Err("systemd does not run here".into());
    }
    let mut needed = BUS.iter().chain([&PROGRAM]);
    needed
        .find(|path| !Path::new(path).exists())
        .map_or(Ok(()), |missing| Err(format!("{missing} is missing")))
}

impl Systemd {
    fn find() -> Self {
        if runs_here() {
            return Self::OfHost;
        }
        // Its services that would clear /tmp are left out, and the one that changes the kernel's settings for all.
        let units = "/run/systemd/system";
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p {units} && for unit in {NOT_WANTED}; do \
             ln -s /dev/null {units}/$unit; done; container=lab exec {PROGRAM} --system --unit=basic.target"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
        let child = unshare
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        assert!(until(|| !init().is_empty()), "unshare has no child");
        let systemd = Self::Ours(child, init());
        let answers = || systemd.call("busctl", &["status"]).status == 0;
        assert!(until(answers), "systemd does not come up");
        systemd
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::OfHost => Command::new(program),
            Self::Ours(_, pid) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", pid, "--mount", "--pid", "--"]).arg(program);
                command
            }
        }
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Output {
        Running::start(self.command(program).args(arguments).stdin(Stdio::null())).finish()
    }

    /// A property of a unit.
    fn property(&self, unit: &str, name: &str) -> String {
        self.call("systemctl", &["show", "--value", "--property", name, unit]).stdout_text().trim().to_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if let Self::Ours(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
            let hierarchy = Path::new("/sys/fs/cgroup");
            for name in ["init.scope", "system.slice", "user.slice", "drupe.slice"] {
                let _ = Command::new("find")
                    .arg(hierarchy.join(name))
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

fn scope(stage: &Stage) {
    let systemd = Systemd::find();
    let bundle = stage.bundle(&["sleep", "1000"]);
    let (id, unit) = (bundle.id.clone(), format!("box-{}.scope", bundle.id));
    let bundle = bundle.with(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("drupe-e2e.slice:box:{id}"));
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
    });
    bundle.write();
    let command = |line: &str| {
        let mut command = systemd.command(&stage.subject.program);
        command.arg("--root").arg(stage.state()).args(line.split_whitespace()).stdin(Stdio::null());
        command
    };
    let ok = |line: &str| {
        let output = Running::start(&mut command(line)).finish();
        assert_eq!(output.status, 0, "{line}: {output:?}");
        output.stdout_text()
    };
    let mut create = command("--systemd-cgroup create --bundle");
    create.arg(&bundle.dir).arg(&bundle.id).stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(Running::completed(&mut create), 0);
    ok(&format!("start {id}"));
    let state: Value = serde_json::from_str(&ok(&format!("state {id}"))).expect("JSON");
    let cgroups = systemd.call("cat", &[&format!("/proc/{}/cgroup", state["pid"])]).stdout_text();
    let place = format!("/drupe.slice/drupe-e2e.slice/{unit}");
    assert!(cgroups.trim_end().ends_with(&place), "{cgroups}");

    let tasks = || systemd.property(&unit, "TasksMax").parse::<u64>().expect("a number");
    let before = tasks();
    ok(&format!("update --pids-limit 40 {id}"));
    assert_eq!(tasks(), before - 10);
    // It sets what it knows again.
    systemd.call("systemctl", &["daemon-reload"]).assert(0, "");
    let file = Path::new("/sys/fs/cgroup").join(&place[1..]).join("pids.max");
    if let Ok(limit) = fs::read_to_string(&file) {
        assert_eq!(limit.trim(), tasks().to_string());
    }
    ok(&format!("kill {id} KILL"));
    assert!(until(|| ok(&format!("state {id}")).contains("\"stopped\"")));
    ok(&format!("delete {id}"));
    assert!(until(|| systemd.property(&unit, "LoadState") == "not-found"), "{unit} is left");
}
