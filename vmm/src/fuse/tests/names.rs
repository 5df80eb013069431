//! Names that lead out of a share, in every request that has a name: refused, and what is outside is untouched. The check
//! of names holds without a jail, and the jail without the check.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::bystander::Tree;
use super::*;
use crate::fuse::name::UNCHECKED;

/// A share and, beside it, what is not shared.
struct Place {
    dir: tempfile::TempDir,
}

/// What the name of a request stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    File,
    Directory,
    Nothing,
    /// An extended attribute: none of these names is one that a guest may use.
    Attribute,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.share().join("dir")).unwrap();
        fs::write(place.share().join("file"), "inside").unwrap();
        fs::create_dir_all(place.canary().join("empty")).unwrap();
        fs::write(place.canary().join("file"), "outside").unwrap();
        std::os::unix::fs::symlink(place.canary(), place.share().join("link")).unwrap();
        place
    }

    fn share(&self) -> std::path::PathBuf {
        self.dir.path().join("share")
    }

    fn canary(&self) -> std::path::PathBuf {
        self.dir.path().join("canary")
    }
}

/// Names that are none.
fn bad_names(canary: &Path) -> Vec<Vec<u8>> {
    let absolute = |name: &str| canary.join(name).as_os_str().as_bytes().to_vec();
    let mut names =
        vec![absolute("file"), absolute("empty"), absolute("new"), vec![b'x'; 256], vec![b'x'; 4096]];
    let fixed = [
        &b""[..],
        b".",
        b"..",
        b"/",
        b"dir/new",
        b"../canary/file",
        b"../canary/empty",
        b"../canary/new",
        b"link/new",
        b"new/",
        b"./file",
        b"file\0new",
    ];
    names.extend(fixed.map(<[u8]>::to_vec));
    names
}

/// Names that are, however odd.
fn good_names() -> Vec<Vec<u8>> {
    let fixed = [&b"..."[..], b"..a", b" ", b"\xff\xfe", b"a\\b", b"\n"];
    fixed.map(<[u8]>::to_vec).into_iter().chain([vec![b'y'; 255]]).collect()
}

type Make = fn(name: &[u8], root: u64, file: u64) -> (u32, Vec<u8>);

/// Every request with a name.
const REQUESTS: &[(&str, Meaning, Make)] = &[
    ("LOOKUP", Meaning::File, |name, _, _| (LOOKUP, request(None, &[], &[name]))),
    ("SYMLINK", Meaning::Nothing, |name, _, _| (SYMLINK, request(None, &[], &[name, b"target"]))),
    ("MKNOD", Meaning::Nothing, |name, _, _| {
        (MKNOD, request(None, &[libc::S_IFREG | 0o644, 0, 0, 0], &[name]))
    }),
    ("MKDIR", Meaning::Nothing, |name, _, _| (MKDIR, request(None, &[0o755, 0], &[name]))),
    ("UNLINK", Meaning::File, |name, _, _| (UNLINK, request(None, &[], &[name]))),
    ("RMDIR", Meaning::Directory, |name, _, _| (RMDIR, request(None, &[], &[name]))),
    ("RENAME old", Meaning::File, |name, root, _| (RENAME, request(Some(root), &[], &[name, b"moved"]))),
    ("RENAME new", Meaning::Nothing, |name, root, _| (RENAME, request(Some(root), &[], &[b"file", name]))),
    ("RENAME2 old", Meaning::File, |name, root, _| {
        (RENAME2, request(Some(root), &[libc::RENAME_NOREPLACE, 0], &[name, b"moved"]))
    }),
    ("RENAME2 new", Meaning::File, |name, root, _| {
        (RENAME2, request(Some(root), &[libc::RENAME_EXCHANGE, 0], &[b"file", name]))
    }),
    ("LINK", Meaning::Nothing, |name, _, file| (LINK, request(Some(file), &[], &[name]))),
    ("CREATE", Meaning::Nothing, |name, _, _| {
        (
            CREATE,
            request(
                None,
                &[(libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).cast_unsigned(), 0o644, 0, 0],
                &[name],
            ),
        )
    }),
    ("SETXATTR", Meaning::Attribute, |name, _, _| (SETXATTR, request(None, &[0, 0, 0, 0], &[name]))),
    ("GETXATTR", Meaning::Attribute, |name, _, _| (GETXATTR, request(None, &[64, 0], &[name]))),
    ("REMOVEXATTR", Meaning::Attribute, |name, _, _| (REMOVEXATTR, request(None, &[], &[name]))),
];

/// Has the share's root hold what it held first, and under `name` what a request is about.
fn prepare(root: BorrowedFd<'_>, name: &[u8], meaning: Meaning) {
    clean(root, name);
    clean(root, b"moved");
    make_file(root, b"file");
    match meaning {
        Meaning::File => make_file(root, name),
        Meaning::Directory => rustix::fs::mkdirat(root, name, Mode::RWXU).unwrap(),
        Meaning::Nothing | Meaning::Attribute => {}
    }
}

fn clean(root: BorrowedFd<'_>, name: &[u8]) {
    let _ = rustix::fs::unlinkat(root, name, AtFlags::empty());
    let _ = rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR);
}

fn check_names(place: &Place, root: OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = rustix::fs::openat(&root, ".", flags, Mode::empty()).unwrap();
    let (mut client, rootfs) = client(root);
    let canary = Tree::of(&place.canary());
    for (what, meaning, make) in REQUESTS {
        prepare(inside.as_fd(), b"moved", Meaning::Nothing);
        let file = client.lookup(rootfs, b"file").unwrap();
        let before = Tree::of(&place.share());
        for name in bad_names(&place.canary()) {
            let (opcode, body) = make(&name, rootfs, file);
            let reply = client.call(opcode, rootfs, &body);
            assert_ne!(reply.errno, 0, "{what} of {:?}", name.escape_ascii().to_string());
            assert_eq!(Tree::of(&place.share()), before, "{what} of {:?}", name.escape_ascii().to_string());
        }
        for name in good_names() {
            prepare(inside.as_fd(), &name, *meaning);
            let file = client.lookup(rootfs, b"file").unwrap();
            let (opcode, body) = make(&name, rootfs, file);
            let reply = client.call(opcode, rootfs, &body);
            let expected = if *meaning == Meaning::Attribute { libc::EOPNOTSUPP } else { 0 };
            assert_eq!(reply.errno, expected, "{what} of {:?}", name.escape_ascii().to_string());
            clean(inside.as_fd(), &name);
        }
        assert_eq!(Tree::of(&place.canary()), canary, "{what}");
    }
}

#[test]
fn the_check_of_names_holds_without_a_jail() {
    let place = Place::new();
    in_thread(|| check_names(&place, plain(&place.share())));
}

#[test]
fn the_check_of_names_holds_in_a_mount_of_the_share() {
    let place = Place::new();
    child::in_namespace(|| check_names(&place, detached(&place.share(), false)));
}

#[test]
fn a_jail_holds_without_the_check_of_names() {
    let place = Place::new();
    let canary = Tree::of(&place.canary());
    child::in_namespace(|| {
        let root = detached(&place.share(), false);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = rustix::fs::openat(&root, ".", flags, Mode::empty()).unwrap();
        let (mut client, rootfs) = client(root);
        child::leave_root();
        UNCHECKED.set(true);
        let mut reached = 0;
        for (what, _, make) in REQUESTS {
            for name in bad_names(&place.canary()) {
                prepare(inside.as_fd(), b"moved", Meaning::Nothing);
                let file = client.lookup(rootfs, b"file").unwrap();
                let (opcode, body) = make(&name, rootfs, file);
                let reply = client.call(opcode, rootfs, &body);
                if *what == "MKDIR" && name == b"dir/new" && reply.errno != libc::EINVAL {
                    reached += 1;
                }
            }
        }
        assert_eq!(reached, 1, "the names are still checked");
    });
    assert_eq!(Tree::of(&place.canary()), canary);
}

/// Without the jail and without the check there is an escape: the tests above would see one.
#[test]
fn without_both_there_is_an_escape() {
    let place = Place::new();
    let canary = Tree::of(&place.canary());
    in_thread(|| {
        let (mut client, rootfs) = client(plain(&place.share()));
        UNCHECKED.set(true);
        client.call(UNLINK, rootfs, &request(None, &[], &[b"../canary/file"]));
    });
    assert_ne!(Tree::of(&place.canary()), canary);
}

fn in_thread(act: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap());
}
