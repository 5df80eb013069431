//! `linux.timeOffsets`: the namespace in which a container's clocks differ.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use drupe_protocol::{TimeOffset, TimeOffsets};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::failure::{Named, Result};
use crate::{clock, sys};

const FIELD: &str = "linux.timeOffsets";

/// Lets `make` make children, which are born in a new namespace with these offsets; this process stays in its own.
///
/// `make` does not return in a child.
pub(crate) fn with_offsets<T>(offsets: Option<&TimeOffsets>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(offsets) = offsets else { return make() };
    let own = pidfd_open(getpid(), PidfdFlags::empty()).named(FIELD, "namespace")?;
    sys::unshare_time().named(FIELD, "namespace")?;
    let made = set(offsets).and_then(|()| make());
    move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::TIME).named(FIELD, "namespace: leave")?;
    made
}

/// What this process, who was born in such a namespace, takes off its clock to have the guest's.
pub(crate) fn correct_clock(offsets: Option<&TimeOffsets>) {
    if let Some(monotonic) = offsets.and_then(|offsets| offsets.monotonic) {
        let nanoseconds = i64::from(monotonic.nanoseconds / 1_000);
        clock::set_offset(monotonic.seconds.saturating_mul(1_000_000).saturating_add(nanoseconds));
    }
}

/// Only before a process is in the namespace, and clock by clock: the kernel's error does not name it.
fn set(offsets: &TimeOffsets) -> Result<()> {
    for (clock, offset) in [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)] {
        let Some(TimeOffset { seconds, nanoseconds }) = offset else { continue };
        write(&format!("{clock} {seconds} {nanoseconds}\n"))
            .named(format!("{FIELD}.{clock}"), format_args!("{seconds} s, {nanoseconds} ns"))?;
    }
    Ok(())
}

fn write(line: &str) -> io::Result<()> {
    fs::write("/proc/self/timens_offsets", line)
}
