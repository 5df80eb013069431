//! Directories that a guest reads without having opened them.

use std::fs;

use super::*;

/// Bytes of a reply, as drupe's guest kernel asks for them.
const SIZE: u32 = 64 << 10;
/// `fuse_entry_out`, and what is before the name in a `fuse_dirent`.
const ENTRY: usize = 128;
const DIRENT: usize = 24;

fn read_directory(client: &mut Client, node: u64, handle: u64, offset: u64) -> Reply {
    let mut body = Body::default();
    body.u64(handle).u64(offset).u32(SIZE).zeros(20);
    client.call(READDIRPLUS, node, &body.0)
}

/// The names of a reply; an empty one is the mark of the end.
fn names(reply: &Reply) -> Vec<String> {
    let (mut names, mut at) = (Vec::new(), 0);
    while at < reply.body.len() {
        let length = usize::try_from(reply.word(at + ENTRY + 16) & u64::from(u32::MAX)).unwrap();
        let start = at + ENTRY + DIRENT;
        names.push(String::from_utf8(reply.body[start..start + length].to_vec()).unwrap());
        at += ENTRY + (DIRENT + length).next_multiple_of(8);
    }
    names
}

#[test]
fn one_request_reads_all_of_a_directory_that_is_not_open() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..100 {
        fs::write(dir.path().join(format!("file-{file}")), "").unwrap();
    }
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let reply = read_directory(&mut client, rootfs, 0, 0);
        assert_eq!(reply.errno, 0);
        let mut names = names(&reply);
        assert_eq!(names.pop().as_deref(), Some(""), "the end is marked");
        names.sort_unstable();
        assert_eq!(names.len(), 102);
        assert_eq!(names[..2], [".", ".."]);
        assert!(names.contains(&"file-99".to_owned()));
        assert_eq!(client.counts().open_files, 0);
        // Without a handle there is no place to go on from.
        assert_eq!(read_directory(&mut client, rootfs, 0, 5).errno, libc::EBADF);
    });
}

#[test]
fn the_end_is_not_marked_where_there_is_more() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..1000 {
        fs::write(dir.path().join(format!("file-{file}")), "").unwrap();
    }
    child::in_child(|| {
        let (mut client, rootfs) = client(plain(dir.path()));
        let first = names(&read_directory(&mut client, rootfs, 0, 0));
        assert!(first.len() < 1000 && !first.contains(&String::new()), "{} names", first.len());
        // So the guest opens it, and reads it to its end, where an empty reply is the mark.
        let handle = client.open_dir(rootfs).unwrap();
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let reply = read_directory(&mut client, rootfs, handle, offset);
            let more = names(&reply);
            let Some(last) = more.last() else { break };
            let length = (DIRENT + last.len()).next_multiple_of(8);
            offset = reply.word(reply.body.len() - length + 8);
            all.extend(more);
        }
        assert_eq!(all.len(), 1002);
        assert!(!all.contains(&String::new()));
    });
}

#[test]
fn the_shares_are_read_so_as_well() {
    let dir = tempfile::tempdir().unwrap();
    child::in_child(|| {
        let (mut client, _) = client(plain(dir.path()));
        assert_eq!(names(&read_directory(&mut client, ROOT, 0, 0)), [".", "..", "rootfs", ""]);
    });
}
