//! The shared filesystem as a whole: mounts within shares, what it counts and keeps, and how long it believes what it
//! knows.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::case::{Case, scaled};
use crate::container::Container;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("filesystem::a_mount_within_a_share_is_a_filesystem_of_its_own", submount),
        Case::new("filesystem::links_do_not_lead_from_one_share_to_another", links_between_shares),
        Case::new("filesystem::what_it_does_is_counted", counted)
            .drupe_only("other runtimes have no such filesystem"),
        Case::new("filesystem::descriptors_are_bounded_however_many_files_are_seen", many_files)
            .cost(4)
            .drupe_only("other runtimes have no such filesystem"),
        Case::new("filesystem::files_that_nobody_changes_are_not_asked_for_again", immutable)
            .drupe_only("the annotation is drupe's own"),
    ]
}

/// Runs a program of the host that must succeed.
pub(crate) fn host(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("a program of the host");
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn submount(stage: &Stage) {
    let data = stage.directory("data");
    let inner = data.join("inner");
    fs::create_dir(&inner).expect("a directory");
    let path = inner.to_str().expect("text");
    host("mount", &["-t", "tmpfs", "tmpfs", path]);
    fs::write(inner.join("file"), "within\n").expect("a file");
    // The guest mounts it when something in it is first asked for.
    let script = "cat /data/inner/file && test $(stat -c %d /data) != $(stat -c %d /data/inner) \
        && find /data -xdev -name file && echo written >/data/inner/new \
        && ! ln /data/inner/file /data/link 2>/dev/null && echo apart";
    let output = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind"]).run();
    let written = fs::read_to_string(inner.join("new"));
    host("umount", &[path]);
    output.assert(0, "within\napart\n");
    assert_eq!(written.expect("what the container wrote"), "written\n");
}

fn links_between_shares(stage: &Stage) {
    let (one, other) = (stage.directory("one"), stage.directory("other"));
    fs::write(one.join("file"), "").expect("a file");
    let script = "ln /one/file /other/file";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&one, "/one", &["rbind"]);
    let output = bundle.bind(&other, "/other", &["rbind"]).run();
    assert!(output.status != 0 && output.stderr_text().contains("ross-device link"), "{output:?}");
    assert!(!other.join("file").exists());
}

/// What the shared filesystem of a container has done.
pub(crate) fn counts(container: &Container<'_>) -> Value {
    let event: Value = serde_json::from_str(&container.ok("events --stats ID")).expect("JSON");
    event["data"]["filesystem"].clone()
}

pub(crate) fn number(counts: &Value, pointer: &str) -> u64 {
    counts.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn counted(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("read"), vec![b'x'; 100_000]).expect("a file");
    let script =
        "cat /data/read >/dev/null; head -c 50000 /dev/zero >/data/written; echo done; sleep 1000 & wait";
    let container = Container::started(stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind"]));
    container.says("done");
    let counts = counts(&container);
    assert!(
        number(&counts, "/read_bytes") >= 100_000 && number(&counts, "/written_bytes") >= 50_000,
        "{counts}"
    );
    assert!(number(&counts, "/written_bytes") < 60_000, "{counts}");
    for opcode in ["LOOKUP", "OPEN", "READ", "WRITE", "CREATE"] {
        assert!(number(&counts, &format!("/requests/{opcode}")) > 0, "{opcode}: {counts}");
    }
    assert!(number(&counts, "/nodes") > 0 && number(&counts, "/cached_fds") > 0, "{counts}");
    container.end();
}

fn many_files(stage: &Stage) {
    let data = stage.directory("data");
    // A million in a soak.
    let (directories, files) = (10 * u64::from(scaled(1)), 1000 * u64::from(scaled(1)));
    for directory in 0..directories {
        let path = data.join(directory.to_string());
        fs::create_dir(&path).expect("a directory");
        for file in 0..files {
            fs::write(path.join(file.to_string()), "").expect("a file");
        }
    }
    let script = "find /data -type f -size 0 | wc -l; echo walked; sleep 1000 & wait";
    let bundle = stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind"]);
    let container = Container::started(bundle);
    container.says("walked");
    assert_eq!(container.stdout(), format!("{}\nwalked\n", directories * files));
    let counts = counts(&container);
    let fds = number(&counts, "/cached_fds") + number(&counts, "/pinned_fds");
    assert!(fds <= 4096 + 64, "{counts}");
    // The first and the last are still there.
    for path in ["/data/0/0".to_owned(), format!("/data/{}/{}", directories - 1, files - 1)] {
        assert_eq!(container.exec(&["stat", "-c", "%s", &path]).stdout_text(), "0\n");
    }
    container.end();
}

fn immutable(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("file"), "content\n").expect("a file");
    let script = "i=0; while [ $i -lt 20 ]; do cat /data/file >/dev/null; ls /data >/dev/null; i=$((i + 1)); done; \
        cat /data/file; ls /data; echo done; sleep 1000 & wait";
    let run = |annotation: &str| {
        let bundle =
            stage.bundle(&["sh", "-c", script]).bind(&data, "/data", &["rbind", "ro"]).with(|config| {
                config["root"]["readonly"] = json!(true);
                config["annotations"] = json!({ annotation: "/, /data" });
            });
        let container = Container::started(bundle);
        container.says("done");
        assert_eq!(container.stdout(), "content\nfile\ndone\n");
        let counts = counts(&container);
        container.end();
        counts
    };
    let (asked, trusted) = (run("other"), run("drupe.immutable"));
    assert!(number(&asked, "/requests/OPEN") > 20 && number(&asked, "/requests/READDIRPLUS") > 20, "{asked}");
    // The one that tells the guest that it need not ask.
    assert_eq!(number(&trusted, "/requests/OPEN"), 1, "{trusted}");
    assert_eq!(number(&trusted, "/requests/OPENDIR"), 1, "{trusted}");
}
