//! Contents: read, written, mapped, cut, allocated, copied.

use std::io::IoSlice;

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, SeekFrom, copy_file_range, fdatasync, fstat, openat, seek,
};

use crate::line::quoted;
use crate::sys;
use crate::world::{Call, say};

/// Bytes of a page of memory, on every architecture's smallest setting.
const PAGE: u64 = 4096;

pub(super) fn read(call: &mut Call<'_>) {
    let (slot, mut buffer) = (call.slot(), vec![0; call.random.length()]);
    say!(call, "read {slot} {}", buffer.len());
    let result = call.with_slot(slot, |fd| rustix::io::read(fd, &mut buffer[..]));
    call.line.bytes(result.map(|count| &buffer[..count]));
}

pub(super) fn write(call: &mut Call<'_>) {
    let (slot, length) = (call.slot(), call.random.length());
    let bytes = call.random.bytes(length);
    say!(call, "write {slot} {length}");
    let result = call.with_slot(slot, |fd| rustix::io::write(fd, &bytes));
    call.line.count(result);
    if result.is_ok() {
        call.show_slot(slot);
    }
}

pub(super) fn pread(call: &mut Call<'_>) {
    let (slot, offset) = (call.slot(), call.random.offset());
    let mut buffer = vec![0; call.random.length()];
    say!(call, "pread {slot} {} at {offset}", buffer.len());
    let result = call.with_slot(slot, |fd| rustix::io::pread(fd, &mut buffer[..], offset));
    call.line.bytes(result.map(|count| &buffer[..count]));
}

pub(super) fn pwrite(call: &mut Call<'_>) {
    let (slot, offset, length) = (call.slot(), call.random.offset(), call.random.length());
    let bytes = call.random.bytes(length);
    say!(call, "pwrite {slot} {length} at {offset}");
    let result = call.with_slot(slot, |fd| rustix::io::pwrite(fd, &bytes, offset));
    call.line.count(result);
    if result.is_ok() {
        call.show_slot(slot);
    }
}

pub(super) fn pwritev(call: &mut Call<'_>) {
    let (slot, offset) = (call.slot(), call.random.offset());
    let lengths = [call.random.length(), call.random.length(), call.random.length()];
    let parts = lengths.map(|length| call.random.bytes(length));
    say!(call, "pwritev {slot} {lengths:?} at {offset}");
    let slices = parts.each_ref().map(|part| IoSlice::new(part));
    let result = call.with_slot(slot, |fd| rustix::io::pwritev(fd, &slices, offset));
    call.line.count(result);
    if result.is_ok() {
        call.show_slot(slot);
    }
}

pub(super) fn lseek(call: &mut Call<'_>) {
    let (slot, offset) = (call.slot(), call.random.offset());
    let signed = i64::try_from(offset).unwrap_or(0);
    let (name, from) = match call.random.below(4) {
        0 => ("current -", SeekFrom::Current(-signed)),
        1 => ("end +", SeekFrom::End(signed)),
        2 => ("end -", SeekFrom::End(-signed)),
        _ => ("start +", SeekFrom::Start(offset)),
    };
    say!(call, "lseek {slot} {name}{offset}");
    // Positions in a directory are the file system's own affair.
    let result = call.with_slot(slot, |fd| {
        let stat = fstat(fd)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return seek(fd, SeekFrom::Start(0));
        }
        seek(fd, from)
    });
    call.line.count(result);
}

/// Writes through a shared mapping, within the file, then reads that part by the descriptor.
pub(super) fn mapped(call: &mut Call<'_>) {
    let (slot, page, sync) = (call.slot(), call.random.below(4), call.random.one_in(2));
    let length = call.random.length().max(1);
    let bytes = call.random.bytes(length);
    say!(call, "mmap {slot} {length} at page {page} sync {sync}");
    let offset = page * PAGE;
    let mut buffer = vec![0; length];
    let result = call.with_slot(slot, |fd| {
        let size = u64::try_from(fstat(fd)?.st_size).unwrap_or(0);
        let inside = usize::try_from(size.saturating_sub(offset)).unwrap_or(0).min(length);
        if inside > 0 {
            sys::write_mapped(fd, offset, &bytes[..inside], sync)?;
        }
        rustix::io::pread(fd, &mut buffer[..], offset)
    });
    call.line.bytes(result.map(|count| &buffer[..count]));
}

pub(super) fn ftruncate(call: &mut Call<'_>) {
    let (slot, size) = (call.slot(), call.random.offset());
    say!(call, "ftruncate {slot} {size}");
    let result = call.with_slot(slot, |fd| rustix::fs::ftruncate(fd, size));
    if call.line.outcome(result).is_some() {
        call.show_slot(slot);
    }
}

/// truncate(2), or an open that truncates.
pub(super) fn truncate(call: &mut Call<'_>) {
    let place = call.place();
    say!(call, "truncate {}", place.text());
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(place.dir(call.world), &place.path, flags, Mode::empty());
    if call.line.outcome(opened.map(drop)).is_some() {
        call.show(&place);
    }
    let (path, size) = (call.random.path(), call.random.offset());
    say!(call, ", {} {size}", quoted(&path));
    let result = sys::truncate(&path, size);
    if call.line.outcome(result).is_some() {
        let stat = rustix::fs::statat(CWD, &path, rustix::fs::AtFlags::empty());
        call.show_stat(stat);
    }
}

pub(super) fn fallocate(call: &mut Call<'_>) {
    const KEEP: FallocateFlags = FallocateFlags::KEEP_SIZE;
    const MODES: [(&str, FallocateFlags); 6] = [
        ("allocate", FallocateFlags::empty()),
        ("keep-size", KEEP),
        ("punch-hole", FallocateFlags::PUNCH_HOLE.union(KEEP)),
        ("punch-hole-alone", FallocateFlags::PUNCH_HOLE),
        ("zero-range", FallocateFlags::ZERO_RANGE),
        ("zero-range-keep", FallocateFlags::ZERO_RANGE.union(KEEP)),
    ];
    let (slot, (name, mode)) = (call.slot(), call.random.pick(&MODES));
    let (offset, length) = (call.random.offset(), call.random.length() as u64);
    say!(call, "fallocate {slot} {name} {length} at {offset}");
    let result = call.with_slot(slot, |fd| rustix::fs::fallocate(fd, mode, offset, length));
    if call.line.outcome(result).is_some() {
        call.show_slot(slot);
    }
}

pub(super) fn copy(call: &mut Call<'_>) {
    let (from, to) = (call.slot(), call.slot());
    let (mut offset_in, mut offset_out) = (call.random.offset(), call.random.offset());
    let length = call.random.length();
    let by_position = call.random.one_in(3);
    say!(call, "copy {length} from {from}");
    let result = if by_position {
        say!(call, " to {to}");
        call.with_slot(from, |from| call.with_slot(to, |to| copy_file_range(from, None, to, None, length)))
    } else {
        say!(call, " at {offset_in} to {to} at {offset_out}");
        call.with_slot(from, |from| {
            call.with_slot(to, |to| {
                copy_file_range(from, Some(&mut offset_in), to, Some(&mut offset_out), length)
            })
        })
    };
    call.line.count(result);
    if result.is_ok() {
        call.show_slot(to);
    }
}

pub(super) fn fsync(call: &mut Call<'_>) {
    let (slot, data_only) = (call.slot(), call.random.one_in(2));
    say!(call, "fsync {slot} data only {data_only}");
    let result = call.with_slot(slot, |fd| if data_only { fdatasync(fd) } else { rustix::fs::fsync(fd) });
    call.line.outcome(result);
}
