//! Directories: what they list, also while they change, and how deep they go.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, RenameFlags, SeekFrom, mkdirat, openat, renameat_with, seek, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::line::{errno, kind_name, quoted};
use crate::world::{Call, say};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An entry as getdents(2) gives it.
struct Entry {
    name: Vec<u8>,
    kind: &'static str,
    inode: u64,
}

/// Reads on from where a descriptor stands, with buffers of so many bytes, up to the end or to `most` entries and
/// those that came with them.
fn entries(fd: BorrowedFd<'_>, room: usize, most: usize) -> Result<Vec<Entry>, Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); room];
    let mut entries = Vec::new();
    let mut dir = RawDir::new(fd, &mut buffer);
    while entries.len() < most || !dir.is_buffer_empty() {
        let Some(entry) = dir.next() else { break };
        let entry = entry?;
        let (name, kind) = (entry.file_name().to_bytes().to_vec(), kind_name(entry.file_type()));
        entries.push(Entry { name, kind, inode: entry.ino() });
    }
    Ok(entries)
}

pub(super) fn list(call: &mut Call<'_>) {
    let (place, room, check) = (call.place(), call.random.pick(&[320, 1024, 32_768]), call.random.one_in(3));
    say!(call, "readdir {} room {room}", place.text());
    let opened = openat(place.dir(call.world), &place.path, DIRECTORY, Mode::empty());
    let Some(fd) = call.line.outcome(opened) else { return };
    say_entries(call, fd.as_fd(), room, check);
}

/// Lists what is open in a slot, from the beginning.
pub(super) fn list_descriptor(call: &mut Call<'_>) {
    let (slot, room) = (call.slot(), call.random.pick(&[320, 32_768]));
    say!(call, "readfd {slot} room {room}");
    let fd = call.with_slot(slot, |fd| {
        seek(fd, SeekFrom::Start(0))?;
        rustix::io::fcntl_dupfd_cloexec(fd, 3)
    });
    let Some(fd) = call.line.outcome(fd) else { return };
    say_entries(call, fd.as_fd(), room, false);
}

fn say_entries(call: &mut Call<'_>, fd: BorrowedFd<'_>, room: usize, check: bool) {
    let mut entries = match entries(fd, room, usize::MAX) {
        Ok(entries) => entries,
        Err(error) => return say!(call, " {}", errno(error)),
    };
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    for entry in &entries {
        say!(call, " {}:{}", quoted(&entry.name), entry.kind);
        if !check {
            continue;
        }
        match statat(fd, &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == entry.inode => {}
            Ok(_) => say!(call, " (another inode)"),
            Err(error) => say!(call, " ({})", errno(error)),
        }
    }
}

/// How many entries of a directory stay while others come and go.
const STABLE: usize = 24;
const COMING_AND_GOING: usize = 8;
/// The directory changes no more from here on, so that its end is reached.
const LAST: usize = 100;

/// Reads a directory in pieces while it changes: what stays is seen exactly once, and after going back to the
/// beginning all that is there now.
pub(super) fn mutate(call: &mut Call<'_>) {
    say!(call, "mutate");
    let made =
        mkdirat(CWD, "changing", Mode::RWXU).and_then(|()| openat(CWD, "changing", DIRECTORY, Mode::empty()));
    if let Some(fd) = call.line.outcome(made) {
        match mutation(call, fd.as_fd()) {
            Ok(()) => {}
            Err(error) => say!(call, " {}", errno(error)),
        }
        let removed = unlinkat(CWD, "changing", AtFlags::REMOVEDIR);
        call.line.outcome(removed);
        // It is gone, and its descriptor still one of an empty directory.
        let left = seek(&fd, SeekFrom::Start(0)).and_then(|_| entries(fd.as_fd(), 1024, 9));
        call.line.count(left.map(|left| left.len()));
    }
}

fn mutation(call: &mut Call<'_>, dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let stable = |number: usize| format!("stable-{number}-{}", "s".repeat(number * 5));
    let passing = |number: usize| format!("passing-{number}");
    let create = |name: String| {
        openat(dir, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR)
            .map(drop)
    };
    for number in 0..STABLE {
        create(stable(number))?;
    }
    for number in 0..COMING_AND_GOING {
        create(passing(number))?;
    }
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut next = COMING_AND_GOING;
    loop {
        let piece = entries(dir, 400, 1)?;
        if piece.is_empty() {
            break;
        }
        for entry in piece {
            *seen.entry(entry.name).or_default() += 1;
        }
        if next == LAST {
            continue;
        }
        match call.random.below(3) {
            0 if next < 4 * COMING_AND_GOING => create(passing(next))?,
            1 => renameat_with(dir, passing(next - 1), dir, passing(next), RenameFlags::empty())?,
            _ => {
                unlinkat(dir, passing(next - 1), AtFlags::empty())?;
                create(passing(next))?;
            }
        }
        next += 1;
    }
    let once = (0..STABLE).filter(|number| seen.get(stable(*number).as_bytes()) == Some(&1)).count();
    say!(call, " seen once {once} of {STABLE}");
    seek(dir, SeekFrom::Start(0))?;
    let mut left = entries(dir, 2048, usize::MAX)?;
    left.sort_by(|one, other| one.name.cmp(&other.name));
    let sum = left.iter().fold(0, |sum, entry| crate::line::checksum(sum, &entry.name));
    say!(call, " left {} {sum:x}", left.len());
    for entry in left.iter().filter(|entry| entry.name != b"." && entry.name != b"..") {
        unlinkat(dir, &entry.name, AtFlags::empty())?;
    }
    Ok(())
}

/// How deep, with names of 100 bytes: the whole path is longer than any that can be given.
const DEPTH: usize = 45;

/// Goes down one directory at a time, makes a file there, moves the top, and takes it all away.
pub(super) fn deep(call: &mut Call<'_>) {
    say!(call, "deep");
    let done = descend(call);
    call.line.outcome(done);
}

fn descend(call: &mut Call<'_>) -> Result<(), Errno> {
    let name = [b'd'; 100];
    let mut dirs = vec![openat(CWD, ".", DIRECTORY, Mode::empty())?];
    for _ in 0..DEPTH {
        let Some(dir) = dirs.last() else { break };
        mkdirat(dir, &name[..], Mode::RWXU)?;
        let next = openat(dir, &name[..], DIRECTORY, Mode::empty())?;
        dirs.push(next);
    }
    let Some((deepest, above)) = dirs.split_last() else { return Ok(()) };
    let made =
        openat(deepest, "file", OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    call.line.outcome(made.and_then(|fd| rustix::io::write(fd, b"deep")));
    let moved = renameat_with(CWD, &name[..], CWD, "moved", RenameFlags::NOREPLACE);
    call.line.outcome(moved);
    let stat = statat(deepest, "file", AtFlags::SYMLINK_NOFOLLOW);
    call.line.attributes(stat);
    unlinkat(deepest, "file", AtFlags::empty())?;
    for dir in above.iter().skip(1).rev() {
        unlinkat(dir, &name[..], AtFlags::REMOVEDIR)?;
    }
    unlinkat(CWD, if moved.is_ok() { &b"moved"[..] } else { &name[..] }, AtFlags::REMOVEDIR)
}
