//! A share that is read-only on the host stays as it is, whatever the guest's kernel sends.

use std::fs;

use super::bystander::Tree;
use super::*;

/// Fields of `FUSE_SETATTR` by their bits, alone and together.
const SETATTR_FIELDS: [u32; 9] = [1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 7, 1 << 8, 0x1bf];

fn setattr_body(valid: u32) -> Vec<u8> {
    let mut body = Body::default();
    body.u32(valid).u32(0).u64(0).u64(1).u64(0); // a size of 1
    body.u64(1).u64(2).u64(3).u32(0).u32(0).u32(0).u32(0o600).u32(0).u32(0).u32(0).u32(0);
    body.0
}

#[test]
fn nothing_changes_a_read_only_share() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("file"), "as it is").unwrap();
    fs::write(dir.path().join("other"), "as it was").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.path().join("file"), "user.mark", b"kept", flags).unwrap();
    let before = Tree::of(dir.path());
    child::in_namespace(|| send_every_change(detached(dir.path(), true)));
    assert_eq!(Tree::of(dir.path()), before);
}

fn send_every_change(root: OwnedFd) {
    let (mut client, rootfs) = client(root);
    let file = client.lookup(rootfs, b"file").unwrap();
    let other = client.lookup(rootfs, b"other").unwrap();
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC, libc::O_WRONLY | libc::O_APPEND] {
        assert_eq!(client.open(file, flags), Err(libc::EROFS), "OPEN {flags:o}");
    }
    for valid in SETATTR_FIELDS {
        assert_eq!(client.call(SETATTR, file, &setattr_body(valid)).errno, libc::EROFS, "SETATTR {valid:#x}");
    }
    for (what, opcode, node, body) in changes(rootfs, file) {
        assert_eq!(client.call(opcode, node, &body).errno, libc::EROFS, "{what}");
    }
    // Nothing is open for writing, so that these do not come as far as the filesystem.
    let handle = client.open(file, libc::O_RDONLY).unwrap();
    let to = client.open(other, libc::O_RDONLY).unwrap();
    assert_eq!(client.write(file, handle, b"changed"), libc::EBADF);
    let mut body = Body::default();
    body.u64(handle).u64(0).u64(4096).u32(0).u32(0);
    assert_eq!(client.call(FALLOCATE, file, &body.0).errno, libc::EBADF);
    let mut body = Body::default();
    body.u64(handle).u64(0).u64(other).u64(to).u64(0).u64(4).u64(0);
    assert_eq!(client.call(COPY_FILE_RANGE, file, &body.0).errno, libc::EBADF);
}

fn changes(rootfs: u64, file: u64) -> Vec<(&'static str, u32, u64, Vec<u8>)> {
    let new = (libc::O_CREAT | libc::O_RDWR).cast_unsigned();
    let over = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
    let unnamed = (libc::O_TMPFILE | libc::O_RDWR).cast_unsigned();
    let attribute = [request(None, &[1, 0, 0, 0], &[b"user.new"]), b"x".to_vec()].concat();
    let exchange = [libc::RENAME_EXCHANGE, 0];
    vec![
        ("MKNOD", MKNOD, rootfs, request(None, &[libc::S_IFREG | 0o644, 0, 0, 0], &[b"new"])),
        ("MKNOD of a whiteout", MKNOD, rootfs, request(None, &[libc::S_IFCHR, 0, 0, 0], &[b"new"])),
        ("MKDIR", MKDIR, rootfs, request(None, &[0o755, 0], &[b"new"])),
        ("SYMLINK", SYMLINK, rootfs, request(None, &[], &[b"new", b"target"])),
        ("LINK", LINK, rootfs, request(Some(file), &[], &[b"new"])),
        ("CREATE", CREATE, rootfs, request(None, &[new, 0o644, 0, 0], &[b"new"])),
        ("CREATE over a file", CREATE, rootfs, request(None, &[over, 0o644, 0, 0], &[b"file"])),
        ("TMPFILE", TMPFILE, rootfs, request(None, &[unnamed, 0o644, 0, 0], &[b""])),
        ("UNLINK", UNLINK, rootfs, request(None, &[], &[b"file"])),
        ("RMDIR", RMDIR, rootfs, request(None, &[], &[b"dir"])),
        ("RENAME", RENAME, rootfs, request(Some(rootfs), &[], &[b"file", b"new"])),
        ("RENAME over a file", RENAME, rootfs, request(Some(rootfs), &[], &[b"file", b"other"])),
        ("RENAME2", RENAME2, rootfs, request(Some(rootfs), &exchange, &[b"file", b"dir"])),
        ("SETXATTR", SETXATTR, file, attribute),
        ("REMOVEXATTR", REMOVEXATTR, file, request(None, &[], &[b"user.mark"])),
    ]
}
