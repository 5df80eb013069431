//! State that is not to be trusted: half-written, foreign, of another version, boot or container, of a process whose
//! pid is somebody else's by now. It is called stale, `delete --force` removes it, and nothing else is touched.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::case::Case;
use crate::container::{Container, until};
use crate::stage::Stage;

const OWN_FILES: &str = "the files are drupe's own";

pub(crate) fn cases() -> Vec<Case> {
    let cases = [
        Case::new("stale::records_of_a_monitor_that_was_killed", records).cost(3),
        Case::new("stale::a_record_of_another_version_is_no_end", running).cost(2),
        Case::new("stale::no_verb_finds_a_container", no_verb).before_any_machine(),
        Case::new("stale::what_somebody_else_put_there_stays", foreign).before_any_machine(),
        Case::new("stale::links_are_not_followed", links).before_any_machine(),
    ];
    cases.into_iter().map(|case| case.drupe_only(OWN_FILES)).collect()
}

/// A process that nobody may end.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("sleep"))
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert!(self.0.try_wait().expect("own child").is_none(), "a process of somebody else was ended");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory as drupe makes them.
fn directory(path: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).expect("own directory");
}

/// A container's directory with this record in it, and nobody who holds it.
fn left_behind(container: &Container<'_>, record: &str) -> PathBuf {
    directory(&container.bundle.stage.state());
    let path = container.bundle.stage.state().join(&container.bundle.id);
    directory(&path);
    fs::write(path.join("state.json"), record).expect("own file");
    path
}

/// The record that a killed monitor left, with the bystander's pid in the place of its own.
fn record(container: &Container<'_>, bystander: &Bystander) -> Value {
    container.make("create -b BUNDLE ID").assert(0, "");
    let file = container.bundle.stage.state().join(&container.bundle.id).join("state.json");
    let text = fs::read(file).expect("state.json");
    let monitor = container.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill_process(monitor.and_then(Pid::from_raw).expect("a pid"), Signal::KILL).expect("it runs");
    container.becomes("stopped");
    container.ok("delete ID");
    let mut record = serde_json::from_slice(&text).expect("JSON");
    replace_pids(&mut record, bystander.0.id());
    record
}

fn replace_pids(value: &mut Value, pid: u32) {
    for (name, value) in value.as_object_mut().into_iter().flatten() {
        if name == "pid" {
            *value = json!(pid);
        }
        replace_pids(value, pid);
    }
}

fn records(stage: &Stage) {
    let container = Container::new(stage.bundle(&["sleep", "1000"]));
    let mut bystander = Bystander::new();
    let good = record(&container, &bystander);
    untrusted(&container, &mut bystander, &good);
    recycled(&container, &mut bystander, &good);
}

fn untrusted(container: &Container<'_>, bystander: &mut Bystander, good: &Value) {
    let changed = |pointer: &str, value: Value| {
        let mut record = good.clone();
        *record.pointer_mut(pointer).expect("a field") = value;
        record.to_string()
    };
    let text = good.to_string();
    let pid = bystander.0.id();
    let runc = json!({ "id": container.bundle.id, "init_process_pid": pid, "config": {} }).to_string();
    let foreign = "not a record of drupe";
    for (record, why) in [
        (String::new(), foreign),
        (text[..text.len() / 2].to_owned(), foreign),
        (format!("{text}{text}"), foreign),
        ("\u{0}".repeat(100), foreign),
        (runc, foreign),
        (changed("/status", json!("flying")), foreign),
        (changed("/pid", json!("1")), foreign),
        (changed("/drupe/format", json!(99)), "of another format"),
        (changed("/drupe/bootId", json!("00000000-0000-0000-0000-000000000000")), "of another boot"),
        (changed("/id", json!("another")), "of another container"),
    ] {
        let path = left_behind(container, &record);
        let output = container.call("state ID");
        let line = output.stderr_text();
        assert!(output.status == 1 && line.contains("stale") && line.contains(why), "{record}: {output:?}");
        assert_eq!(container.call("kill ID KILL").status, 1, "{record}");
        assert!(path.join("state.json").exists(), "{record}");
        container.ok("delete --force ID");
        assert!(!path.exists(), "{record}");
        bystander.assert_unharmed();
    }
}

/// The record is whole, but the process that it names is another one.
fn recycled(container: &Container<'_>, bystander: &mut Bystander, good: &Value) {
    let path = left_behind(container, &good.to_string());
    let state = container.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    container.refused("kill ID KILL", "not running");
    container.ok("delete ID");
    assert!(!path.exists());
    left_behind(container, &good.to_string());
    container.ok("delete --force ID");
    assert!(!path.exists());
    bystander.assert_unharmed();
}

/// A container that runs while its record cannot be read, as after an update of drupe, is ended before it is removed.
fn running(stage: &Stage) {
    for (end, remove) in [("kill ID KILL", "delete ID"), ("delete --force ID", "delete --force ID")] {
        let container = Container::started(stage.bundle(&["sleep", "1000"]));
        let pid = container.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let monitor = pid.and_then(Pid::from_raw).expect("a pid");
        let file = container.bundle.stage.state().join(&container.bundle.id).join("state.json");
        fs::write(&file, json!({ "drupe": { "format": 99, "version": "9.9" } }).to_string()).expect("there");
        container.refused("state ID", "of another format");
        container.refused("delete ID", "not stopped: running");
        let list: Value = serde_json::from_str(&container.ok("list --format json")).expect("JSON");
        assert_eq!((&list[0]["status"], list[0]["created"] == ""), (&json!("running"), false), "{list}");
        kill_process(monitor, Signal::CONT).expect("nobody has ended it");
        container.ok(end);
        container.ok(remove);
        container.assert_status("none");
        assert!(until(|| stage.processes().is_empty()), "still there: {:?}", stage.processes());
    }
}

/// No verb takes a record of no worth for a container that runs.
fn no_verb(stage: &Stage) {
    let container = Container::new(stage.bundle(&["true"]));
    let path = left_behind(&container, "{");
    for line in ["start ID", "pause ID", "resume ID", "ps ID", "events --stats ID"] {
        assert_eq!(container.call(line).status, 1, "{line}");
    }
    assert_eq!(container.exec(&["true"]).status, 255);
    assert_eq!(container.ok("list --quiet"), format!("{}\n", container.bundle.id));
    container.refused("create -b BUNDLE ID", "already exists");
    container.ok("delete --force ID");
    assert!(!path.exists());
}

fn foreign(stage: &Stage) {
    let container = Container::new(stage.bundle(&["true"]));
    let path = left_behind(&container, "{}");
    for name in ["notes", "state.json.bak"] {
        fs::write(path.join(name), "mine").expect("own file");
        container.refused("delete --force ID", name);
        assert_eq!(fs::read_to_string(path.join(name)).expect("untouched"), "mine");
        fs::remove_file(path.join(name)).expect("own file");
    }
    // A directory that others can write to is not drupe's, whatever it holds.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("own directory");
    for line in ["state ID", "delete --force ID"] {
        container.refused(line, &container.bundle.id);
    }
    assert!(path.join("state.json").exists());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("own directory");
    container.ok("delete --force ID");
    assert!(!path.exists());
}

fn links(stage: &Stage) {
    let container = Container::new(stage.bundle(&["true"]));
    let mut bystander = Bystander::new();
    let elsewhere = stage.path("elsewhere");
    directory(&elsewhere);
    let text = json!({ "pid": bystander.0.id() }).to_string();
    fs::write(elsewhere.join("state.json"), &text).expect("own file");
    let untouched = || assert_eq!(fs::read_to_string(elsewhere.join("state.json")).expect("there"), text);
    directory(&stage.state());
    let path = stage.state().join(&container.bundle.id);
    symlink(&elsewhere, &path).expect("a link");
    for line in ["state ID", "kill ID KILL", "delete ID", "delete --force ID", "create -b BUNDLE ID"] {
        assert_eq!(container.call(line).status, 1, "{line}");
        untouched();
    }
    fs::remove_file(&path).expect("own link");

    // The record itself, and a lock, are links.
    directory(&path);
    symlink(elsewhere.join("state.json"), path.join("state.json")).expect("a link");
    symlink(elsewhere.join("state.json"), path.join("alive")).expect("a link");
    container.refused("state ID", "stale");
    container.ok("delete --force ID");
    assert!(!path.exists());
    untouched();

    // The root is one.
    let mut call = Command::new(&stage.subject.program);
    let root = stage.path("root");
    symlink(&elsewhere, &root).expect("a link");
    let output = call.arg("--root").arg(&root).args(["delete", "--force", "state.json"]).output();
    assert_eq!(output.expect("the runtime").status.code(), Some(1));
    untouched();
    bystander.assert_unharmed();
}
