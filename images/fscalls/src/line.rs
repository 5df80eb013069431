//! The line that an operation prints: the call, what came of it, what can be seen afterwards.

use std::fmt::{self, Write};

use rustix::fs::{FileType, Stat, StatxTimestamp};
use rustix::io::Errno;

/// Text that cannot fail to be written to.
#[derive(Debug, Default)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    pub(crate) fn add(&mut self, text: fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.0.write_fmt(text);
    }

    /// ` = ok` or ` = ENOENT`; gives the value of success.
    pub(crate) fn outcome<T>(&mut self, result: Result<T, Errno>) -> Option<T> {
        match result {
            Ok(value) => {
                self.add(format_args!(" = ok"));
                Some(value)
            }
            Err(error) => {
                self.add(format_args!(" = {}", errno(error)));
                None
            }
        }
    }

    /// ` = 17` or ` = EBADF`.
    pub(crate) fn count(&mut self, result: Result<impl fmt::Display, Errno>) {
        match result {
            Ok(count) => self.add(format_args!(" = {count}")),
            Err(error) => self.add(format_args!(" = {}", errno(error))),
        }
    }

    /// ` = 5 bytes CHECKSUM` or ` = EBADF`.
    pub(crate) fn bytes(&mut self, result: Result<&[u8], Errno>) {
        match result {
            Ok(bytes) => self.add(format_args!(" = {} bytes {:016x}", bytes.len(), checksum(0, bytes))),
            Err(error) => self.add(format_args!(" = {}", errno(error))),
        }
    }

    /// What of a file's attributes does not depend on when, where and how the file system keeps it.
    pub(crate) fn attributes(&mut self, result: Result<Stat, Errno>) {
        let stat = match result {
            Ok(stat) => stat,
            Err(error) => return self.add(format_args!(" {{{}}}", errno(error))),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        self.add(format_args!(" {{{} {mode:o} {uid}:{gid} links {}", kind_name(kind), stat.st_nlink));
        if kind != FileType::Directory {
            self.add(format_args!(" size {}", stat.st_size));
        }
        if stat.st_rdev != 0 {
            self.add(format_args!(" rdev {:x}", stat.st_rdev));
        }
        if stat.st_blksize != 4096 {
            self.add(format_args!(" blksize {}", stat.st_blksize));
        }
        self.add(format_args!(" mtime "));
        self.time(stat.st_mtime, stat.st_mtime_nsec);
        self.add(format_args!("}}"));
    }

    /// A time, or `now` where it can be the present's: those that operations set are far from it.
    pub(crate) fn time(&mut self, seconds: i64, nanoseconds: impl fmt::Display) {
        if (1_700_000_000..4_000_000_000).contains(&seconds) {
            self.add(format_args!("now"));
        } else {
            self.add(format_args!("{seconds}.{nanoseconds}"));
        }
    }

    pub(crate) fn statx_time(&mut self, time: StatxTimestamp) {
        self.time(time.tv_sec, time.tv_nsec);
    }
}

pub(crate) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "char",
        FileType::BlockDevice => "block",
        FileType::Unknown => "unknown",
    }
}

/// A name or path, escaped; long ones shortened.
pub(crate) fn quoted(name: &[u8]) -> String {
    if name.len() <= 40 {
        return format!("\"{}\"", name.escape_ascii());
    }
    format!("\"{}\"..{}.{:08x}", name[..16].escape_ascii(), name.len(), checksum(0, name) >> 32)
}

/// FNV-1a over words of eight bytes, which is enough to tell contents apart.
pub(crate) fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    let mut sum = seed ^ 0xcbf2_9ce4_8422_2325;
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        let word = chunk.iter().fold(0, |word: u64, byte| (word << 8) | u64::from(*byte));
        sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        sum ^= sum >> 29;
    }
    for byte in rest {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    sum
}

/// The name of an error, or its number.
pub(crate) fn errno(error: Errno) -> String {
    let names = [
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::NXIO, "ENXIO"),
        (Errno::TOOBIG, "E2BIG"),
        (Errno::BADF, "EBADF"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::ACCESS, "EACCES"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::XDEV, "EXDEV"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::TXTBSY, "ETXTBSY"),
        (Errno::FBIG, "EFBIG"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::SPIPE, "ESPIPE"),
        (Errno::ROFS, "EROFS"),
        (Errno::MLINK, "EMLINK"),
        (Errno::PIPE, "EPIPE"),
        (Errno::RANGE, "ERANGE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NODATA, "ENODATA"),
        (Errno::OVERFLOW, "EOVERFLOW"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::STALE, "ESTALE"),
    ];
    let name = names.iter().find(|(known, _)| *known == error);
    name.map_or_else(|| format!("errno {}", error.raw_os_error()), |(_, name)| (*name).to_owned())
}
