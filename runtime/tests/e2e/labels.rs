//! Labels of the host's security modules: the monitor has them, where the host has the module.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::case::Case;
use crate::container::Container;
use crate::stage::Stage;

const ON_THE_MONITOR: &str =
    "the workload has no label, and runc looks for a securityfs that not every host mounts";
/// A profile that every namespace of policies has.
const UNCONFINED: &str = "unconfined";

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new("labels::a_profile_that_the_host_lacks_is_refused", unknown_profile),
        Case::new("labels::the_monitor_has_the_profile", profile).needs(apparmor).cost(2),
        Case::new("labels::a_context_is_no_error_on_a_host_without_selinux", context).needs(no_selinux),
    ];
    cases.into_iter().map(|case| case.drupe_only(ON_THE_MONITOR)).collect()
}

fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.trim() == "Y")
}

fn apparmor() -> Result<(), String> {
    if has_apparmor() { Ok(()) } else { Err("this host has no AppArmor".into()) }
}

fn no_selinux() -> Result<(), String> {
    if Path::new("/sys/fs/selinux/enforce").exists() { Err("this host has SELinux".into()) } else { Ok(()) }
}

fn unknown_profile(stage: &Stage) {
    let profile = "drupe-e2e-no-such-profile";
    let bundle = stage.bundle(&["echo", "ran"]);
    let output = bundle.with(|config| config["process"]["apparmorProfile"] = json!(profile)).run();
    let text = output.stderr_text();
    if has_apparmor() {
        assert_eq!((output.status, output.stdout_text().as_str()), (1, ""), "{output:?}");
        assert!(text.contains(&format!("process.apparmorProfile: {profile:?}: AppArmor")), "{output:?}");
    } else {
        assert_eq!((output.status, output.stdout_text().as_str()), (0, "ran\n"), "{output:?}");
        assert!(
            text.contains("process.apparmorProfile: not applied to the monitor: no AppArmor"),
            "{output:?}"
        );
    }
}

/// A namespace of AppArmor's policies, which has a profile without anybody having to compile one.
struct Policies {
    securityfs: PathBuf,
    directory: PathBuf,
}

impl Policies {
    fn new(stage: &Stage, name: &str) -> Self {
        let securityfs = stage.directory("securityfs");
        call(Command::new("mount").args(["-t", "securityfs", "securityfs"]).arg(&securityfs));
        let directory = securityfs.join("apparmor/policy/namespaces").join(name);
        fs::create_dir(&directory).expect("a namespace of policies");
        Self { securityfs, directory }
    }
}

impl Drop for Policies {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
        call(Command::new("umount").arg(&self.securityfs));
    }
}

fn call(command: &mut Command) {
    assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
}

fn profile(stage: &Stage) {
    let name = format!("drupe-e2e-{}", std::process::id());
    let policies = Policies::new(stage, &name);
    let profile = format!(":{name}:{UNCONFINED}");
    let mark = stage.path("hook");
    let hook = json!({
        "path": "/bin/sh",
        "args": ["sh", "-c", format!("cat /proc/self/attr/current >{}", mark.display())],
    });
    let bundle = stage.bundle(&["sleep", "1000"]).with(|config| {
        config["process"]["apparmorProfile"] = json!(profile);
        config["hooks"] = json!({ "createContainer": [hook] });
    });
    let container = Container::new(bundle);
    assert_eq!(container.make("create -b BUNDLE ID").status, 0, "{}", container.stderr());
    container.ok("start ID");
    let pid = container.state()["pid"].as_u64().expect("a pid");
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the monitor").flatten() {
        let label = fs::read_to_string(task.path().join("attr/current")).expect("a label");
        assert!(label.starts_with(&profile), "{}: {label:?}", task.path().display());
    }
    assert_eq!(read(&mark).trim(), UNCONFINED, "a hook is not the container's");
    let output = container.exec(&["echo", "still there"]);
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "still there\n"), "{output:?}");
    container.end();
    drop(policies);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file")
}

fn context(stage: &Stage) {
    let label = json!("system_u:system_r:container_kvm_t:s0:c1,c2");
    let bundle = stage.bundle(&["echo", "ran"]).with(|config| config["process"]["selinuxLabel"] = label);
    let output = bundle.run();
    assert_eq!((output.status, output.stdout_text().as_str()), (0, "ran\n"), "{output:?}");
    for text in ["not applied: the guest's kernel has no", "not applied to the monitor: no SELinux"] {
        let text = format!("process.selinuxLabel: {text}");
        assert!(output.stderr_text().contains(&text), "{output:?}");
    }
}
