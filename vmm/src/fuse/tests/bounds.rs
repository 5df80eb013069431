//! What a guest can make the server hold.

use std::collections::BTreeSet;
use std::fs;

use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;
use crate::fuse::host::Status;
use crate::fuse::name::Name;
use crate::fuse::nodes::MAX_CACHED;

const FILES: usize = 20_000;

#[test]
fn descriptors_do_not_grow_with_the_files_that_a_guest_knows_of() {
    assert_eq!(MAX_CACHED, 4096, "as documented");
    let dir = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        fs::write(dir.path().join(file.to_string()), file.to_string()).unwrap();
    }
    // Descriptors of other tests are not those of a child.
    child::in_child(|| {
        let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        let (mut client, rootfs) = client(plain(dir.path()));
        let before = descriptors();
        let mut known = Vec::new();
        for file in 0..FILES {
            known.push(client.lookup(rootfs, file.to_string().as_bytes()).unwrap());
            if file % 1000 == 0 {
                assert!(descriptors() <= before + MAX_CACHED, "{} at file {file}", descriptors());
            }
        }
        assert!(client.counts().cached_fds <= MAX_CACHED as u64);
        // The descriptors of the first files are gone: they are renamed, unlinked and linked all the same.
        let renamed = request(Some(rootfs), &[], &[b"0", b"renamed"]);
        assert_eq!(client.call(RENAME, rootfs, &renamed).errno, 0);
        assert_eq!(client.call(UNLINK, rootfs, &request(None, &[], &[b"1"])).errno, 0);
        let linked = request(Some(known[2]), &[], &[b"linked"]);
        assert_eq!(client.call(LINK, rootfs, &linked).errno, 0);
        for (file, node) in known.iter().enumerate() {
            let handle = client.open(*node, libc::O_RDONLY).unwrap();
            assert_eq!(client.read(*node, handle).unwrap(), file.to_string().as_bytes());
            assert_eq!(client.release(*node, handle), 0);
        }
        // One is the file without a name.
        assert!(descriptors() <= before + MAX_CACHED + 1, "{}", descriptors());
        for node in known {
            client.call(FORGET, node, &2_u64.to_ne_bytes());
        }
        assert_eq!(client.counts().nodes, 1, "only the share is known: {:?}", client.counts());
        assert!(descriptors() <= before, "{}", descriptors());
    });
}

#[test]
fn a_process_without_descriptors_says_so_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..16 {
        fs::write(dir.path().join(file.to_string()), "x").unwrap();
    }
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let names: Vec<_> = (0..8).map(|file| file.to_string()).collect();
        let nodes: Vec<_> =
            names.iter().map(|name| client.lookup(rootfs, name.as_bytes()).unwrap()).collect();
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(1024) }).unwrap();
        assert_eq!(client.open(nodes[0], libc::O_RDONLY), Err(libc::EMFILE));
        assert_eq!(client.lookup(rootfs, b"9"), Err(libc::EMFILE));
        setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: Some(1024) }).unwrap();
        for node in nodes {
            assert!(client.open(node, libc::O_RDONLY).is_ok());
        }
        assert!(client.lookup(rootfs, b"9").is_ok());
    });
}

#[test]
fn cached_descriptors_make_room_for_what_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    for file in 0..64 {
        fs::write(dir.path().join(file.to_string()), "x").unwrap();
    }
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let directory = client.lookup(rootfs, b"directory").unwrap();
        let limit = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: Some(1024) }).unwrap();
        let fill = |client: &mut Client| {
            limit(Some(1024));
            let nodes: Vec<_> =
                (0..32).map(|file| client.lookup(rootfs, file.to_string().as_bytes()).unwrap()).collect();
            // All numbers below the first that is free are in use.
            limit(u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).ok());
            nodes
        };
        let nodes = fill(&mut client);
        assert!(client.open(nodes[0], libc::O_RDONLY).is_ok(), "OPEN");
        fill(&mut client);
        assert!(client.open_dir(directory).is_ok(), "OPENDIR");
        fill(&mut client);
        assert!(client.lookup(rootfs, b"40").is_ok(), "LOOKUP");
        fill(&mut client);
        let words = [libc::O_RDWR | libc::O_CREAT, 0o644, 0, 0].map(i32::cast_unsigned);
        assert_eq!(client.call(CREATE, rootfs, &request(None, &words, &[b"new"])).errno, 0, "CREATE");
        fill(&mut client);
        let words = [libc::O_RDWR, 0o644, 0, 0].map(i32::cast_unsigned);
        assert_eq!(client.call(TMPFILE, rootfs, &request(None, &words, &[b""])).errno, 0, "TMPFILE");
    });
}

#[test]
fn a_number_that_is_used_again_for_another_kind_of_file_is_another_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let (mut client, rootfs) = client(plain(dir.path()));
    let node = client.lookup(rootfs, b"file").unwrap();
    let mut status = Status::of(plain(&dir.path().join("file"))).unwrap();
    let nodes = &mut client.server.nodes;
    let share = nodes.get(node).unwrap().share;
    assert_eq!(nodes.known(share, &status), Some(node));
    status.kind = FileType::Fifo;
    assert_eq!(nodes.known(share, &status), None);
    let name = Name::new(b"file").unwrap();
    assert_ne!(nodes.enter(rootfs, &name, &status, None).unwrap(), node);
}

/// Reads on in a directory; gives the names, and goes to behind the last of them.
fn read_on(client: &mut Client, node: u64, handle: u64, offset: &mut u64) -> Vec<Vec<u8>> {
    let mut body = Body::default();
    body.u64(handle).u64(*offset).u32(4096).zeros(20);
    let reply = client.call(READDIR, node, &body.0);
    assert_eq!(reply.errno, 0);
    let (mut at, mut names) = (0, Vec::new());
    while at < reply.body.len() {
        *offset = reply.word(at + 8);
        let length = usize::try_from(reply.word(at + 16) & 0xffff_ffff).unwrap();
        names.push(reply.body[at + 24..at + 24 + length].to_vec());
        at += (24 + length).next_multiple_of(8);
    }
    names
}

#[test]
fn open_directories_keep_little_of_what_was_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..600 {
        fs::write(dir.path().join(format!("{file:0>100}")), "").unwrap();
    }
    let (mut client, rootfs) = client(plain(dir.path()));
    // More directories are read in turn than are kept ahead.
    let mut readers: Vec<_> =
        (0..100).map(|_| (client.open_dir(rootfs).unwrap(), 0, BTreeSet::new())).collect();
    let mut going = true;
    while going {
        going = false;
        for (handle, offset, seen) in &mut readers {
            for name in read_on(&mut client, rootfs, *handle, offset) {
                assert!(seen.insert(name), "an entry came twice");
                going = true;
            }
        }
        assert!(client.server.handles.read_ahead() <= 64, "{}", client.server.handles.read_ahead());
    }
    for (_, _, seen) in readers {
        assert_eq!(seen.len(), 602);
    }
}
