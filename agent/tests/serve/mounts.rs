//! What mounts have beside flags: recursive attributes, copies, propagation.

use std::fs;

use drupe_protocol::{MountConfig, RecursiveAttributes};

use crate::host::{Host, bind, filesystem, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("mounts::recursive_attributes", recursive_attributes),
    ("mounts::copy_up", copy_up),
    ("mounts::copy_up_without_room", copy_up_without_room),
    ("mounts::propagation_of_the_root", propagation_of_the_root),
    ("mounts::propagation_of_a_mount", propagation_of_a_mount),
];

fn recursive_attributes() {
    let mut host = Host::new();
    fs::create_dir_all(host.share("data").join("below")).unwrap();
    host.mount_tmpfs("data/below");
    let mut config = script(
        "grep /data /proc/self/mounts | while read -r _ point _ options; do echo $point $options; done
         touch /data/x /data/below/x",
    );
    config.mounts.push(MountConfig {
        flags: libc::MS_REC,
        recursive: RecursiveAttributes { set: 1 | 8, clear: 0 },
        ..bind("data", "/data", false)
    });
    let outcome = host.try_run(config.clone()).unwrap();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines[0].starts_with("/data ro,noexec") && lines[1].starts_with("/data/below ro,noexec"),
        "{lines:?}"
    );
    assert_eq!(
        outcome.stderr,
        "touch: /data/x: Read-only file system\ntouch: /data/below/x: Read-only file system\n"
    );
    config.mounts[1].flags |= libc::MS_RDONLY;
    config.mounts[1].recursive = RecursiveAttributes { set: 0, clear: 1 };
    assert_eq!(host.try_run(config.clone()).unwrap().stderr, "");
    config.mounts[1].recursive = RecursiveAttributes { set: 1 << 40, clear: 0 };
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("mounts[0].options", "\"/data\": recursive attributes: invalid argument")
    );
}

fn copy_up() {
    let mut host = Host::new();
    let root = host.share("root");
    fs::create_dir_all(root.join("var/lib/data")).unwrap();
    fs::write(root.join("var/lib/data/file"), "content").unwrap();
    std::os::unix::fs::chown(root.join("var/lib/data"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("var/lib/link")).unwrap();
    let mut config = script(
        "cd /var/lib; cat data/file; echo; stat -c '%u:%g %a' data; readlink link; echo more >data/file
         ls /empty; touch /var/lib/x",
    );
    let mount = |destination: &str| MountConfig { copy_up: true, ..filesystem("tmpfs", destination, "") };
    config.mounts.extend([mount("/var/lib"), mount("/empty")]);
    config.mounts[1].flags = libc::MS_RDONLY;
    let outcome = host.try_run(config).unwrap();
    assert_eq!(outcome.stdout, "content\n7:8 755\n/etc/passwd\n");
    assert!(outcome.stderr.ends_with("touch: /var/lib/x: Read-only file system\n"), "{outcome:?}");
    assert_eq!(fs::read_to_string(root.join("var/lib/data/file")).unwrap(), "content");
}

fn copy_up_without_room() {
    let mut host = Host::new();
    fs::write(host.share("root").join("tmp/file"), vec![1; 100_000]).unwrap();
    let mut config = script("true");
    config.mounts.push(MountConfig { copy_up: true, ..filesystem("tmpfs", "/tmp", "size=16k") });
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("mounts[0].options", "\"tmpcopyup\": \"/tmp\": no space left on device")
    );
}

/// What `mount --bind` of the root shows of a mount that is made afterwards: the check of runtime-tools.
fn propagation_of_the_root() {
    let mut host = Host::new();
    let text = "mkdir -p /tmp/all /tmp/one /tmp/other; touch /tmp/other/file
                mount -o bind,rec / /tmp/all || exit 0
                mount -o bind /tmp/other /tmp/one && ls /tmp/all/tmp/one";
    let mut config = script(text);
    for (flags, seen) in [
        (None, ""),
        (Some(libc::MS_SHARED | libc::MS_REC), "file\n"),
        (Some(libc::MS_SLAVE | libc::MS_REC), ""),
        (Some(libc::MS_PRIVATE | libc::MS_REC), ""),
    ] {
        config.rootfs_propagation = flags;
        assert_eq!(host.output(config.clone()), seen, "{flags:?}");
    }
    config.rootfs_propagation = Some(libc::MS_UNBINDABLE);
    let outcome = host.try_run(config.clone()).unwrap();
    assert!(outcome.stderr.contains("Invalid argument"), "{outcome:?}");
    config.rootfs_propagation = Some(libc::MS_SHARED | libc::MS_PRIVATE);
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(failure.field, "linux.rootfsPropagation");
}

fn propagation_of_a_mount() {
    let mut host = Host::new();
    let mut config = script("grep ' /t ' /proc/self/mountinfo");
    config.mounts.push(filesystem("tmpfs", "/t", ""));
    config.mounts[1].propagation = vec![libc::MS_SHARED];
    assert!(host.output(config.clone()).contains(" shared:"));
    config.mounts[1].propagation = vec![libc::MS_UNBINDABLE];
    assert!(host.output(config).contains(" unbindable"));
}
