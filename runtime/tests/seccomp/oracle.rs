//! libseccomp's own program for a profile, by way of its Python module.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use drupe::seccomp::Profile;
use serde_json::{Value, json};

use crate::interpreter::{Data, run};
use crate::reading::Reading;
use crate::{AUDIT_I386, ENOSYS};

const PYTHON: &str = "/usr/bin/python3";
const DEFAULT_PROFILE: &str = "/usr/share/containers/seccomp.json";

/// The programs that libseccomp makes when it is fed as runc feeds it.
pub(crate) fn programs(profiles: &[Profile]) -> Vec<Vec<u64>> {
    let profiles: Vec<_> = profiles.iter().map(as_json).collect();
    let mut child = Command::new(PYTHON)
        .args(["-c", include_str!("oracle.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&profiles).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{PYTHON} with python3-seccomp (lab/setup check): {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Both programs agree on a call. What runc puts in front of libseccomp's is known here.
pub(crate) fn compare(reading: &Reading, profile: &Profile, ours: &[u64], theirs: &[u64], data: &Data) {
    let permissive =
        matches!(profile.default_action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
    let got = run(ours, data);
    let last = reading.last(profile, data);
    if got == ENOSYS && !permissive && data.number > last {
        return;
    }
    assert_eq!(got, run(theirs, data), "{data:x?}, last {last}, under {profile:#x?}");
}

/// The call is `socketcall` or `ipc` of 32-bit x86, behind which are others.
pub(crate) fn multiplexes(data: &Data) -> bool {
    data.audit == AUDIT_I386 && matches!(data.number, 102 | 117)
}

fn as_json(profile: &Profile) -> Value {
    let rules = profile.syscalls.iter().map(|rule| {
        let args = rule.args.iter().map(|arg| json!([arg.index, arg.op, arg.value, arg.value_two]));
        json!([rule.names, [rule.action, rule.errno_ret], args.collect::<Vec<_>>()])
    });
    json!({ "default": [profile.default_action, profile.default_errno_ret],
        "architectures": profile.architectures, "rules": rules.collect::<Vec<_>>() })
}

/// podman's default profile, as podman resolves it for a container on x86_64 with these capabilities.
pub(crate) fn default_profile(capabilities: &[&str]) -> Profile {
    let text = fs::read(DEFAULT_PROFILE).unwrap_or_else(|error| {
        panic!("{DEFAULT_PROFILE} (golang-github-containers-common, lab/setup check): {error}")
    });
    let mut value: Value = serde_json::from_slice(&text).unwrap();
    value["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let has = |rule: &Value, which: &str, what: &str, ours: &[&str]| {
        let listed = rule[which][what].as_array()?;
        Some(listed.iter().any(|one| ours.contains(&one.as_str().unwrap())))
    };
    value["syscalls"].as_array_mut().unwrap().retain(|rule| {
        has(rule, "includes", "arches", &["amd64"]) != Some(false)
            && has(rule, "includes", "caps", capabilities) != Some(false)
            && has(rule, "excludes", "caps", capabilities) != Some(true)
    });
    Profile::from_json(&value).unwrap()
}
