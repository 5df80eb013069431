//! Where a file has data: SEEK_DATA and SEEK_HOLE, on a file whose layout only the operation itself has made. What
//! fallocate(2) has allocated is left out: whether it counts as data depends on what the page cache has of it.

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ftruncate, seek};
use rustix::io::{Errno, pwrite};

use super::open::nameless;
use crate::line::errno;
use crate::world::{Call, say};

/// How far the file reaches, in bytes.
const END: u64 = 1 << 20;

pub(super) fn layout(call: &mut Call<'_>) {
    say!(call, "layout");
    let made = nameless();
    let Some(fd) = call.line.outcome(made) else { return };
    for _ in 0..call.random.below(6) {
        let (offset, length) = (call.random.below(END), call.random.below(20_000));
        let changed = match call.random.below(4) {
            0 => {
                say!(call, ", hole {offset}+{length}");
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&fd, flags, offset, length)
            }
            1 => {
                say!(call, ", size {offset}");
                ftruncate(&fd, offset)
            }
            _ => {
                say!(call, ", data {offset}+{length}");
                let bytes = call.random.bytes(usize::try_from(length).unwrap_or(0));
                pwrite(&fd, &bytes, offset).map(drop)
            }
        };
        if let Err(error) = changed {
            say!(call, " {}", errno(error));
        }
    }
    for _ in 0..3 {
        let offset = if call.random.one_in(3) { 0 } else { call.random.below(END) };
        let data = seek(&fd, SeekFrom::Data(offset));
        let hole = seek(&fd, SeekFrom::Hole(offset));
        say!(call, ", from {offset} data {} hole {}", position(data), position(hole));
    }
}

fn position(result: Result<u64, Errno>) -> String {
    result.map_or_else(errno, |position| position.to_string())
}
