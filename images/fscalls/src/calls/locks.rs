//! Locks between the descriptors of a process, and between the two processes.

use rustix::fs::FlockOperation;

use crate::sys;
use crate::world::{Call, say};

/// Locks of the process.
pub(super) fn record(call: &mut Call<'_>) {
    let command = call.random.pick(&[("set", libc::F_SETLK), ("set", libc::F_SETLK), ("get", libc::F_GETLK)]);
    lock(call, "fcntl", command);
}

/// Locks of the open file description.
pub(super) fn description(call: &mut Call<'_>) {
    let set = ("set", libc::F_OFD_SETLK);
    let command = call.random.pick(&[set, set, ("get", libc::F_OFD_GETLK)]);
    lock(call, "ofd", command);
}

fn lock(call: &mut Call<'_>, family: &str, (name, command): (&str, i32)) {
    const KINDS: [(&str, i32); 4] = [
        ("read", libc::F_RDLCK),
        ("write", libc::F_WRLCK),
        ("write", libc::F_WRLCK),
        ("none", libc::F_UNLCK),
    ];
    const ORIGINS: [(&str, i32); 4] = [
        ("start", libc::SEEK_SET),
        ("start", libc::SEEK_SET),
        ("here", libc::SEEK_CUR),
        ("end", libc::SEEK_END),
    ];
    let (slot, kind, origin) = (call.slot(), call.random.pick(&KINDS), call.random.pick(&ORIGINS));
    let (start, length) = (call.random.pick(&[0, 0, 10, 100, -1]), call.random.pick(&[0, 0, 10, 100, -5]));
    say!(call, "{family} {name} {slot} {} {start}+{length} from {}", kind.0, origin.0);
    let mut lock = libc::flock {
        l_type: i16::try_from(kind.1).unwrap_or(0),
        l_whence: i16::try_from(origin.1).unwrap_or(0),
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    let done = call.with_slot(slot, |fd| sys::record_lock(fd, command, &mut lock));
    if call.line.outcome(done).is_some() && name == "get" {
        let (kind, whence) = (lock.l_type, lock.l_whence);
        say!(call, " kind {kind} {}+{} from {whence}", lock.l_start, lock.l_len);
        // Which process it is may differ, that it is one may not.
        say!(call, " owner {}", lock.l_pid.signum());
    }
}

pub(super) fn flock(call: &mut Call<'_>) {
    const OPERATIONS: [(&str, FlockOperation); 3] = [
        ("shared", FlockOperation::NonBlockingLockShared),
        ("exclusive", FlockOperation::NonBlockingLockExclusive),
        ("none", FlockOperation::NonBlockingUnlock),
    ];
    let (slot, (name, operation)) = (call.slot(), call.random.pick(&OPERATIONS));
    say!(call, "flock {slot} {name}");
    let done = call.with_slot(slot, |fd| rustix::fs::flock(fd, operation));
    call.line.outcome(done);
}
