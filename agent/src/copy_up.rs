//! `tmpcopyup`: what the image has in the place of a tmpfs is copied into it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

/// Deeper trees are refused: each level holds descriptors.
const MAX_DEPTH: usize = 100;

/// Copies all that is in a directory, with owners and modes; no link is followed. The caller's umask is 0.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    copy_directory(from, to, MAX_DEPTH)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let from = openat(from, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(&from, name, flags, Mode::empty())?;
                let made = openat(to, name, flags, Mode::empty())?;
                copy_directory(below.as_fd(), made.as_fd(), depth)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut source = File::from(openat(&from, name, flags | OFlags::RDONLY, Mode::empty())?);
                let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let mut target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut source, &mut target)?;
            }
            FileType::Symlink => symlinkat(readlinkat(&from, name, Vec::new())?, to, name)?,
            special => mknodat(to, name, special, mode, stat.st_rdev)?,
        }
        give(to, name, &stat)?;
    }
    give(to, c".", &fstat(&from)?)
}

/// Gives a copy the owner and the mode of the original.
pub(crate) fn give(directory: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // An owner who is nobody in this user namespace: the copy is its root's.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(directory, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_copied_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "content").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o1711)).unwrap();
        symlink("/absent", from.join("a/link")).unwrap();
        mknodat(rustix::fs::CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let open = |path| fs::File::open(path).unwrap();
        copy(open(&from).as_fd(), open(&to).as_fd()).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "content");
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(to.join("a/b")).unwrap().mode() & 0o7777, 0o1711);
        assert_eq!(fs::read_link(to.join("a/link")).unwrap().to_str(), Some("/absent"));
        assert_eq!(fs::symlink_metadata(to.join("fifo")).unwrap().mode(), 0o010_400);
    }

    #[test]
    fn a_bottomless_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(MAX_DEPTH);
        fs::create_dir_all(dir.path().join("from").join(&deep)).unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        let open = |name| fs::File::open(dir.path().join(name)).unwrap();
        let error = copy(open("from").as_fd(), open("to").as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
