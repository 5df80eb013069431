//! Names: made, linked, moved, removed.

use rustix::fs::{AtFlags, FileType, RenameFlags, linkat, makedev, mkdirat, mknodat, openat, readlinkat};
use rustix::fs::{Mode, OFlags, renameat_with, symlinkat, unlinkat};

use crate::line::quoted;
use crate::world::{Call, TREE, say};

pub(super) fn mkdir(call: &mut Call<'_>) {
    let (place, mode) = (call.place(), call.random.mode());
    say!(call, "mkdir {} {:o}", place.text(), mode.as_raw_mode());
    let made = mkdirat(place.dir(call.world), &place.path, mode);
    if call.line.outcome(made).is_some() {
        call.show(&place);
    }
}

pub(super) fn mknod(call: &mut Call<'_>) {
    const KINDS: [(&str, FileType); 5] = [
        ("file", FileType::RegularFile),
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
        ("whiteout", FileType::CharacterDevice),
        ("directory", FileType::Directory),
    ];
    let (place, mode, (name, kind)) = (call.place(), call.random.mode(), call.random.pick(&KINDS));
    say!(call, "mknod {} {name} {:o}", place.text(), mode.as_raw_mode());
    let made = mknodat(place.dir(call.world), &place.path, kind, mode, makedev(0, 0));
    if call.line.outcome(made).is_some() {
        call.show(&place);
    }
}

pub(super) fn link(call: &mut Call<'_>) {
    let (from, to) = (call.place(), call.place());
    let flags = if call.random.one_in(3) { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
    say!(call, "link {} {} follow {}", from.text(), to.text(), !flags.is_empty());
    let linked = linkat(from.dir(call.world), &from.path, to.dir(call.world), &to.path, flags);
    if call.line.outcome(linked).is_some() {
        call.show(&from);
        call.show(&to);
    }
}

pub(super) fn symlink(call: &mut Call<'_>) {
    let (target, place) = (call.random.target(), call.place());
    say!(call, "symlink {} at {}", quoted(&target), place.text());
    let made = symlinkat(&target, place.dir(call.world), &place.path);
    if call.line.outcome(made).is_some() {
        call.show(&place);
    }
}

pub(super) fn readlink(call: &mut Call<'_>) {
    let place = call.place();
    say!(call, "readlink {}", place.text());
    let target = readlinkat(place.dir(call.world), &place.path, Vec::new());
    if let Some(target) = call.line.outcome(target) {
        say!(call, " {}", quoted(target.as_bytes()));
    }
}

pub(super) fn rename(call: &mut Call<'_>) {
    const FLAGS: [(u64, (&str, RenameFlags)); 4] = [
        (6, ("", RenameFlags::empty())),
        (2, (" NOREPLACE", RenameFlags::NOREPLACE)),
        (3, (" EXCHANGE", RenameFlags::EXCHANGE)),
        (1, (" NOREPLACE|EXCHANGE", RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE))),
    ];
    let (from, to) = (call.place(), call.place());
    let (name, flags) = *call.random.weighed(&FLAGS);
    say!(call, "rename {} {}{name}", from.text(), to.text());
    let renamed = renameat_with(from.dir(call.world), &from.path, to.dir(call.world), &to.path, flags);
    if call.line.outcome(renamed).is_some() {
        call.show(&from);
        call.show(&to);
    }
}

pub(super) fn unlink(call: &mut Call<'_>) {
    let place = call.place();
    say!(call, "unlink {}", place.text());
    let removed = unlinkat(place.dir(call.world), &place.path, AtFlags::empty());
    if call.line.outcome(removed).is_some() {
        call.show(&place);
    }
}

pub(super) fn rmdir(call: &mut Call<'_>) {
    let place = call.place();
    say!(call, "rmdir {}", place.text());
    let removed = unlinkat(place.dir(call.world), &place.path, AtFlags::REMOVEDIR);
    if call.line.outcome(removed).is_some() {
        call.show(&place);
    }
}

/// Goes somewhere, says where that is, makes a file there, and comes back.
pub(super) fn chdir(call: &mut Call<'_>) {
    let (place, mode) = (call.place(), call.random.mode());
    say!(call, "chdir {}", place.text());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(place.dir(call.world), &place.path, flags, Mode::empty());
    let entered = opened.and_then(rustix::process::fchdir);
    if call.line.outcome(entered).is_none() {
        return;
    }
    let here = rustix::process::getcwd(Vec::new());
    match here {
        Ok(here) => say!(call, " {}", quoted(here.as_bytes())),
        Err(error) => say!(call, " {}", crate::line::errno(error)),
    }
    let made = openat(
        rustix::fs::CWD,
        "x",
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK,
        mode,
    );
    call.line.outcome(made.map(drop));
    if let Err(error) = rustix::process::chdir(TREE) {
        say!(call, " no way back: {}", crate::line::errno(error));
    }
}
