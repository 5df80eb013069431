//! How much memory a request makes the server ask for at once: never as much as the guest says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;

use super::*;

const LISTXATTR: u32 = 23;
const LSEEK: u32 = 46;

/// Bytes: the longest read, write or directory listing, and its header.
const MOST: usize = (1 << 20) + 4096;

thread_local! {
    /// The largest allocation of this thread since it was last set to 0, in bytes.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which notes the sizes it is asked for.
struct Noting;

fn note(size: usize) {
    // A thread that is ending has no such variable any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: all is done by the system's allocator.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// The largest allocation while the request, whose bytes and room are there before, is answered.
fn largest(client: &mut Client, opcode: u32, node: u64, body: &[u8], room: &mut [u8]) -> usize {
    let mut bytes = Body::default();
    bytes.u32(u32::try_from(40 + body.len()).unwrap()).u32(opcode).u64(7).u64(node).zeros(16).bytes(body);
    LARGEST.set(0);
    client.exchange(&mut [&mut bytes.0], &mut [room]);
    LARGEST.get()
}

#[test]
fn no_request_makes_the_server_allocate_what_the_guest_says() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![b'x'; 4 << 20]).unwrap();
    let (mut client, rootfs) = client(plain(dir.path()));
    let file = client.lookup(rootfs, b"file").unwrap();
    let handle = client.open(file, libc::O_RDWR).unwrap();
    let of_dir = client.open_dir(rootfs).unwrap();
    let mut room = vec![0; 64 << 20];
    LARGEST.set(0);
    drop(Vec::<u8>::with_capacity(3 << 20));
    assert_eq!(LARGEST.get(), 3 << 20, "allocations are noted");
    let name = b"user.name\0";
    for size in [0, 4096, 1 << 20, (1 << 20) + 1, 16 << 20, i32::MAX.cast_unsigned(), u32::MAX] {
        for offset in [0, 1 << 20, u64::MAX - 1] {
            let sized = |handle: u64| {
                let mut body = Body::default();
                body.u64(handle).u64(offset).u32(size).zeros(20);
                body.0
            };
            let mut xattr = Body::default();
            xattr.u32(size).u32(0);
            let named = [&xattr.0[..], name].concat();
            let mut copy = Body::default();
            copy.u64(handle).u64(0).u64(file).u64(handle).u64(offset).u64(size.into()).u64(0);
            let mut seek = Body::default();
            seek.u64(handle).u64(offset).u32(3).u32(0);
            let mut many = Body::default();
            many.u32(size).u32(0);
            let mut setting = Body::default();
            setting.u32(size).u32(0).u32(0).u32(0).bytes(name).bytes(b"value");
            let mut allocate = Body::default();
            allocate.u64(handle).u64(1 << 62).u64(size.into()).u32(0).u32(0);
            for (opcode, node, body) in [
                (READ, file, sized(handle)),
                (WRITE, file, sized(handle)),
                (READDIR, rootfs, sized(of_dir)),
                (READDIRPLUS, rootfs, sized(of_dir)),
                (GETXATTR, file, named),
                (LISTXATTR, file, xattr.0),
                (SETXATTR, file, setting.0),
                (COPY_FILE_RANGE, file, copy.0),
                (LSEEK, file, seek.0),
                (BATCH_FORGET, 0, many.0),
                (FALLOCATE, file, allocate.0),
            ] {
                let bytes = largest(&mut client, opcode, node, &body, &mut room);
                assert!(bytes <= MOST, "opcode {opcode}, size {size}: {bytes} bytes at once");
            }
        }
    }
    // A request that is long itself: names, targets of links and attributes are refused, not copied.
    let long = vec![b'x'; 32 << 20];
    for opcode in [LOOKUP, SYMLINK, MKDIR, SETXATTR, GETXATTR, CREATE, RENAME, WRITE, BATCH_FORGET] {
        let bytes = largest(&mut client, opcode, rootfs, &long, &mut room);
        assert!(bytes <= MOST, "opcode {opcode}, 32 MiB long: {bytes} bytes at once");
    }
}
