//! Bad input: a status that is not 0, one line that names the file and the field, and nothing left behind.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::case::Case;
use crate::running::Output;
use crate::stage::Stage;
use crate::subject::Kind;

/// Status for whatever is refused before the workload's program is looked for.
const REFUSED: i32 = 1;

const RUNC_TAKES_IT: &str = "runc 1.1 does not mind";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = configurations();
    cases.extend(files());
    cases.extend(roots_and_sources());
    cases.extend(ids());
    cases.push(Case::new("bad_input::unknown_capabilities_are_warned_about", |stage| {
        // As the specification has it: a configuration may name capabilities of a newer kernel.
        let output = stage.bundle(&["echo", "runs"]).capabilities(&["CAP_FLY", "CAP_KILL"]).run();
        assert_eq!((output.status, output.stdout_text().as_str()), (0, "runs\n"), "{output:?}");
        assert!(output.stderr_text().contains("CAP_FLY"), "{output:?}");
    }));
    cases.push(Case::new("bad_input::unknown_properties_are_ignored", |stage| {
        // The specification asks for this: an extension must not stop a runtime that does not know it.
        let bundle = stage.bundle(&["echo", "runs"]).with(|config| {
            config["x-extension"] = json!({ "a": [1] });
            config["annotations"] =
                json!({ "org.example.kernel": "/nowhere", "io.drupe.kernel": "/nowhere" });
        });
        bundle.run().assert(0, "runs\n");
    }));
    cases
}

/// The verdict on a refusal. Other runtimes have texts of their own: there it must only be a refusal.
#[track_caller]
pub(crate) fn assert_refused(stage: &Stage, output: &Output, status: i32, names: &[&str]) {
    assert!(output.status != 0 && output.stdout.is_empty(), "not refused: {output:?}");
    if stage.subject.kind == Kind::Other {
        return;
    }
    output.assert_status(status);
    let text = output.stderr_text();
    assert!(text.ends_with('\n') && text.lines().count() == 1, "not one line: {output:?}");
    for name in names {
        assert!(text.contains(name), "{name} is not named: {output:?}");
    }
}

/// A configuration with one mistake, the field that it is in, and whether runc notices too.
type Mistake = (&'static str, &'static str, fn(&mut Value), bool);

fn configurations() -> Vec<Case> {
    let mistakes: [Mistake; 19] = [
        ("oci_version_unknown", "ociVersion", |c| c["ociVersion"] = json!("9.0.0"), false),
        ("oci_version_missing", "ociVersion", |c| remove(c, "ociVersion"), false),
        ("oci_version_no_string", "ociVersion", |c| c["ociVersion"] = json!(1), true),
        ("process_missing", "process", |c| remove(c, "process"), true),
        ("process_no_object", "process", |c| c["process"] = json!("sh"), true),
        ("args_empty", "process.args", |c| c["process"]["args"] = json!([]), true),
        ("args_missing", "process.args", |c| remove(&mut c["process"], "args"), true),
        ("args_no_list", "process.args", |c| c["process"]["args"] = json!("sh -c true"), true),
        ("args_of_numbers", "process.args", |c| c["process"]["args"] = json!([1, 2]), true),
        ("arg_with_nul", "process.args", |c| c["process"]["args"] = json!(["echo", "a\u{0}b"]), false),
        ("cwd_relative", "process.cwd", |c| c["process"]["cwd"] = json!("tmp"), true),
        ("cwd_missing", "process.cwd", |c| remove(&mut c["process"], "cwd"), true),
        ("uid_no_number", "process.user.uid", |c| c["process"]["user"]["uid"] = json!("root"), true),
        ("uid_negative", "process.user.uid", |c| c["process"]["user"]["uid"] = json!(-1), true),
        ("rlimit_unknown", "RLIMIT_FUN", rlimit_unknown, true),
        ("hostname_no_string", "hostname", |c| c["hostname"] = json!(7), true),
        ("mounts_no_list", "mounts", |c| c["mounts"] = json!({}), true),
        ("root_missing", "root", |c| remove(c, "root"), true),
        ("memory_negative", "linux.resources.memory.limit", memory_below_none, false),
    ];
    let case = |(name, field, change, runc_too): Mistake| {
        let case = Case::new(format!("bad_input::{name}"), move |stage| {
            let output = stage.bundle(&["true"]).with(change).run();
            assert_refused(stage, &output, REFUSED, &["config.json", field]);
        });
        let case = case.before_any_machine();
        if runc_too { case } else { case.drupe_only(RUNC_TAKES_IT) }
    };
    mistakes.into_iter().map(case).collect()
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().expect("an object").remove(key);
}

fn rlimit_unknown(config: &mut Value) {
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_FUN", "soft": 1, "hard": 1 }]);
}

fn memory_below_none(config: &mut Value) {
    config["linux"]["resources"] = json!({ "memory": { "limit": -2 } });
}

/// What is wrong with config.json as a file.
fn files() -> Vec<Case> {
    let texts: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("not_json", b"ociVersion: 1.0.2\n"),
        ("cut_short", b"{ \"ociVersion\": \"1.0.2\", \"process\": {"),
        ("a_list", b"[]"),
        ("not_utf8", b"{ \"ociVersion\": \"\xff\xfe\" }"),
    ];
    let mut cases = Vec::new();
    for (name, text) in texts {
        let case = Case::new(format!("bad_input::config_{name}"), move |stage| {
            let bundle = stage.bundle(&["true"]);
            fs::write(bundle.dir.join("config.json"), text).expect("a file");
            assert_refused(stage, &run_as_it_is(&bundle), REFUSED, &["config.json"]);
        });
        cases.push(case.before_any_machine());
    }
    let absent = Case::new("bad_input::config_absent", |stage| {
        let bundle = stage.bundle(&["true"]);
        let path = bundle.dir.join("config.json");
        assert_refused(stage, &run_as_it_is(&bundle), REFUSED, &[path.to_str().expect("UTF-8")]);
    });
    let directory = Case::new("bad_input::config_a_directory", |stage| {
        let bundle = stage.bundle(&["true"]);
        fs::create_dir(bundle.dir.join("config.json")).expect("a directory");
        assert_refused(stage, &run_as_it_is(&bundle), REFUSED, &["config.json"]);
    });
    let bundle = Case::new("bad_input::bundle_absent", |stage| {
        let mut bundle = stage.bundle(&["true"]);
        bundle.dir = stage.path("nowhere");
        assert_refused(stage, &run_as_it_is(&bundle), REFUSED, &["nowhere"]);
    });
    cases.extend([absent, directory, bundle].map(Case::before_any_machine));
    cases
}

/// Runs a bundle whose config.json the case has made, or not made.
fn run_as_it_is(bundle: &Bundle) -> Output {
    crate::running::Running::start(bundle.command().stdin(std::process::Stdio::null())).finish()
}

fn roots_and_sources() -> Vec<Case> {
    let root = |stage: &Stage, make: fn(&Bundle)| {
        let bundle = stage.bundle(&["true"]).with(|config| config["root"]["path"] = json!("other"));
        make(&bundle);
        assert_refused(stage, &bundle.run(), REFUSED, &["config.json", "root.path", "other"]);
    };
    let source = |stage: &Stage, kind: &str| {
        let missing = stage.path("missing");
        let bundle = stage.bundle(&["true"]).mount(json!({
            "destination": "/data", "type": kind, "source": missing, "options": ["rbind"],
        }));
        let field = format!("mounts[{}].source", bundle.config["mounts"].as_array().map_or(0, Vec::len) - 1);
        let names = ["config.json", &field, missing.to_str().expect("UTF-8")];
        assert_refused(stage, &bundle.run(), REFUSED, &names);
    };
    let cases = vec![
        Case::new("bad_input::rootfs_absent", move |stage| root(stage, |_| ())),
        Case::new("bad_input::rootfs_a_file", move |stage| {
            root(stage, |bundle| fs::write(bundle.dir.join("other"), "").expect("a file"));
        }),
        Case::new("bad_input::rootfs_a_symlink", move |stage| {
            root(stage, |bundle| symlink("rootfs", bundle.dir.join("other")).expect("a link"));
        })
        .drupe_only(RUNC_TAKES_IT),
        Case::new("bad_input::rootfs_a_dangling_symlink", move |stage| {
            root(stage, |bundle| symlink("nowhere", bundle.dir.join("other")).expect("a link"));
        }),
        Case::new("bad_input::mount_source_absent", move |stage| source(stage, "bind")),
        Case::new("bad_input::mount_source_absent_type_none", move |stage| source(stage, "none")),
        Case::new("bad_input::mount_destination_missing", |stage| {
            let bundle = stage.bundle(&["true"]).mount(json!({ "type": "tmpfs", "source": "tmpfs" }));
            assert_refused(stage, &bundle.run(), REFUSED, &["config.json", "mounts[7]"]);
        }),
        Case::new("bad_input::mount_option_unknown", |stage| {
            let data = stage.directory("data");
            let bundle = stage.bundle(&["true"]).bind(&data, "/data", &["rbind", "sideways"]);
            assert_refused(stage, &bundle.run(), REFUSED, &["config.json", "mounts[7]", "sideways"]);
        })
        .drupe_only(RUNC_TAKES_IT),
    ];
    cases.into_iter().map(Case::before_any_machine).collect()
}

fn ids() -> Vec<Case> {
    let ids =
        [("slash", "a/b"), ("dots", ".."), ("climbing", "../up"), ("empty", ""), ("odd_letters", "a\nb c")];
    let case = |(name, id): (&'static str, &'static str)| {
        let case = Case::new(format!("bad_input::id_with_{name}"), move |stage| {
            let mut bundle = stage.bundle(&["true"]);
            bundle.write();
            id.clone_into(&mut bundle.id);
            let output = run_as_it_is(&bundle);
            assert_refused(stage, &output, REFUSED, &["id"]);
            assert!(!stage.path("up").exists() && !stage.path("state/a").exists());
        });
        case.before_any_machine()
    };
    ids.into_iter().map(case).collect()
}
