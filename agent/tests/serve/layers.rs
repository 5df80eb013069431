//! A layer over the root filesystem's share: it is written to, the share is not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use drupe_protocol::{GuestConfig, IdMode, Layer, MountConfig, MountSource};

use crate::host::{Host, filesystem, script};
use crate::namespaces;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("layers::writes_stay_in_it", writes_stay_in_it),
    ("layers::it_has_a_size", it_has_a_size),
    ("layers::volumes", volumes),
    ("layers::user_namespace", user_namespace),
    ("layers::a_disk_that_is_missing", a_disk_that_is_missing),
];

fn layered(mut config: GuestConfig) -> GuestConfig {
    config.root.layer = Some(Layer::Tmpfs { bytes: 1 << 20 });
    config
}

fn volume(number: u32, destination: &str) -> MountConfig {
    let source = MountSource::Layer { name: format!("volume{number}") };
    MountConfig { source, copy_up: true, ..filesystem("tmpfs", destination, "") }
}

fn writes_stay_in_it() {
    let mut host = Host::new();
    let root = host.share("root");
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "below").unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o2751)).unwrap();
    std::os::unix::fs::chown(&root, Some(7), Some(8)).unwrap();
    let mode = fs::metadata(&root).unwrap().mode() & 0o7777;
    let mut config = script(
        "stat -c '%a %u:%g' /; echo above >/dir/file; cat /dir/file; mkdir -p /mnt/point; ls -d /mnt/point; cd /made",
    );
    config.mounts.push(filesystem("tmpfs", "/made", ""));
    assert_eq!(host.output(layered(config.clone())), format!("{mode:o} 7:8\nabove\n/mnt/point\n"));
    assert_eq!(fs::read_to_string(root.join("dir/file")).unwrap(), "below");
    assert!(!root.join("mnt/point").exists() && !root.join("made").exists());
    // A second container has a layer of its own.
    config.process.args[2] = "cat /dir/file".into();
    assert_eq!(host.output(layered(config)), "below");
}

fn it_has_a_size() {
    let mut host = Host::new();
    let text = "dd if=/dev/zero of=/file bs=64k count=40 2>&1 | grep -o 'No space left on device'";
    assert_eq!(host.output(layered(script(text))), "No space left on device\n");
}

fn volumes() {
    let mut host = Host::new();
    let root = host.share("root");
    fs::create_dir_all(root.join("data/dir")).unwrap();
    fs::write(root.join("data/dir/file"), "of the image\n").unwrap();
    fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o1777)).unwrap();
    let mut config = script(
        "cat /data/dir/file; stat -c %a /data; echo x >/data/x; echo y >/new/one/y
         grep -E ' /(data|new/one) ' /proc/self/mounts | while read -r _ point type _; do echo $point $type; done",
    );
    config.mounts.extend([volume(0, "/data"), volume(1, "/new/one")]);
    assert_eq!(host.output(layered(config.clone())), "of the image\n1777\n/data tmpfs\n/new/one tmpfs\n");
    assert!(!root.join("data/x").exists() && !root.join("new").exists());
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(failure.message, "there is no writable layer");
}

fn user_namespace() {
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut host = namespaces::host();
        let text = "echo x >/file; chown 1000 /file; echo y >/data/y; stat -c '%u %n' /file /data /data/y";
        let mut config = namespaces::in_user_namespace(text, pid);
        config.mounts.push(volume(0, "/data"));
        assert_eq!(host.output(layered(config)), "1000 /file\n0 /data\n0 /data/y\n", "{pid:?}");
        assert!(!host.share("root").join("file").exists());
    }
}

fn a_disk_that_is_missing() {
    let mut host = Host::new();
    let mut config = script("true");
    config.root.layer = Some(Layer::Ext4 { device: "/dev/missing".into() });
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(failure.field, "root.path");
    let text = "writable layer: \"ext4\": cannot be mounted: /dev/missing: ";
    assert!(failure.message.starts_with(text), "{failure:?}");
}
