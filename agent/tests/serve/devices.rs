//! `linux.devices`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use drupe_protocol::DeviceNode;

use crate::host::{Host, bind, is_empty, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("devices::below_dev", below_dev),
    ("devices::instead_of_a_default_one", instead_of_a_default_one),
    ("devices::outside_of_dev", outside_of_dev),
    ("devices::something_is_there_already", something_is_there_already),
];

pub(crate) fn node(path: &str, kind: u32, major: u32, minor: u32) -> DeviceNode {
    let field = "linux.devices[0]".into();
    DeviceNode { field, path: path.into(), kind, major, minor, mode: 0o640, uid: 7, gid: 8 }
}

fn below_dev() {
    let mut host = Host::new();
    let mut config = script("cd /dev; stat -c '%n %F %a %u:%g %t:%T' a b/c d null; head -c 2 b/c | wc -c");
    config.devices = vec![
        node("/dev/a", libc::S_IFBLK, 259, 300),
        node("/dev/b/c", libc::S_IFCHR, 1, 5),
        node("/dev/d", libc::S_IFIFO, 0, 0),
    ];
    assert_eq!(
        host.output(config),
        "a block special file 640 7:8 103:12c\nb/c character special file 640 7:8 1:5\n\
         d fifo 640 7:8 0:0\nnull character special file 666 0:0 1:3\n2\n"
    );
    assert!(is_empty(&host.share("root").join("dev")));
}

fn instead_of_a_default_one() {
    let mut host = Host::new();
    let mut config = script("stat -c '%a %u:%g' /dev/tty; readlink /dev/ptmx");
    // The multiplexer is that of the container's own devpts, whatever the configuration says.
    config.devices = vec![node("/dev/tty", libc::S_IFCHR, 5, 0), node("/dev/ptmx", libc::S_IFCHR, 5, 2)];
    assert_eq!(host.output(config), "640 7:8\npts/ptmx\n");
}

fn outside_of_dev() {
    let mut host = Host::new();
    let mut config = script("stat -c '%a %u:%g %t:%T' /etc/zero /new/null; head -c 2 /etc/zero | wc -c");
    config.devices = vec![node("/etc/zero", libc::S_IFCHR, 1, 5), node("/new/null", libc::S_IFCHR, 1, 3)];
    // Twice: mount points that were made before are used again.
    for _ in 0..2 {
        assert_eq!(host.output(config.clone()), "640 7:8 1:5\n640 7:8 1:3\n2\n");
    }
    // On the share there is a mount point only.
    let made = fs::metadata(host.share("root").join("etc/zero")).unwrap();
    assert!(made.is_file() && made.size() == 0);
    // The same where /dev is a directory of the host.
    fs::create_dir(host.share("devices")).unwrap();
    let mut config = script("cd /dev; ls; stat -c '%a %u:%g %t:%T' x");
    config.mounts.push(bind("devices", "/dev", false));
    config.devices = vec![node("/dev/x", libc::S_IFCHR, 1, 5)];
    assert_eq!(host.output(config), "x\n640 7:8 1:5\n");
}

fn something_is_there_already() {
    let mut host = Host::new();
    let mut config = script("stat -c '%t:%T' /dev/twice");
    config.devices = vec![node("/dev/twice", libc::S_IFCHR, 1, 5); 2];
    assert_eq!(host.output(config.clone()), "1:5\n");
    config.devices[1].minor = 3;
    config.devices[1].field = "linux.devices[1]".into();
    let failure = host.try_run(config.clone()).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("linux.devices[1]", "\"/dev/twice\": exists, and is another file")
    );
    config.devices = vec![node("/etc/passwd", libc::S_IFCHR, 1, 5)];
    assert_eq!(host.try_run(config).unwrap_err().message, "\"/etc/passwd\": exists, and is another file");
}
