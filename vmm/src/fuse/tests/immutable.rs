//! Shares that their caller declares immutable: the guest does without opening files, and nothing is kept open for it.

use std::fs;

use super::*;
use crate::fuse::wire::init;

const FILES: u32 = 400;

#[test]
fn files_that_are_never_opened_are_neither_lost_nor_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "old contents").unwrap();
    let root = ShareFile { cache: ShareCache::Immutable, ..share("rootfs", plain(dir.path())) };
    child::in_child(|| {
        let mut client = Client::new(vec![root], MEMORY, DESCRIPTORS).unwrap();
        let agreed = client.init().word(8) >> 32;
        assert_eq!(
            agreed & init::ATOMIC_O_TRUNC,
            0,
            "opening truncates nothing: the guest's kernel has to ask"
        );
        let rootfs = client.lookup(ROOT, b"rootfs").unwrap();
        let old = client.lookup(rootfs, b"old").unwrap();
        assert_eq!(client.open(old, libc::O_RDWR), Err(libc::ENOSYS));
        assert_eq!(client.read(old, 0).unwrap(), b"old contents");

        let before = descriptors();
        for file in 0..FILES {
            let words = [libc::O_WRONLY | libc::O_CREAT, 0o444, 0, 0].map(i32::cast_unsigned);
            let created = client.call(CREATE, rootfs, &request(None, &words, &[file.to_string().as_bytes()]));
            assert_eq!(created.errno, 0);
            let (node, handle) = (created.word(0), created.word(128));
            assert_eq!(handle, 0, "the guest gives no handle back");
            assert_eq!(client.write(node, handle, b"new contents"), 0);
            assert_eq!(client.read(node, handle).unwrap(), b"new contents");
            assert_eq!(client.release(node, handle), 0);
            client.call(FORGET, node, &1_u64.to_ne_bytes());
        }
        assert_eq!(client.counts().open_files, 0);
        assert!(descriptors() <= before + 256, "{} after {before}", descriptors());
    });
}
