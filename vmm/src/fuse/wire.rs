//! The FUSE protocol, version 7.41 (linux/fuse.h): what requests and replies look like in bytes.
//!
//! Integers are of the guest's byte order, which is ours: a guest has the architecture of its host.

use std::time::Duration;

use rustix::io::Errno;

/// Major version of the protocol.
pub(super) const VERSION: u32 = 7;
/// Minor version that is spoken.
pub(super) const MINOR: u32 = 41;
/// The least minor version of a guest: from it on, every structure has the size that is used here.
pub(super) const OLDEST_MINOR: u32 = 31;
/// Node of the root directory.
pub(super) const ROOT: u64 = 1;
/// Bytes of a request's header.
pub(super) const IN_HEADER: usize = 40;
/// Bytes of a reply's header.
pub(super) const OUT_HEADER: usize = 16;
/// Bytes of `fuse_write_in`.
pub(super) const WRITE_IN: usize = 40;

macro_rules! opcodes {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// What a request asks for. Opcodes that are not here are not served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Opcode {
            $($name,)*
        }

        impl Opcode {
            /// Every opcode that is served.
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The opcode with this number.
            pub(super) fn of(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name in linux/fuse.h, without `FUSE_`.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1, "LOOKUP";
    Forget = 2, "FORGET";
    Getattr = 3, "GETATTR";
    Setattr = 4, "SETATTR";
    Readlink = 5, "READLINK";
    Symlink = 6, "SYMLINK";
    Mknod = 8, "MKNOD";
    Mkdir = 9, "MKDIR";
    Unlink = 10, "UNLINK";
    Rmdir = 11, "RMDIR";
    Rename = 12, "RENAME";
    Link = 13, "LINK";
    Open = 14, "OPEN";
    Read = 15, "READ";
    Write = 16, "WRITE";
    Statfs = 17, "STATFS";
    Release = 18, "RELEASE";
    Fsync = 20, "FSYNC";
    Setxattr = 21, "SETXATTR";
    Getxattr = 22, "GETXATTR";
    Listxattr = 23, "LISTXATTR";
    Removexattr = 24, "REMOVEXATTR";
    Init = 26, "INIT";
    Opendir = 27, "OPENDIR";
    Readdir = 28, "READDIR";
    Releasedir = 29, "RELEASEDIR";
    Fsyncdir = 30, "FSYNCDIR";
    Create = 35, "CREATE";
    Destroy = 38, "DESTROY";
    BatchForget = 42, "BATCH_FORGET";
    Fallocate = 43, "FALLOCATE";
    Readdirplus = 44, "READDIRPLUS";
    Rename2 = 45, "RENAME2";
    Lseek = 46, "LSEEK";
    CopyFileRange = 47, "COPY_FILE_RANGE";
    Syncfs = 50, "SYNCFS";
    Tmpfile = 51, "TMPFILE";
    Statx = 52, "STATX";
}

/// Number of `FUSE_INTERRUPT`, which is not served and never answered: no request can be interrupted.
pub(super) const INTERRUPT: u32 = 36;

/// Flags of `FUSE_INIT`.
pub(super) mod init {
    pub(in super::super) const ASYNC_READ: u64 = 1 << 0;
    pub(in super::super) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub(in super::super) const BIG_WRITES: u64 = 1 << 5;
    pub(in super::super) const DONT_MASK: u64 = 1 << 6;
    pub(in super::super) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(in super::super) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(in super::super) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(in super::super) const ASYNC_DIO: u64 = 1 << 15;
    pub(in super::super) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(in super::super) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(in super::super) const POSIX_ACL: u64 = 1 << 20;
    pub(in super::super) const MAX_PAGES: u64 = 1 << 22;
    pub(in super::super) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(in super::super) const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub(in super::super) const SUBMOUNTS: u64 = 1 << 27;
    pub(in super::super) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(in super::super) const SETXATTR_EXT: u64 = 1 << 29;
    pub(in super::super) const INIT_EXT: u64 = 1 << 30;
    // These two are of drupe's guest kernel alone (guest-kernel/patches/fuse-round-trips.patch).
    pub(in super::super) const LAZY_OPENDIR: u64 = 1 << 62;
    pub(in super::super) const FEW_TRIPS: u64 = 1 << 63;
}

/// `FOPEN_KEEP_CACHE`: what the guest has cached of the file still holds.
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `FOPEN_CACHE_DIR`: the guest may cache what it reads of the directory.
pub(super) const FOPEN_CACHE_DIR: u32 = 1 << 3;
/// `FUSE_ATTR_SUBMOUNT`: the directory is the root of another filesystem.
pub(super) const ATTR_SUBMOUNT: u32 = 1;

/// `fuse_in_header`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Header {
    /// Reads a header; `None` when there are not as many bytes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..IN_HEADER)?);
        let length = usize::try_from(fields.u32().ok()?).ok()?;
        Some(Self {
            length,
            opcode: fields.u32().ok()?,
            unique: fields.u64().ok()?,
            node: fields.u64().ok()?,
            uid: fields.u32().ok()?,
            gid: fields.u32().ok()?,
        })
    }
}

/// What is left to read of a request. A request that is too short is `EINVAL`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Errno::INVAL)?;
        self.0 = tail;
        Ok(*head)
    }

    /// The next 16 bits.
    pub(super) fn u16(&mut self) -> Result<u16, Errno> {
        self.take().map(u16::from_ne_bytes)
    }

    /// The next 32 bits.
    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_ne_bytes)
    }

    /// The next 64 bits.
    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Passes over padding.
    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Errno> {
        self.0 = self.0.get(bytes..).ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// The bytes up to the next NUL, and goes behind it.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (head, tail) = self.0.split_at_checked(end).ok_or(Errno::INVAL)?;
        self.0 = tail.get(1..).ok_or(Errno::INVAL)?;
        Ok(head)
    }

    /// The bytes up to a NUL that must be the last one of the request.
    pub(super) fn last_string(&mut self) -> Result<&'a [u8], Errno> {
        let string = self.string()?;
        if self.0.is_empty() { Ok(string) } else { Err(Errno::INVAL) }
    }

    /// Exactly `count` bytes, which must be the last ones.
    pub(super) fn last_bytes(&mut self, count: u32) -> Result<&'a [u8], Errno> {
        if u32::try_from(self.0.len()) == Ok(count) {
            Ok(std::mem::take(&mut self.0))
        } else {
            Err(Errno::INVAL)
        }
    }
}

/// The body of a reply while it is written.
#[derive(Debug, Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    /// Appends 16 bits.
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends 32 bits.
    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends 64 bits.
    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// Appends zeros.
    pub(super) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `fuse_entry_out`.
    pub(super) fn entry(&mut self, entry: &Entry) -> &mut Self {
        self.u64(entry.node).u64(0);
        self.u64(entry.entry_valid.as_secs()).u64(entry.attr_valid.as_secs());
        self.u32(entry.entry_valid.subsec_nanos()).u32(entry.attr_valid.subsec_nanos());
        self.attr(&entry.attr)
    }

    /// `fuse_attr_out`.
    pub(super) fn attr_out(&mut self, attr: &Attr, valid: Duration) -> &mut Self {
        self.u64(valid.as_secs()).u32(valid.subsec_nanos()).u32(0);
        self.attr(attr)
    }

    /// `fuse_open_out`.
    pub(super) fn open_out(&mut self, handle: u64, flags: u32) -> &mut Self {
        self.u64(handle).u32(flags).u32(0)
    }

    fn attr(&mut self, attr: &Attr) -> &mut Self {
        self.u64(attr.ino).u64(attr.size).u64(attr.blocks);
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.u64(time.0);
        }
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.u32(time.1);
        }
        self.u32(attr.mode).u32(attr.nlink).u32(attr.uid).u32(attr.gid);
        self.u32(attr.rdev).u32(attr.blksize).u32(attr.flags)
    }
}

/// `fuse_attr`. Times are seconds, as two's complement, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) atime: (u64, u32),
    pub(super) mtime: (u64, u32),
    pub(super) ctime: (u64, u32),
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u32,
    pub(super) blksize: u32,
    pub(super) flags: u32,
}

/// `fuse_entry_out`: a name's node. Node 0 means that there is none, for as long as `entry_valid`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) node: u64,
    pub(super) entry_valid: Duration,
    pub(super) attr_valid: Duration,
    pub(super) attr: Attr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_linux_fuse_h() {
        let mut body = Body::default();
        assert_eq!(body.entry(&Entry::default()).0.len(), 128);
        let mut body = Body::default();
        assert_eq!(body.attr_out(&Attr::default(), Duration::ZERO).0.len(), 104);
    }

    #[test]
    fn a_request_that_ends_early_is_invalid() {
        assert!(Header::parse(&[0; 39]).is_none());
        assert_eq!(Fields(&[1, 2, 3]).u32(), Err(Errno::INVAL));
        assert_eq!(Fields(b"no end").string(), Err(Errno::INVAL));
        assert_eq!(Fields(b"a\0b").last_string(), Err(Errno::INVAL));
        assert_eq!(Fields(b"a\0").last_string(), Ok(&b"a"[..]));
        assert_eq!(Fields(b"abc").last_bytes(u32::MAX), Err(Errno::INVAL));
    }
}
