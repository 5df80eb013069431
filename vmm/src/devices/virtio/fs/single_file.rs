//! A share of one file without its siblings.
//!
//! The server below it sees the file's directory; this filter lets requests on the file's own inode through and
//! refuses all others. The inode stays known to the server for ever: what a guest says of it being forgotten is
//! not passed on.

use std::any::Any;
use std::ffi::CStr;
use std::io;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::api::BackendFileSystem;
use fuse_backend_rs::api::filesystem::{
    Context, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::passthrough::PassthroughFs;

/// The file called `name` in the root of `directory`.
pub(super) struct SingleFile {
    directory: PassthroughFs<()>,
    entry: Entry,
}

/// The largest inode number that the file can have: what `Vfs` has room for beside its own index.
const MAX_INODE: u64 = (1 << 56) - 1;

impl SingleFile {
    pub(super) fn new(directory: PassthroughFs<()>, name: &CStr) -> io::Result<Self> {
        let entry = directory.lookup(&Context::default(), fuse_backend_rs::abi::fuse_abi::ROOT_ID, name)?;
        if entry.attr.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self { directory, entry })
    }

    fn check(&self, inode: u64) -> io::Result<()> {
        if inode == self.entry.inode { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }
}

impl BackendFileSystem for SingleFile {
    fn mount(&self) -> io::Result<(Entry, u64)> {
        Ok((self.entry, MAX_INODE))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Passes requests on a file to the server when they are on the one file; what is not listed is not supported.
macro_rules! pass_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(&self, ctx: &Context, inode: u64, $($argument: $type),*) -> io::Result<$result> {
            self.check(inode)?;
            self.directory.$name(ctx, inode, $($argument),*)
        }
    )*};
}

impl FileSystem for SingleFile {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        self.directory.init(capable)
    }

    fn destroy(&self) {
        self.directory.destroy();
    }

    fn lookup(&self, _ctx: &Context, _parent: u64, _name: &CStr) -> io::Result<Entry> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    pass_on! {
        fn getattr(handle: Option<u64>) -> (stat64, Duration);
        fn setattr(attr: stat64, handle: Option<u64>, valid: SetattrValid) -> (stat64, Duration);
        fn readlink() -> Vec<u8>;
        fn open(flags: u32, fuse_flags: u32) -> (Option<u64>, OpenOptions, Option<u32>);
        fn read(
            handle: u64, to: &mut dyn ZeroCopyWriter, size: u32, offset: u64, owner: Option<u64>, flags: u32
        ) -> usize;
        fn write(
            handle: u64, from: &mut dyn ZeroCopyReader, size: u32, offset: u64, owner: Option<u64>,
            delayed: bool, flags: u32, fuse_flags: u32
        ) -> usize;
        fn flush(handle: u64, owner: u64) -> ();
        fn fsync(datasync: bool, handle: u64) -> ();
        fn fallocate(handle: u64, mode: u32, offset: u64, length: u64) -> ();
        fn release(flags: u32, handle: u64, flush: bool, flock_release: bool, owner: Option<u64>) -> ();
        fn statfs() -> statvfs64;
        fn setxattr(name: &CStr, value: &[u8], flags: u32) -> ();
        fn getxattr(name: &CStr, size: u32) -> GetxattrReply;
        fn listxattr(size: u32) -> ListxattrReply;
        fn removexattr(name: &CStr) -> ();
        fn access(mask: u32) -> ();
        fn lseek(handle: u64, offset: u64, whence: u32) -> u64;
    }
}
