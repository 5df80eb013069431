//! Files of the host as the server sees them: a directory's descriptor and one checked name at a time.
//!
//! `openat2(2)` refuses to leave the directory even for a name that should not have passed the check.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::name::Name;
use super::wire::Attr;

/// What is asked of statx(2).
const FIELDS: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// How a name is resolved: to what is in the directory under that name, and nowhere else.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Seconds and nanoseconds.
pub(super) type Time = (i64, u32);

/// Which file it is, on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    /// The mount: the same file has other properties through another.
    pub(super) mount: u64,
    device: (u32, u32),
    inode: u64,
}

/// What a file is, and its attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub(super) id: FileId,
    /// When it was made, where the filesystem says so: inode numbers are used again.
    pub(super) born: Option<Time>,
    pub(super) kind: FileType,
    /// The last change of the file, and of what is known about it.
    pub(super) changed: Time,
    pub(super) attr: Attr,
    /// For `FUSE_STATX`.
    pub(super) statx: Statx,
}

impl Status {
    /// Of an open file.
    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, FIELDS).map(Self::from)
    }

    /// Of the file with this name.
    pub(super) fn of_name(directory: impl AsFd, name: &Name) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(directory, name.as_c_str(), flags, FIELDS).map(Self::from)
    }

    /// Whether it is the file that had this number, time of birth and kind: where the filesystem does not know when a
    /// file was made, a number that is used again must at least not turn a file into a fifo or a device.
    pub(super) fn is_same(&self, id: FileId, born: Option<Time>, kind: FileType) -> bool {
        self.id == id && self.born == born && self.kind == kind
    }
}

impl From<Statx> for Status {
    fn from(statx: Statx) -> Self {
        let has = |field: StatxFlags| statx.stx_mask & field.bits() != 0;
        let mode = u32::from(statx.stx_mode);
        let time = |time: &rustix::fs::StatxTimestamp| (time.tv_sec.cast_unsigned(), time.tv_nsec);
        Self {
            id: FileId {
                mount: if has(StatxFlags::MNT_ID) { statx.stx_mnt_id } else { 0 },
                device: (statx.stx_dev_major, statx.stx_dev_minor),
                inode: statx.stx_ino,
            },
            born: has(StatxFlags::BTIME).then_some((statx.stx_btime.tv_sec, statx.stx_btime.tv_nsec)),
            kind: FileType::from_raw_mode(mode),
            changed: (statx.stx_ctime.tv_sec, statx.stx_ctime.tv_nsec),
            attr: Attr {
                ino: statx.stx_ino,
                size: statx.stx_size,
                blocks: statx.stx_blocks,
                atime: time(&statx.stx_atime),
                mtime: time(&statx.stx_mtime),
                ctime: time(&statx.stx_ctime),
                mode,
                nlink: statx.stx_nlink,
                uid: statx.stx_uid,
                gid: statx.stx_gid,
                rdev: device_number(statx.stx_rdev_major, statx.stx_rdev_minor),
                blksize: statx.stx_blksize,
                flags: 0,
            },
            statx,
        }
    }
}

/// A device's number as the kernel encodes it in 32 bits.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The file with this name, without opening it: a descriptor that stands for it.
pub(super) fn find(directory: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    open_below(directory, name, OFlags::PATH, Mode::empty())
}

/// Opens or makes the file with this name.
pub(super) fn open_below(
    directory: impl AsFd,
    name: &Name,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, name.as_c_str(), flags, mode, RESOLVE)
}

/// Opens what a descriptor stands for. The caller has made sure that it is a regular file or a directory.
pub(super) fn reopen(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::open(path(file), flags, Mode::empty())
}

/// The path of what a descriptor stands for, from the working directory of the serving thread.
pub(super) fn path(file: impl AsFd) -> DecInt {
    DecInt::from_fd(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_those_of_the_kernel() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(259, 0x12345), 0x1231_0345);
    }
}
