//! Bad bundles, each with the one line that it gets; and what is accepted.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use super::*;
use crate::text::chain;

/// A bundle directory with a root filesystem, and a config.json that is fine.
fn directory() -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("rootfs")).unwrap();
    let config = json!({
        "ociVersion": "1.2.0",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["true"], "cwd": "/" },
        "root": { "path": "rootfs" },
    });
    (dir, config)
}

fn load(dir: &tempfile::TempDir, json: impl AsRef<[u8]>) -> Result<Bundle, String> {
    fs::write(dir.path().join("config.json"), json).unwrap();
    let prefix = format!("{}/", dir.path().display());
    Bundle::load(dir.path()).map_err(|error| chain(&error).replace(&prefix, "DIR/"))
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[field] = value;
}

#[test]
fn a_bundle_without_linux_mounts_or_annotations_is_fine() {
    let (dir, config) = directory();
    let bundle = load(&dir, config.to_string()).unwrap();
    assert_eq!(bundle.rootfs(), dir.path().join("rootfs"));
    assert!(bundle.config.mounts().is_empty());
    assert!(bundle.config.linux().namespaces().is_none());
}

#[test]
fn a_file_that_is_no_config_is_named() {
    let (dir, _) = directory();
    let missing = chain(&Bundle::load(dir.path()).unwrap_err());
    assert_eq!(
        missing,
        format!("{}/config.json: No such file or directory (os error 2)", dir.path().display())
    );
    for (content, error) in [
        ("", "DIR/config.json: not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("{\n  \"a\" 1}", "DIR/config.json: not valid JSON: expected `:` at line 2 column 7"),
        ("{} x", "DIR/config.json: not valid JSON: trailing characters at line 1 column 4"),
        ("[]", "config.json: ociVersion: missing"),
    ] {
        assert_eq!(load(&dir, content).unwrap_err(), error, "{content}");
    }
    let huge = " ".repeat(usize::try_from(MAX_CONFIG).unwrap() + 1);
    assert_eq!(load(&dir, huge).unwrap_err(), "DIR/config.json: longer than 16777216 bytes");
    let deep = "[".repeat(1 << 20);
    assert!(load(&dir, deep).unwrap_err().starts_with("DIR/config.json: not valid JSON: recursion limit"));
}

#[test]
fn what_is_not_a_file_is_not_read() {
    let (dir, _) = directory();
    fs::create_dir(dir.path().join("config.json")).unwrap();
    let error = chain(&Bundle::load(dir.path()).unwrap_err());
    assert!(error.ends_with("/config.json: not a regular file"), "{error}");
    fs::remove_dir(dir.path().join("config.json")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("config.json"), FileType::Fifo, Mode::RWXU, 0)
        .unwrap();
    let error = chain(&Bundle::load(dir.path()).unwrap_err());
    assert!(error.ends_with("/config.json: not a regular file"), "{error}");
}

/// Sets a field of a good configuration and expects the line that follows.
fn expect(cases: &[(&str, Value, &str)]) {
    for (field, value, error) in cases {
        let (dir, mut config) = directory();
        symlink("rootfs", dir.path().join("link")).unwrap();
        set(&mut config, field, value.clone());
        let result = load(&dir, config.to_string());
        assert_eq!(result.err(), Some(format!("config.json: {error}")), "{field} = {value}");
    }
}

#[test]
fn bad_fields_of_version_and_process_are_named_with_their_values() {
    expect(&[
        ("/ociVersion", json!(null), "ociVersion: missing"),
        ("/ociVersion", json!("2.0.0"), "ociVersion: \"2.0.0\": not a version that drupe knows (1.x)"),
        ("/ociVersion", json!("1"), "ociVersion: \"1\": not a version that drupe knows (1.x)"),
        ("/ociVersion", json!("1.x"), "ociVersion: \"1.x\": not a version that drupe knows (1.x)"),
        ("/ociVersion", json!("1.0.0.0"), "ociVersion: \"1.0.0.0\": not a version that drupe knows (1.x)"),
        ("/process", json!(null), "process: missing"),
        ("/process", json!("sh"), "process: invalid type: string \"sh\", expected struct Process"),
        ("/process/args", json!(null), "process.args: missing"),
        ("/process/args", json!([]), "process.args: must not be empty"),
        ("/process/args", json!("sh"), "process.args: invalid type: string \"sh\", expected a sequence"),
        ("/process/args", json!(["sh", 1]), "process.args[1]: invalid type: integer `1`, expected a string"),
        ("/process/args", json!(["a", "b\0c"]), "process.args[1]: \"b\\0c\": must not contain a NUL"),
        ("/process", json!({ "args": ["a"], "user": { "uid": 0, "gid": 0 } }), "process.cwd: missing"),
        ("/process/cwd", json!("foo"), "process.cwd: \"foo\": must be an absolute path"),
        ("/process/cwd", json!(""), "process.cwd: must not be empty"),
        ("/process/cwd", json!("./"), "process.cwd: \"./\": must be an absolute path"),
        ("/process/user/uid", json!("0"), "process.user.uid: invalid type: string \"0\", expected u32"),
        ("/process/user/uid", json!(-1), "process.user.uid: invalid value: integer `-1`, expected u32"),
        ("/process/env", json!(["A=1", "B"]), "process.env[1]: \"B\": must have the form NAME=value"),
        ("/process/env", json!(["=x"]), "process.env[0]: \"=x\": must have the form NAME=value"),
        (
            "/process/noNewPrivileges",
            json!(1),
            "process.noNewPrivileges: invalid type: integer `1`, expected a boolean",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CPU", "soft": 2, "hard": 2 }]),
            "process.rlimits[1].type: \"RLIMIT_CPU\": given twice",
        ),
    ]);
}

#[test]
fn bad_fields_of_root_and_hostname_are_named_with_their_values() {
    expect(&[
        ("/root", json!(null), "root: missing"),
        ("/root", json!({}), "root.path: missing"),
        ("/root/path", json!("none"), "root.path: \"none\": No such file or directory (os error 2)"),
        ("/root/path", json!("config.json"), "root.path: \"config.json\": must be a directory"),
        ("/root/path", json!("link"), "root.path: \"link\": must not be a symbolic link"),
        ("/root/path", json!("link/"), "root.path: \"link/\": must not be a symbolic link"),
        ("/root/path", json!("link/."), "root.path: \"link/.\": must not be a symbolic link"),
        ("/hostname", json!(["a"]), "hostname: invalid type: sequence, expected a string"),
    ]);
}

#[test]
fn bad_fields_of_mounts_are_named_with_their_values() {
    expect(&[
        ("/mounts", json!({}), "mounts: invalid type: map, expected a sequence"),
        ("/mounts", json!([{ "type": "proc" }]), "mounts[0].destination: missing"),
        (
            "/mounts",
            json!([{ "destination": "", "type": "proc" }]),
            "mounts[0].destination: must not be empty",
        ),
        (
            "/mounts",
            json!([{ "destination": "/a/..", "type": "tmpfs" }]),
            "mounts[0].destination: \"/a/..\": must not be the root directory",
        ),
        ("/mounts", json!([{ "destination": "/a" }]), "mounts[0].type: missing"),
        ("/mounts", json!([{ "destination": "/a", "type": "bind" }]), "mounts[0].source: missing"),
        (
            "/mounts",
            json!([
                { "destination": "/p", "type": "proc" },
                { "destination": "/a", "type": "none", "source": "/no/such", "options": ["rbind"] }
            ]),
            "mounts[1].source: \"/no/such\": No such file or directory (os error 2)",
        ),
    ]);
}

#[test]
fn bad_fields_of_linux_are_named_with_their_values() {
    expect(&[
        (
            "/linux",
            json!({ "namespaces": [{ "type": "network" }, { "type": "network" }] }),
            "linux.namespaces[1].type: \"network\": given twice",
        ),
        (
            "/linux",
            json!({ "maskedPaths": ["/a", "b"] }),
            "linux.maskedPaths[1]: \"b\": must be an absolute path",
        ),
        (
            "/linux",
            json!({ "readonlyPaths": ["b"] }),
            "linux.readonlyPaths[0]: \"b\": must be an absolute path",
        ),
        (
            "/linux",
            json!({ "resources": { "memory": { "limit": "64M" } } }),
            "linux.resources.memory.limit: invalid type: string \"64M\", expected i64",
        ),
    ]);
}

#[test]
fn a_word_that_the_specification_does_not_have_is_named() {
    for (field, value, start) in [
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }]),
            "process.rlimits[0].type: ",
        ),
        ("/linux", json!({ "namespaces": [{ "type": "disk" }] }), "linux.namespaces[0].type: "),
    ] {
        let (dir, mut config) = directory();
        set(&mut config, field, value);
        let error = load(&dir, config.to_string()).unwrap_err();
        assert!(error.starts_with(&format!("config.json: {start}")), "{error}");
    }
}

#[test]
fn an_unknown_capability_is_left_out_and_named() {
    let (dir, mut config) = directory();
    let sets = json!({ "bounding": ["CAP_KILL", "CAP_FLY"], "effective": ["FLY", "KILL"] });
    set(&mut config, "/process/capabilities", sets);
    let bundle = load(&dir, config.to_string()).unwrap();
    let unknown = bundle.config.process().unknown_capabilities().iter();
    let unknown: Vec<_> = unknown.map(|unknown| (unknown.field.as_str(), unknown.name.as_str())).collect();
    assert_eq!(
        unknown,
        [("process.capabilities.bounding[1]", "CAP_FLY"), ("process.capabilities.effective[0]", "FLY")]
    );
    let kept = bundle.config.process().spec().capabilities().as_ref().unwrap();
    assert_eq!(serde_json::to_value(kept.bounding()).unwrap(), json!(["CAP_KILL"]));
    set(&mut config, "/process/capabilities", json!({ "bounding": ["CAP_FLY", 3] }));
    let error = load(&dir, config.to_string()).unwrap_err();
    assert!(error.starts_with("config.json: process.capabilities.bounding"), "{error}");
}

#[test]
fn versions_before_2_are_known() {
    let (dir, mut config) = directory();
    for version in ["0.5.0-dev", "1.0", "1.0.0", "1.0.2-dev", "1.3.0", "1.99.7-rc.1+x"] {
        set(&mut config, "/ociVersion", json!(version));
        load(&dir, config.to_string()).unwrap();
    }
}

#[test]
fn fields_that_the_specification_does_not_have_are_ignored() {
    let (dir, mut config) = directory();
    set(&mut config, "/process/futureField", json!({ "a": 1 }));
    set(&mut config, "/future", json!([1]));
    load(&dir, config.to_string()).unwrap();
}

#[test]
fn sources_of_bind_mounts_are_told_apart() {
    let (dir, mut config) = directory();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    symlink("f", dir.path().join("l")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("s")).unwrap();
    let mount = |source: &str| json!({ "destination": "/m", "source": source, "options": ["bind"] });
    let absolute = dir.path().join("f").to_str().unwrap().to_owned();
    set(
        &mut config,
        "/mounts",
        json!([mount("d"), { "destination": "/p", "type": "proc" }, mount("l"), mount("s"), mount(&absolute)]),
    );
    let bundle = load(&dir, config.to_string()).unwrap();
    let kinds: Vec<_> = bundle.sources.into_iter().collect();
    assert_eq!(
        kinds,
        [(0, SourceKind::Directory), (2, SourceKind::File), (3, SourceKind::Special), (4, SourceKind::File)]
    );
}
