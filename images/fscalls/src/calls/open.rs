//! Descriptors: made, shared, given up, given a name.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fcntl_getfl, fcntl_setfl, linkat, openat};
use rustix::io::Errno;

use crate::world::{Call, TREE, say};

/// Flags that one of many opens has.
const SOMETIMES: [(u64, OFlags, &str); 9] = [
    (2, OFlags::CREATE, "CREAT"),
    (12, OFlags::EXCL, "EXCL"),
    (7, OFlags::TRUNC, "TRUNC"),
    (5, OFlags::APPEND, "APPEND"),
    (14, OFlags::DIRECTORY, "DIRECTORY"),
    (9, OFlags::NOFOLLOW, "NOFOLLOW"),
    (14, OFlags::NOATIME, "NOATIME"),
    (18, OFlags::PATH, "PATH"),
    (25, OFlags::SYNC, "SYNC"),
];

const ACCESS: [(u64, (OFlags, &str)); 3] =
    [(3, (OFlags::RDONLY, "RDONLY")), (2, (OFlags::WRONLY, "WRONLY")), (5, (OFlags::RDWR, "RDWR"))];

/// No open waits for the other end of a fifo.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::CLOEXEC);

pub(super) fn open(call: &mut Call<'_>) {
    let (place, slot, mode) = (call.place(), call.slot(), call.random.mode());
    let (mut flags, access) = *call.random.weighed(&ACCESS);
    say!(call, "open {} {access}", place.text());
    for (times, flag, name) in SOMETIMES {
        if call.random.one_in(times) {
            flags |= flag;
            say!(call, "|{name}");
        }
    }
    say!(call, " {:o} to {slot}", mode.as_raw_mode());
    let opened = openat(place.dir(call.world), &place.path, flags | ALWAYS, mode);
    if let Some(fd) = call.line.outcome(opened) {
        call.world.set_slot(slot, Some(fd));
        call.show_slot(slot);
    }
}

pub(super) fn tmpfile(call: &mut Call<'_>) {
    let (place, slot, mode) = (call.place(), call.slot(), call.random.mode());
    let flags = call.random.pick(&[OFlags::RDWR, OFlags::RDWR, OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY]);
    let exclusive = if call.random.one_in(5) { OFlags::EXCL } else { OFlags::empty() };
    say!(call, "tmpfile {} {:o} {} ", place.text(), mode.as_raw_mode(), flags.bits());
    say!(call, "exclusive {} to {slot}", !exclusive.is_empty());
    let flags = flags | exclusive | OFlags::TMPFILE | OFlags::CLOEXEC;
    let opened = openat(place.dir(call.world), &place.path, flags, mode);
    if let Some(fd) = call.line.outcome(opened) {
        call.world.set_slot(slot, Some(fd));
        call.show_slot(slot);
    }
}

pub(super) fn close(call: &mut Call<'_>) {
    let slot = call.slot();
    say!(call, "close {slot}");
    call.world.set_slot(slot, None);
}

pub(super) fn dup(call: &mut Call<'_>) {
    let (from, to) = (call.slot(), call.slot());
    say!(call, "dup {from} to {to}");
    let duplicate = call.with_slot(from, |fd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3));
    if let Some(fd) = call.line.outcome(duplicate) {
        call.world.set_slot(to, Some(fd));
    }
}

/// Turns O_APPEND on or off, and says which flags an open file has.
pub(super) fn setfl(call: &mut Call<'_>) {
    let slot = call.slot();
    let append = if call.random.one_in(2) { OFlags::APPEND } else { OFlags::empty() };
    say!(call, "setfl {slot} append {}", !append.is_empty());
    let changed = call.with_slot(slot, |fd| {
        let flags = fcntl_getfl(fd)?;
        fcntl_setfl(fd, flags.difference(OFlags::APPEND) | append)?;
        fcntl_getfl(fd)
    });
    if let Some(flags) = call.line.outcome(changed) {
        say!(call, " {:x}", flags.bits());
    }
}

/// Gives the file of a descriptor a name: in the way of O_TMPFILE's manual, or by an empty path.
pub(super) fn link_descriptor(call: &mut Call<'_>) {
    let (slot, to, by_proc) = (call.slot(), call.place(), call.random.one_in(2));
    say!(call, "linkfd {slot} {} by {}", to.text(), if by_proc { "proc" } else { "descriptor" });
    let dir = to.dir(call.world);
    let linked = match call.world.slot(slot) {
        None => Err(Errno::BADF),
        Some(fd) if by_proc => {
            let name = fd.as_raw_fd().to_string();
            linkat(call.world.descriptors(), name, dir, &to.path, AtFlags::SYMLINK_FOLLOW)
        }
        Some(fd) => linkat(fd, "", dir, &to.path, AtFlags::EMPTY_PATH),
    };
    if call.line.outcome(linked).is_some() {
        call.show(&to);
        call.show_slot(slot);
    }
}

/// A new file for an operation alone, that has no name any more.
pub(super) fn nameless() -> Result<OwnedFd, Errno> {
    let name = format!("{TREE}/nameless");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::unlink(name)?;
    Ok(fd)
}
