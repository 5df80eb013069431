//! The server with raw requests: what a guest's kernel could send, right or wrong.

mod allocations;
mod bounds;
mod bystander;
mod child;
mod credentials;
mod immutable;
mod kinds;
mod listing;
mod names;
mod raw;
mod readonly;
mod special;

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::mount::OpenTreeFlags;

use super::client::{Client, Reply};
use super::wire::{Body, ROOT};
use crate::config::{ShareCache, ShareFile};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const REMOVEXATTR: u32 = 24;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;
const READDIRPLUS: u32 = 44;
const RENAME2: u32 = 45;
const COPY_FILE_RANGE: u32 = 47;
const TMPFILE: u32 = 51;

const MEMORY: u64 = 256 << 20;
const DESCRIPTORS: u64 = 1 << 20;

/// A directory as a share of this name.
fn share(name: &str, root: OwnedFd) -> ShareFile {
    ShareFile { name: name.to_owned(), root, only: None, cache: ShareCache::Shared }
}

/// A plain descriptor, as for a caller who may not mount.
fn plain(path: &Path) -> OwnedFd {
    File::options().read(true).custom_flags(libc::O_PATH).open(path).unwrap().into()
}

/// A detached mount, as the runtime makes it. Needs the privilege to mount.
fn detached(path: &Path, readonly: bool) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, path, flags).expect("a mount of a share's own");
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NODEV | if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a string, and the attributes are as long as is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    assert_eq!(result, 0, "mount_setattr: {}", std::io::Error::last_os_error());
    mount
}

/// A client of one share, and the share's node.
fn client(root: OwnedFd) -> (Client, u64) {
    let mut client = Client::new(vec![share("rootfs", root)], MEMORY, DESCRIPTORS).unwrap();
    assert_eq!(client.init().errno, 0);
    let rootfs = client.lookup(ROOT, b"rootfs").unwrap();
    (client, rootfs)
}

impl Client {
    fn lookup(&mut self, node: u64, name: &[u8]) -> Result<u64, i32> {
        let reply = self.call(LOOKUP, node, &[name, b"\0"].concat());
        match (reply.errno, reply.word(0)) {
            (0, 0) => Err(libc::ENOENT),
            (0, node) => Ok(node),
            (errno, _) => Err(errno),
        }
    }

    fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        handle(&self.call(OPEN, node, &open_body(flags)))
    }

    fn open_dir(&mut self, node: u64) -> Result<u64, i32> {
        handle(&self.call(OPENDIR, node, &open_body(0)))
    }

    fn read(&mut self, node: u64, handle: u64) -> Result<Vec<u8>, i32> {
        let mut body = Body::default();
        body.u64(handle).u64(0).u32(4096).zeros(20);
        let reply = self.call(READ, node, &body.0);
        if reply.errno == 0 { Ok(reply.body) } else { Err(reply.errno) }
    }

    fn release(&mut self, node: u64, handle: u64) -> i32 {
        let mut body = Body::default();
        body.u64(handle).zeros(16);
        self.call(RELEASE, node, &body.0).errno
    }

    fn write(&mut self, node: u64, handle: u64, data: &[u8]) -> i32 {
        self.call(WRITE, node, &write_body(handle, data)).errno
    }
}

fn handle(reply: &Reply) -> Result<u64, i32> {
    if reply.errno == 0 { Ok(reply.word(0)) } else { Err(reply.errno) }
}

fn open_body(flags: i32) -> Vec<u8> {
    let mut body = Body::default();
    body.u32(flags.cast_unsigned()).u32(0);
    body.0
}

fn write_body(handle: u64, data: &[u8]) -> Vec<u8> {
    let mut body = Body::default();
    body.u64(handle).u64(0).u32(u32::try_from(data.len()).unwrap()).zeros(20).bytes(data);
    body.0
}

/// 32-bit words, a 64-bit one if there is any before them, then strings with their ends.
fn request(node: Option<u64>, words: &[u32], strings: &[&[u8]]) -> Vec<u8> {
    let mut body = Body::default();
    if let Some(node) = node {
        body.u64(node);
    }
    for word in words {
        body.u32(*word);
    }
    for string in strings {
        body.bytes(string).zeros(1);
    }
    body.0
}

/// Descriptors that this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Makes a regular file in a directory.
fn make_file(directory: BorrowedFd<'_>, name: &[u8]) {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RWXU).unwrap();
}
