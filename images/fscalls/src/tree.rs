//! The tree that operations change: how it begins, what it is in the end, and how it is taken away.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, Uid, chmodat, chownat, mkdirat,
    openat, readlinkat, seek, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::line::{Line, checksum, errno, quoted};
use crate::world::TREE;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// More data than any operation writes: a file system that claims more does not know holes.
const MOST_DATA: u64 = 64 << 20;

/// What is in a new tree: path, mode, owner and group.
const DIRECTORIES: [(&str, u32, u32, u32); 9] = [
    ("", 0o777, 0, 0),
    ("/shared", 0o2775, 0, 1001),
    ("/sticky", 0o1777, 0, 0),
    ("/inherit", 0o777, 0, 2000),
    ("/mine", 0o755, 1000, 1000),
    ("/a", 0o777, 1000, 1001),
    ("/b", 0o755, 0, 0),
    ("/a/b", 0o775, 1001, 2000),
    ("/mine/a", 0o2777, 1000, 2000),
];
const FILES: [(&str, u32, u32, u32); 6] = [
    ("/c", 0o4755, 1000, 2000),
    ("/a/a", 0o666, 0, 0),
    ("/shared/a", 0o2775, 1001, 1001),
    ("/sticky/b", 0o644, 1001, 1001),
    ("/mine/c", 0o6755, 1000, 1000),
    ("/inherit/c", 0o600, 1000, 1001),
];

/// Makes a new tree, as root: most of it can be written by those who are to meet in it.
pub(crate) fn make() -> io::Result<()> {
    let directories = DIRECTORIES.iter().map(|entry| (entry, true));
    for ((name, mode, uid, gid), is_directory) in directories.chain(FILES.iter().map(|entry| (entry, false)))
    {
        let path = format!("{TREE}{name}");
        if is_directory {
            mkdirat(CWD, &path, Mode::RWXU)?;
        } else {
            let fd = openat(CWD, &path, OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR)?;
            rustix::io::write(fd, path.as_bytes())?;
        }
        chownat(CWD, &path, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), AtFlags::empty())?;
        chmodat(CWD, &path, Mode::from_raw_mode(*mode), AtFlags::empty())?;
    }
    Ok(symlinkat("a", CWD, format!("{TREE}/d"))?)
}

/// Empties the root directory, as root, and makes it as it was: a link can lead to it.
pub(crate) fn remove() -> io::Result<()> {
    let root = openat(CWD, "/", DIRECTORY, Mode::empty())?;
    empty(&root)?;
    let mut buffer = vec![0; 64 << 10];
    let count = rustix::fs::flistxattr(&root, &mut buffer[..])?;
    for name in buffer[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        rustix::fs::fremovexattr(&root, name)?;
    }
    rustix::fs::fchown(&root, Some(Uid::ROOT), Some(Gid::ROOT))?;
    Ok(rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?)
}

fn empty(dir: &OwnedFd) -> Result<(), Errno> {
    for name in names(dir.as_fd())? {
        match unlinkat(dir, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                empty(&openat(dir, &name, DIRECTORY, Mode::empty())?)?;
                unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
            }
            removed => removed?,
        }
    }
    Ok(())
}

/// The names in a directory, sorted.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Prints the tree, as root, an entry on each line.
pub(crate) fn dump(say: &mut impl FnMut(Line) -> io::Result<()>) -> io::Result<()> {
    let root = openat(CWD, TREE, DIRECTORY, Mode::empty())?;
    Dump { say, linked: HashMap::new() }.directory(&root, "")
}

struct Dump<'s, S> {
    say: &'s mut S,
    /// The first path of each file that has several.
    linked: HashMap<(u64, u64), String>,
}

impl<S: FnMut(Line) -> io::Result<()>> Dump<'_, S> {
    fn directory(&mut self, dir: &OwnedFd, path: &str) -> io::Result<()> {
        self.entry(dir.as_fd(), b".", if path.is_empty() { "/" } else { path })?;
        for name in names(dir.as_fd())? {
            let path = format!("{path}/{}", quoted(&name));
            match openat(dir, &name, DIRECTORY, Mode::empty()) {
                Ok(below) => self.directory(&below, &path)?,
                Err(_) => self.entry(dir.as_fd(), &name, &path)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &str) -> io::Result<()> {
        let mut line = Line::default();
        line.add(format_args!("  {path}"));
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        line.attributes(stat);
        if let Ok(stat) = stat {
            self.contents(&mut line, dir, name, &stat);
            if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned());
                line.add(format_args!(" linked with {first}"));
            }
        }
        (self.say)(line)
    }

    fn contents(&self, line: &mut Line, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) {
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new());
                if let Some(target) = line.outcome(target) {
                    line.add(format_args!(" {}", quoted(target.as_bytes())));
                }
                return;
            }
            FileType::RegularFile => OFlags::RDONLY,
            FileType::Directory => DIRECTORY,
            _ => return,
        };
        match openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(error) => line.add(format_args!(" {}", errno(error))),
            Ok(fd) => {
                if !flags.contains(OFlags::DIRECTORY) {
                    match data(fd.as_fd()) {
                        Ok(sum) => line.add(format_args!(" data {sum:016x}")),
                        Err(error) => line.add(format_args!(" data {}", errno(error))),
                    }
                }
                attributes(line, fd.as_fd());
            }
        }
    }
}

/// A checksum of what is not zero in a file, whether or not the zeros are holes.
fn data(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    const BLOCK: usize = 4096;
    let (mut at, mut sum, mut total) = (0, 0, 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let begin = match seek(fd, SeekFrom::Data(at)) {
            Ok(begin) => begin & !(BLOCK as u64 - 1),
            Err(Errno::NXIO) => return Ok(sum),
            Err(error) => return Err(error),
        };
        let end = seek(fd, SeekFrom::Hole(begin.max(at)))?;
        at = begin;
        while at < end {
            let count = rustix::io::pread(fd, &mut buffer[..], at)?;
            if count == 0 {
                return Ok(sum);
            }
            for (block, position) in buffer[..count].chunks(BLOCK).zip((at..).step_by(BLOCK)) {
                if block.iter().any(|byte| *byte != 0) {
                    sum = checksum(sum ^ position, block);
                }
            }
            // A whole number of blocks, but for the end of the file.
            at += count as u64;
            total += count as u64;
            if total > MOST_DATA {
                return Err(Errno::FBIG);
            }
        }
    }
}

fn attributes(line: &mut Line, fd: BorrowedFd<'_>) {
    let mut buffer = vec![0; 64 << 10];
    let listed = match rustix::fs::flistxattr(fd, &mut buffer[..]) {
        Ok(count) => buffer[..count].to_vec(),
        Err(error) => return line.add(format_args!(" xattrs {}", errno(error))),
    };
    let mut names: Vec<&[u8]> = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort();
    for name in names {
        line.add(format_args!(" {}", quoted(name)));
        let got = rustix::fs::fgetxattr(fd, name, &mut buffer[..]);
        line.bytes(got.map(|count| &buffer[..count]));
    }
}
