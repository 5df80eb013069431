//! What a container must not do to the host through its mounts: read-only holds, and no path in the root
//! filesystem, whatever links it is made of, leads the runtime out of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::mounts::options_of;
use crate::stage::Stage;

/// Everything that a root of the guest could wish for.
const POWERFUL: [&str; 6] =
    ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER", "CAP_MKNOD", "CAP_DAC_READ_SEARCH"];

const EROFS: &str = "30\n";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("mount_safety::read_only_bind", read_only_bind),
        Case::new("mount_safety::read_only_root", read_only_root),
        Case::new("mount_safety::read_only_is_the_workloads_view_too", |stage| {
            let data = stage.directory("data");
            let bundle = stage.probe(&["/probe"]).bind(&data, "/data", &["rbind", "ro"]);
            let report = bundle.with(|config| config["root"]["readonly"] = json!(true)).report();
            assert!(options_of(&report, "/data").contains(&"ro".to_owned()));
            assert!(options_of(&report, "/").contains(&"ro".to_owned()));
        }),
        Case::new("mount_safety::read_only_bind_holds_against_a_remount", remounted_bind)
            .drupe_only("elsewhere a root with CAP_SYS_ADMIN may remount"),
        Case::new("mount_safety::read_only_root_holds_against_a_remount", remounted_root)
            .drupe_only("elsewhere a root with CAP_SYS_ADMIN may remount"),
        Case::new("mount_safety::read_only_file_holds_against_a_remount", remounted_file)
            .drupe_only("elsewhere a root with CAP_SYS_ADMIN may remount"),
        trap("directory_destination_through_an_absolute_link", "/trap/made", Trap::Absolute, bind_directory),
        trap("directory_destination_through_a_climbing_link", "/trap/made", Trap::Climbing, bind_directory),
        trap("file_destination_through_an_absolute_link", "/trap/made", Trap::Absolute, bind_file),
        trap("file_destination_that_is_a_link", "/trap", Trap::ToFile, bind_file),
        trap("tmpfs_destination_through_an_absolute_link", "/trap/made", Trap::Absolute, mount_tmpfs),
        trap("cwd_through_an_absolute_link", "/trap/made", Trap::Absolute, working_directory),
        trap("masked_path_through_an_absolute_link", "/trap/kept", Trap::Absolute, masked_path),
        Case::new("mount_safety::dot_dot_in_a_destination_stays_inside", |stage| {
            let data = stage.directory("data");
            fs::write(data.join("seen"), "").expect("a file");
            let bundle = stage.bundle(&["ls", "/up"]);
            bundle.bind(&data, "/../../../../../up", &["rbind"]).run().assert(0, "seen\n");
            assert!(!Path::new("/up").exists());
        }),
    ]
}

fn read_only_bind(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("file"), "kept\n").expect("a file");
    let script = "cat /data/file; /probe write /data/file bad; /probe write /data/new bad; rm -f /data/file || \
        mkdir /data/dir || chmod 600 /data/file || mv /data/file /data/else || ln /data/file /data/hard";
    let bundle = stage.probe(&["sh", "-c", script]).bind(&data, "/data", &["rbind", "ro"]);
    let output = bundle.run();
    assert_eq!(output.stdout_text(), format!("kept\n{EROFS}{EROFS}"));
    assert_eq!(output.stderr_text().matches("Read-only file system").count(), 5, "{output:?}");
    assert_eq!(listing(&data), [("file".to_owned(), "kept\n".to_owned())]);
}

fn read_only_root(stage: &Stage) {
    let script = "/probe write /new bad; /probe write /etc/passwd bad; /probe write /dev/shm/x ok";
    let bundle = stage.probe(&["sh", "-c", script]).with(|config| config["root"]["readonly"] = json!(true));
    let rootfs = bundle.rootfs();
    bundle.run().assert(0, &format!("{EROFS}{EROFS}0\n"));
    assert!(!rootfs.join("new").exists());
}

/// The remount itself may succeed in the guest; what counts is that nothing can be written then.
fn remounted_bind(stage: &Stage) {
    let data = stage.directory("data");
    fs::write(data.join("file"), "kept\n").expect("a file");
    let script = "/probe remount-rw /data >/dev/null; /probe write /data/file bad; /probe write /data/new bad; \
        cat /data/file";
    let bundle = stage.probe(&["sh", "-c", script]).bind(&data, "/data", &["rbind", "ro"]);
    bundle.capabilities(&POWERFUL).run().assert(0, &format!("{EROFS}{EROFS}kept\n"));
    assert_eq!(listing(&data), [("file".to_owned(), "kept\n".to_owned())]);
}

fn remounted_root(stage: &Stage) {
    let script = "/probe remount-rw / >/dev/null; /probe write /etc/passwd bad; cat /etc/passwd";
    let bundle = stage.probe(&["sh", "-c", script]).with(|config| config["root"]["readonly"] = json!(true));
    let passwd = bundle.rootfs().join("etc/passwd");
    let before = fs::read_to_string(&passwd).expect("passwd");
    let output = bundle.capabilities(&POWERFUL).run();
    output.assert_status(0);
    assert_eq!(fs::read_to_string(&passwd).expect("passwd"), before, "{output:?}");
}

fn remounted_file(stage: &Stage) {
    let file = stage.file("file", "kept\n");
    let script = "/probe remount-rw /etc/file >/dev/null; /probe write /etc/file bad; cat /etc/file";
    let bundle = stage.probe(&["sh", "-c", script]).bind(&file, "/etc/file", &["bind", "ro"]);
    bundle.capabilities(&POWERFUL).run().assert(0, &format!("{EROFS}kept\n"));
    assert_eq!(fs::read_to_string(&file).expect("text"), "kept\n");
}

/// What /trap in the root filesystem is: a link to a directory of the host, or to a file there.
#[derive(Clone, Copy)]
enum Trap {
    Absolute,
    Climbing,
    ToFile,
}

/// Makes a configuration use a path.
type UsePath = for<'a> fn(&Stage, Bundle<'a>, &str) -> Bundle<'a>;

/// A root filesystem whose /trap leads to a directory of the host if it is followed there. Inside the container
/// the same link leads to a path in the container. The container must run, and the directory must stay as it is.
fn trap(name: &str, path: &'static str, kind: Trap, use_path: UsePath) -> Case {
    Case::new(format!("mount_safety::trap_{name}"), move |stage| {
        let canary = stage.directory("canary");
        fs::write(canary.join("kept"), "untouched\n").expect("a file");
        let bundle = stage.bundle(&["sh", "-c", "pwd >/dev/null; echo ran"]);
        let climb = "../".repeat(40);
        let target = match kind {
            Trap::Absolute => canary.clone(),
            Trap::Climbing => Path::new(&climb).join(canary.strip_prefix("/").expect("absolute")),
            Trap::ToFile => canary.join("kept"),
        };
        symlink(target, bundle.rootfs().join("trap")).expect("a link");
        use_path(stage, bundle, path).run().assert(0, "ran\n");
        assert_eq!(listing(&canary), [("kept".to_owned(), "untouched\n".to_owned())]);
    })
}

fn bind_directory<'a>(stage: &Stage, bundle: Bundle<'a>, path: &str) -> Bundle<'a> {
    bundle.bind(&stage.directory("data"), path, &["rbind"])
}

fn bind_file<'a>(stage: &Stage, bundle: Bundle<'a>, path: &str) -> Bundle<'a> {
    bundle.bind(&stage.file("file", "mounted\n"), path, &["bind"])
}

fn mount_tmpfs<'a>(_: &Stage, bundle: Bundle<'a>, path: &str) -> Bundle<'a> {
    bundle.mount(json!({ "destination": path, "type": "tmpfs", "source": "tmpfs" }))
}

/// Here the link leads to a directory in the container too: through a dangling one no directory can be made.
fn working_directory<'a>(stage: &Stage, bundle: Bundle<'a>, path: &str) -> Bundle<'a> {
    let canary = stage.path("canary");
    let inside = bundle.rootfs().join(canary.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(inside.join("made")).expect("directories");
    bundle.with(|config| config["process"]["cwd"] = json!(path))
}

fn masked_path<'a>(_: &Stage, bundle: Bundle<'a>, path: &str) -> Bundle<'a> {
    bundle.with(|config| {
        config["linux"]["maskedPaths"] = json!([path]);
        config["linux"]["readonlyPaths"] = json!([path]);
    })
}

/// Names and contents of a directory's files.
fn listing(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut all: Vec<_> = entries
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| error.to_string());
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    all.sort();
    all
}
