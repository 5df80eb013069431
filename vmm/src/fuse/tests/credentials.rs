//! What is made and changed for a user of the guest: as a process with that user's credentials makes and changes it.
//!
//! Each case is done twice, in two directories that are alike: by requests to the server, and by a child process.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, XattrFlags};

use super::*;

/// The group of the directories, which only some of the users are members of.
const GROUP: u32 = 500;
/// `FATTR_UID`, `FATTR_GID`, `FATTR_SIZE` and `FATTR_KILL_SUIDGID`.
const SET_UID: u32 = 1 << 1;
const SET_GID: u32 = 1 << 2;
const SET_SIZE: u32 = 1 << 3;
const SET_KILL: u32 = 1 << 11;
/// Attributes beside owner, group and mode that are compared.
const ATTRIBUTES: [&str; 3] = ["system.posix_acl_access", "system.posix_acl_default", "security.capability"];

/// A user, the user's group, and the other groups.
type User = (u32, u32, &'static [u32]);
const USERS: [User; 4] = [(0, 0, &[]), (1000, 1000, &[]), (1000, 1000, &[GROUP]), (1001, GROUP, &[])];

/// What is made, by name; modes are different, since some bits mean something for some kinds.
const FILES: [(&str, u32); 3] = [("file", 0o666), ("program", 0o777), ("set-user", 0o4755)];
const DIRECTORIES: [(&str, u32); 2] = [("directory", 0o777), ("sticky", 0o1770)];

/// What is known of a file that is to be the same.
type Known = (u32, u32, u32, Vec<Option<Vec<u8>>>);

fn known(path: &Path) -> Known {
    let of = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let attribute = |name| {
        let mut value = vec![0; 256];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
        Some(value[..length].to_vec())
    };
    (of.mode(), of.uid(), of.gid(), ATTRIBUTES.map(attribute).into())
}

/// rwx for the owner, user 2000 and the group, r-x for others.
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 2000), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn directory(path: &Path, is_setgid: bool, has_acl: bool) {
    fs::create_dir(path).unwrap();
    std::os::unix::fs::chown(path, Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(if is_setgid { 0o2777 } else { 0o777 })).unwrap();
    if has_acl {
        rustix::fs::setxattr(path, "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    }
}

/// Makes the calling process, which has one thread, one of this user.
fn become_user((uid, gid, groups): User, umask: u32) {
    // What a server's child has of the server: it would keep its capabilities.
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 0) }, 0);
    // SAFETY: the groups are as many as is said.
    assert_eq!(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }, 0);
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::setresgid(gid, gid, gid) }, 0);
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::setresuid(uid, uid, uid) }, 0);
    // SAFETY: takes no pointers.
    unsafe { libc::umask(umask) };
    let effective = rustix::thread::capabilities(None).unwrap().effective;
    assert_eq!(effective.is_empty(), uid != 0, "a user has no capabilities, and root has");
}

fn make_natively(at: &Path) {
    let mode = Mode::from_raw_mode;
    for (name, bits) in FILES {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(at.join(name), flags, mode(bits)).unwrap();
        let node = at.join(format!("{name}-mknod"));
        rustix::fs::mknodat(CWD, node, FileType::RegularFile, mode(bits), 0).unwrap();
        let fifo = at.join(format!("{name}-fifo"));
        rustix::fs::mknodat(CWD, fifo, FileType::Fifo, mode(bits), 0).unwrap();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = rustix::fs::open(at, flags, mode(bits)).unwrap();
        let link = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
        let named = at.join(format!("{name}-tmpfile"));
        rustix::fs::linkat(CWD, link, CWD, named, AtFlags::SYMLINK_FOLLOW).unwrap();
    }
    for (name, bits) in DIRECTORIES {
        rustix::fs::mkdir(at.join(name), mode(bits)).unwrap();
    }
    std::os::unix::fs::symlink("target", at.join("link")).unwrap();
}

fn make_served(client: &mut Client, node: u64, umask: u32) {
    let mut make = |opcode, words: &[u32], strings: &[&[u8]]| {
        // As after a request of another user, whose identity and umask must not be taken for this one's.
        client.server.caller.act_as(4242, 4242).unwrap();
        client.server.caller.mask(0o111);
        let reply = client.call(opcode, node, &request(None, words, strings));
        assert_eq!(reply.errno, 0, "opcode {opcode} {strings:?}");
        reply.word(0)
    };
    let read_write = libc::O_RDWR.cast_unsigned();
    for (name, bits) in FILES {
        let create = (libc::O_CREAT | libc::O_EXCL).cast_unsigned() | read_write;
        make(CREATE, &[create, bits, umask, 0], &[name.as_bytes()]);
        let node = format!("{name}-mknod");
        make(MKNOD, &[libc::S_IFREG | bits, 0, umask, 0], &[node.as_bytes()]);
        let fifo = format!("{name}-fifo");
        make(MKNOD, &[libc::S_IFIFO | bits, 0, umask, 0], &[fifo.as_bytes()]);
        let unnamed = make(TMPFILE, &[read_write, bits, umask, 0], &[b""]);
        let (low, high) = (unnamed & 0xffff_ffff, unnamed >> 32);
        let words = [low, high].map(|word| u32::try_from(word).unwrap());
        make(LINK, &words, &[format!("{name}-tmpfile").as_bytes()]);
    }
    for (name, bits) in DIRECTORIES {
        make(MKDIR, &[bits, umask], &[name.as_bytes()]);
    }
    make(SYMLINK, &[], &[b"link", b"target"]);
}

#[test]
fn what_is_made_is_as_its_user_makes_it_natively() {
    assert!(rustix::process::geteuid().is_root(), "acts as other users: needs root");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let mut number = 0;
        for (is_setgid, has_acl) in [(false, false), (false, true), (true, false), (true, true)] {
            for (user, umask) in USERS.iter().flat_map(|user| [0, 0o027, 0o177].map(|umask| (*user, umask))) {
                number += 1;
                let case = format!("set-group-ID {is_setgid}, ACL {has_acl}, {user:?}, umask {umask:03o}");
                let names = [format!("native-{number}"), format!("served-{number}")];
                let [native, served] = names.each_ref().map(|name| dir.path().join(name));
                directory(&native, is_setgid, has_acl);
                directory(&served, is_setgid, has_acl);
                child::in_child(|| {
                    become_user(user, umask);
                    make_natively(&native);
                });
                (client.uid, client.gid) = (user.0, user.1);
                let node = client.lookup(rootfs, names[1].as_bytes()).unwrap();
                make_served(&mut client, node, umask);
                let mut count = 0;
                for entry in fs::read_dir(&native).unwrap() {
                    let name = entry.unwrap().file_name();
                    assert_eq!(known(&served.join(&name)), known(&native.join(&name)), "{name:?}: {case}");
                    count += 1;
                }
                assert_eq!(count, 4 * FILES.len() + DIRECTORIES.len() + 1, "{case}");
            }
        }
    });
}

/// A file with bits and a capability that a change may clear.
fn privileged(path: &Path, mode: u32) {
    /// `struct vfs_cap_data`, version 2: `CAP_NET_RAW`, permitted and effective.
    const CAPABILITY: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    fs::write(path, "contents").unwrap();
    std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let value: Vec<u8> = CAPABILITY.iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty()).unwrap();
}

const CHANGES: [&str; 4] = ["write", "truncate", "fallocate", "chown"];

fn change_natively(path: &Path, change: &str) {
    let file = || File::options().write(true).custom_flags(libc::O_CLOEXEC).open(path).unwrap();
    match change {
        "write" => assert_eq!(rustix::io::write(file(), b"x"), Ok(1)),
        "truncate" => file().set_len(3).unwrap(),
        "fallocate" => rustix::fs::fallocate(file(), FallocateFlags::empty(), 0, 100).unwrap(),
        _ => std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap(),
    }
}

/// As the guest's kernel asks, which says for whom bits are to be cleared: for one without `CAP_FSETID`.
fn change_served(client: &mut Client, node: u64, change: &str) {
    let is_root = client.uid == 0;
    let handle = client.open(node, libc::O_RDWR).unwrap();
    let mut body = Body::default();
    let opcode = match change {
        "write" => {
            body.u64(handle).u64(0).u32(1).u32(if is_root { 0 } else { 1 << 2 }).zeros(16).bytes(b"x");
            WRITE
        }
        "truncate" => {
            let valid = SET_SIZE | if is_root { 0 } else { SET_KILL };
            body.u32(valid).u32(0).u64(0).u64(3).zeros(64);
            SETATTR
        }
        "fallocate" => {
            body.u64(handle).u64(0).u64(100).u32(0).u32(0);
            FALLOCATE
        }
        _ => {
            let valid = SET_UID | SET_GID | SET_KILL;
            body.u32(valid).u32(0).zeros(68).u32(1000).u32(1000).u32(0);
            SETATTR
        }
    };
    assert_eq!(client.call(opcode, node, &body.0).errno, 0, "{change}");
    assert_eq!(client.release(node, handle), 0);
}

#[test]
fn a_change_clears_what_it_clears_natively() {
    assert!(rustix::process::geteuid().is_root(), "acts as other users: needs root");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let mut cleared = 0;
        for (user, mode) in [USERS[0], USERS[1]]
            .iter()
            .flat_map(|user| [0o755, 0o4755, 0o2755, 0o6777, 0o6644].map(|mode| (*user, mode)))
        {
            for change in CHANGES {
                let names = ["native", "served"].map(|kind| format!("{kind}-{}-{mode:o}-{change}", user.0));
                let [native, served] = names.each_ref().map(|name| dir.path().join(name));
                privileged(&native, mode);
                privileged(&served, mode);
                let before = known(&native);
                child::in_child(|| {
                    become_user(user, 0);
                    change_natively(&native, change);
                });
                (client.uid, client.gid) = (user.0, user.1);
                let node = client.lookup(rootfs, names[1].as_bytes()).unwrap();
                change_served(&mut client, node, change);
                assert_eq!(
                    known(&served),
                    known(&native),
                    "{change} of {mode:o} by {user:?}, was {before:?}"
                );
                cleared += usize::from(known(&native) != before);
            }
        }
        assert!(cleared > 10, "the host clears something in {cleared} cases");
    });
}
