//! What is written to a root filesystem under the operator's `[writable_layer]`, and overlays that the container mounts
//! itself, as a container engine in it does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

const OTHERS: &str = "the layer is drupe's";

/// What a container engine does with the layers of an image in `$D`: a file is changed, others are removed, a directory
/// takes the place of one that was removed; all of it is seen again when it is mounted once more.
const OVERLAY: &str = r#"set -e; cd "$D"; mkdir -p low/bin low/dir low/gone up work all
    cp /bin/busybox low/bin; ln -s busybox low/bin/sh; echo low >low/file; echo 1 >low/dir/inner; echo 2 >low/gone/old
    m() { mount -t overlay overlay -o lowerdir="$D/low,upperdir=$D/up,workdir=$D/work" "$D/all"; }
    m; chroot all /bin/busybox sh -c 'set -e; b=/bin/busybox; echo up >>/file; $b rm /dir/inner; $b rm -r /gone
        $b mkdir /gone; echo 3 >/gone/new; $b mv /file /moved; $b ln /moved /gone/linked'
    umount all; m; cat all/moved; ls all all/dir all/gone; stat -c '%F %t:%T' up/dir/inner up/file
    cat low/file low/dir/inner low/gone/old"#;

const OVERLAID: &str = "low\nup\nall:\nbin\ndir\ngone\nmoved\n\nall/dir:\n\nall/gone:\nlinked\nnew\n\
    character special file 0:0\ncharacter special file 0:0\nlow\n1\n2\n";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("layers::tmpfs_takes_the_writes", |stage| takes_the_writes(stage, "tmpfs"))
            .drupe_only(OTHERS)
            .cost(3),
        Case::new("layers::ext4_takes_the_writes", |stage| takes_the_writes(stage, "ext4"))
            .drupe_only(OTHERS)
            .cost(3),
        Case::new("layers::nothing_of_it_is_left_after_sigkill", killed).drupe_only(OTHERS).cost(2),
        Case::new("layers::a_read_only_root_has_none", |stage| {
            let settings = settings(stage, "ext4", &stage.path("missing"));
            let bundle = stage.bundle(&["sh", "-c", "grep -c ' / overlay' /proc/mounts; : >/x"]);
            let output = run(&bundle.with(|config| config["root"]["readonly"] = json!(true)), &settings);
            assert_eq!((output.status, output.stdout_text().as_str()), (1, "0\n"), "{output:?}");
        })
        .drupe_only(OTHERS),
        Case::new("layers::without_a_place_for_it_there_is_no_container", |stage| {
            let settings = settings(stage, "ext4", &stage.path("missing"));
            let output = run(&stage.bundle(&["true"]), &settings);
            let error = output.stderr_text();
            assert!(output.status == 1 && error.contains("writable_layer.directory"), "{output:?}");
            assert!(error.contains("/missing\"") && error.contains("No such file"), "{output:?}");
        })
        .drupe_only(OTHERS)
        .before_any_machine(),
        Case::new("layers::overlays_on_the_layer", |stage| {
            let settings = settings(stage, "ext4", &stage.directory("layers"));
            let bundle = overlay_in(stage, "/var/lib/docker");
            fs::create_dir_all(bundle.rootfs().join("var/lib/docker/low/dir")).expect("directories");
            fs::write(bundle.rootfs().join("var/lib/docker/low/dir/of_the_image"), "").expect("a file");
            let expected = OVERLAID.replace("all/dir:\n", "all/dir:\nof_the_image\n");
            run(&bundle, &settings).assert(0, &expected);
            assert!(!bundle.rootfs().join("var/lib/docker/up").exists(), "the host was written to");
        })
        .drupe_only(OTHERS)
        .cost(2),
        Case::new("layers::overlays_on_a_bind_mount", |stage| {
            let data = stage.directory("data");
            overlay_in(stage, "/data").bind(&data, "/data", &["rbind"]).run().assert(0, OVERLAID);
            let whiteout = fs::symlink_metadata(data.join("up/dir/inner")).expect("a whiteout");
            assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
        })
        .cost(2),
    ]
}

/// A settings file, whose path goes to `DRUPE_CONFIG`.
fn settings(stage: &Stage, kind: &str, directory: &Path) -> String {
    let text = format!(
        "[writable_layer]\nkind = \"{kind}\"\nsize = \"32M\"\ndirectory = {directory:?}\nvolumes = [\"/var/lib/docker\"]\n"
    );
    stage.file("config.toml", &text).to_str().expect("UTF-8").to_owned()
}

fn run(bundle: &Bundle<'_>, settings: &str) -> crate::running::Output {
    bundle.write();
    let mut command = bundle.command();
    Running::start(command.env("DRUPE_CONFIG", settings).stdin(std::process::Stdio::null())).finish()
}

fn started<'stage>(bundle: Bundle<'stage>, settings: &str) -> Container<'stage> {
    let container = Container::new(bundle);
    let create = &mut container.line("create -b BUNDLE ID");
    container.make_with(create.env("DRUPE_CONFIG", settings)).assert(0, "");
    container.ok("start ID");
    container
}

fn takes_the_writes(stage: &Stage, kind: &str) {
    let layers = stage.directory("layers");
    let script = "cd /; stat -c '%a %u:%g' /; echo new >old; mkdir made; mv home house; rm etc/group; chmod 600 etc/passwd
        dd if=/dev/zero of=/big bs=1M count=64 2>&1 | grep -o 'No space left on device'; rm big; cat old made/x 2>/dev/null
        echo again >after && cat after; echo up; exec sleep 1000";
    let bundle = stage.bundle(&["sh", "-c", script]);
    let rootfs = bundle.rootfs();
    fs::write(rootfs.join("old"), "old\n").expect("a file");
    fs::set_permissions(&rootfs, std::os::unix::fs::PermissionsExt::from_mode(0o751)).expect("own directory");
    std::os::unix::fs::chown(&rootfs, Some(5), Some(6)).expect("root");
    let before = listing(&rootfs);
    let container = started(bundle, &settings(stage, kind, &layers));
    container.says("up");
    assert_eq!(
        container.stdout(),
        "751 5:6\nNo space left on device\nnew\nagain\nup\n",
        "{}",
        container.stderr()
    );
    container.exec(&["cat", "/old"]).assert(0, "new\n");
    container
        .exec(&["ls", "-d", "/made", "/house/user", "/var/lib/docker"])
        .assert(0, "/house/user\n/made\n/var/lib/docker\n");
    container.exec(&["ls", "/etc/group"]).assert_status(1);
    assert!(fs::read_dir(&layers).expect("a directory").next().is_none(), "the layer's file has a name");
    container.end();
    assert_eq!(listing(&rootfs), before);
}

/// Every path below a directory, with what a write to it would change.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
        all.push(format!(
            "{} {:o} {} {:?}",
            path.display(),
            metadata.mode(),
            metadata.len(),
            metadata.modified()
        ));
        if metadata.is_dir() {
            all.extend(listing(&path));
        }
    }
    all.sort();
    all
}

fn killed(stage: &Stage) {
    let layers = stage.directory("layers");
    let bundle =
        stage.bundle(&["sh", "-c", "head -c 10000000 /dev/urandom >/big; sync; echo up; exec sleep 1000"]);
    let rootfs = bundle.rootfs();
    let container = started(bundle, &settings(stage, "ext4", &layers));
    container.says("up");
    let pid = container.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.expect("a pid");
    let holds = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.starts_with(&layers))
    };
    assert!(holds(pid), "the layer is not where the settings say");
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it runs");
    container.becomes("stopped");
    assert!(!holds(pid));
    assert!(fs::read_dir(&layers).expect("a directory").next().is_none());
    assert!(!rootfs.join("big").exists());
    container.ok("delete ID");
}

/// A container that may mount, and mounts overlays in a directory.
fn overlay_in<'stage>(stage: &'stage Stage, dir: &str) -> Bundle<'stage> {
    let bundle = stage.bundle(&["sh", "-c", OVERLAY]).capabilities(&[
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_DAC_OVERRIDE",
        "CAP_MKNOD",
    ]);
    let env = format!("D={dir}");
    bundle.with(|config| config["process"]["env"].as_array_mut().expect("env").push(json!(env)))
}
