//! Attributes: seen and changed.

use rustix::fs::{
    Access, AtFlags, Mode, StatxFlags, Timestamps, accessat, chmodat, chownat, statx, utimensat,
};

use crate::line::{errno, quoted};
use crate::world::{Call, Place, say};

pub(super) fn stat(call: &mut Call<'_>) {
    let (place, follow) = (call.place(), call.random.one_in(2));
    say!(call, "stat {} follow {follow}", place.text());
    let stat = call.stat_of(&place, if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW });
    call.show_stat(stat);
}

pub(super) fn fstat(call: &mut Call<'_>) {
    let slot = call.slot();
    say!(call, "fstat {slot}");
    call.show_slot(slot);
}

/// Whether a file has a time of birth: then it is not in the future of its last change, and stays.
pub(super) fn birth(call: &mut Call<'_>) {
    let place = call.place();
    say!(call, "birth {}", place.text());
    // AT_STATX_DONT_SYNC is left out: with it a file system may say less.
    let sync = call.random.pick(&[AtFlags::empty(), AtFlags::STATX_FORCE_SYNC]);
    let flags = AtFlags::SYMLINK_NOFOLLOW | sync;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let seen = statx(place.dir(call.world), &place.path, flags, mask);
    if let Some(seen) = call.line.outcome(seen) {
        say!(call, " mask {:x}", seen.stx_mask & mask.bits());
        let (birth, change) = (seen.stx_btime, seen.stx_ctime);
        if (birth.tv_sec, birth.tv_nsec) > (change.tv_sec, change.tv_nsec) {
            say!(call, " born after its last change");
        }
    }
}

/// Whether two places are one file.
pub(super) fn same(call: &mut Call<'_>) {
    let (one, other, slot) = (call.place(), call.place(), call.slot());
    say!(call, "same {} {} {slot}", one.text(), other.text());
    let follow = AtFlags::empty();
    let stats = [
        call.stat_of(&one, follow),
        call.stat_of(&other, follow),
        call.with_slot(slot, |fd| rustix::fs::fstat(fd)),
    ];
    let same = |a: usize, b: usize| match (&stats[a], &stats[b]) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    };
    say!(call, " = {} {} {}", same(0, 1), same(0, 2), same(1, 2));
}

pub(super) fn chmod(call: &mut Call<'_>) {
    let (place, mode) = (call.place(), call.random.mode());
    say!(call, "chmod {} {:o}", place.text(), mode.as_raw_mode());
    let changed = chmodat(place.dir(call.world), &place.path, mode, AtFlags::empty());
    if call.line.outcome(changed).is_some() {
        call.show(&place);
    }
}

pub(super) fn fchmod(call: &mut Call<'_>) {
    let (slot, mode) = (call.slot(), call.random.mode());
    say!(call, "fchmod {slot} {:o}", mode.as_raw_mode());
    let changed = call.with_slot(slot, |fd| rustix::fs::fchmod(fd, mode));
    if call.line.outcome(changed).is_some() {
        call.show_slot(slot);
    }
}

pub(super) fn chown(call: &mut Call<'_>) {
    let (place, (owner, group)) = (call.place(), call.random.owner_and_group());
    let flags = if call.random.one_in(2) { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    say!(call, "chown {} {owner:?} {group:?} follow {}", place.text(), flags.is_empty());
    let changed = chownat(place.dir(call.world), &place.path, owner, group, flags);
    if call.line.outcome(changed).is_some() {
        call.show(&place);
    }
}

pub(super) fn fchown(call: &mut Call<'_>) {
    let (slot, (owner, group)) = (call.slot(), call.random.owner_and_group());
    say!(call, "fchown {slot} {owner:?} {group:?}");
    let changed = call.with_slot(slot, |fd| rustix::fs::fchown(fd, owner, group));
    if call.line.outcome(changed).is_some() {
        call.show_slot(slot);
    }
}

/// Sets times, and shows both at once: later the time of access may be any.
pub(super) fn utimens(call: &mut Call<'_>) {
    let (place, times) = (call.place(), times(call));
    let flags = if call.random.one_in(2) { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    say!(call, "utimens {} {} follow {}", place.text(), text(&times), flags.is_empty());
    let changed = utimensat(place.dir(call.world), &place.path, &times, flags);
    if call.line.outcome(changed).is_some() {
        show_times(call, &place, flags, &times);
    }
}

pub(super) fn futimens(call: &mut Call<'_>) {
    let (slot, times) = (call.slot(), times(call));
    say!(call, "futimens {slot} {}", text(&times));
    let changed = call.with_slot(slot, |fd| rustix::fs::futimens(fd, &times));
    if call.line.outcome(changed).is_some() {
        call.show_slot(slot);
    }
}

fn times(call: &mut Call<'_>) -> Timestamps {
    Timestamps { last_access: call.random.time(), last_modification: call.random.time() }
}

fn text(times: &Timestamps) -> String {
    let (access, modification) = (times.last_access, times.last_modification);
    format!("{}.{} {}.{}", access.tv_sec, access.tv_nsec, modification.tv_sec, modification.tv_nsec)
}

fn show_times(call: &mut Call<'_>, place: &Place, flags: AtFlags, times: &Timestamps) {
    match statx(place.dir(call.world), &place.path, flags, StatxFlags::BASIC_STATS) {
        Ok(seen) => {
            say!(call, " mtime ");
            call.line.statx_time(seen.stx_mtime);
            if times.last_access.tv_nsec != rustix::fs::UTIME_OMIT {
                say!(call, " atime ");
                call.line.statx_time(seen.stx_atime);
            }
        }
        Err(error) => say!(call, " {}", errno(error)),
    }
}

pub(super) fn access(call: &mut Call<'_>) {
    let (place, mode) = (call.place(), Access::from_bits_retain(call.random.pick(&[0, 1, 2, 3, 4, 5, 6, 7])));
    let flags = call.random.pick(&[AtFlags::empty(), AtFlags::EACCESS]);
    say!(call, "access {} {:o} effective {}", place.text(), mode.bits(), !flags.is_empty());
    let allowed = accessat(place.dir(call.world), &place.path, mode, flags);
    call.line.outcome(allowed);
}

pub(super) fn umask(call: &mut Call<'_>) {
    let mask = call.random.pick(&[0, 0, 0o022, 0o022, 0o022, 0o027, 0o077, 0o002, 0o002, 0o777]);
    say!(call, "umask {mask:o}");
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// What of a file system's figures does not change by itself.
pub(super) fn statfs(call: &mut Call<'_>) {
    let path = call.random.path();
    say!(call, "statfs {}", quoted(&path));
    let seen = rustix::fs::statfs(&path);
    if let Some(seen) = call.line.outcome(seen) {
        say!(call, " bsize {} frsize {} blocks {}", seen.f_bsize, seen.f_frsize, seen.f_blocks);
        say!(call, " files {} namelen {}", seen.f_files, seen.f_namelen);
    }
}
