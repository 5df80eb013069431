//! What is no regular file and no directory: links lead nowhere on the host, and nothing else is opened or made.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode};

use super::*;

#[test]
fn symbolic_links_are_followed_by_the_guest_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("share");
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    let links = [
        ("absolute", dir.path()),
        ("above", Path::new("..")),
        ("inside", Path::new("dir")),
        ("chain", Path::new("absolute")),
        ("loop", Path::new("loop")),
        ("magic", Path::new("/proc/self/root")),
        ("file", Path::new("../secret")),
    ];
    for (name, target) in links {
        symlink(target, root.join(name)).unwrap();
    }
    let (mut client, rootfs) = client(plain(&root));
    for (name, _) in links {
        let link = client.lookup(rootfs, name.as_bytes()).unwrap();
        for below in [&b"secret"[..], b"file", b"etc"] {
            assert_eq!(client.lookup(link, below), Err(libc::ENOTDIR), "LOOKUP below {name}");
            let made = client.call(MKDIR, link, &request(None, &[0o755, 0], &[below]));
            assert_eq!(made.errno, libc::ENOTDIR, "MKDIR below {name}");
        }
        for flags in [libc::O_RDONLY, libc::O_RDWR | libc::O_TRUNC] {
            assert!(client.open(link, flags).is_err(), "OPEN of {name}");
        }
        assert!(client.open_dir(link).is_err(), "OPENDIR of {name}");
        let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
        let over = client.call(CREATE, rootfs, &request(None, &[flags, 0o644, 0, 0], &[name.as_bytes()]));
        assert_ne!(over.errno, 0, "CREATE over {name}");
    }
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"outside");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn only_files_and_directories_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let (mut client, rootfs) = client(plain(dir.path()));
    let whiteout = request(None, &[libc::S_IFCHR, 0, 0, 0], &[b"whiteout"]);
    assert_eq!(client.call(MKNOD, rootfs, &whiteout).errno, 0);
    for name in ["fifo", "socket", "whiteout"] {
        let node = client.lookup(rootfs, name.as_bytes()).unwrap();
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR | libc::O_NONBLOCK, libc::O_PATH] {
            assert_eq!(client.open(node, flags), Err(libc::EPERM), "OPEN of {name}");
        }
        // A server that opened a fifo here would wait for a writer.
        for flags in [libc::O_CREAT | libc::O_RDONLY, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC] {
            let body = request(None, &[flags.cast_unsigned(), 0o644, 0, 0], &[name.as_bytes()]);
            assert_eq!(client.call(CREATE, rootfs, &body).errno, libc::EPERM, "CREATE over {name}");
        }
        let mut size = Body::default();
        size.u32(1 << 3).u32(0).zeros(80);
        assert_eq!(client.call(SETATTR, node, &size.0).errno, libc::EPERM, "truncating {name}");
        assert!(client.open_dir(node).is_err(), "OPENDIR of {name}");
    }
}

#[test]
fn a_guest_makes_no_device_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut client, rootfs) = client(plain(dir.path()));
    let devices = [(libc::S_IFCHR, 0x103), (libc::S_IFCHR, 1), (libc::S_IFBLK, 0), (libc::S_IFBLK, 0x800)];
    let others = [libc::S_IFDIR, libc::S_IFLNK, 0, libc::S_IFMT].map(|kind| (kind, 0));
    for (kind, device) in devices.into_iter().chain(others) {
        let body = request(None, &[kind | 0o666, device, 0, 0], &[b"device"]);
        assert_eq!(client.call(MKNOD, rootfs, &body).errno, libc::EPERM, "{kind:o} {device:#x}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
