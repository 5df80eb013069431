//! The guest's clocks: microseconds since its kernel began to count, the unit of every time in messages, and the
//! time of day, which the host keeps right.

use std::sync::atomic::{AtomicI64, Ordering};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// A time of day that is behind the host's by less is left as it is.
const BEHIND_NS: u64 = 10_000_000;
/// One that is ahead by less as well: more likely the message is late, by the time that it took.
const AHEAD_NS: u64 = 50_000_000;
const NS: u64 = 1_000_000_000;

/// Microseconds that the time namespace of this process adds.
static OFFSET: AtomicI64 = AtomicI64::new(0);

/// Microseconds of `CLOCK_MONOTONIC` in the guest.
#[must_use]
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    u64::try_from(microseconds.saturating_sub(OFFSET.load(Ordering::Relaxed))).unwrap_or(0)
}

/// Says by how many microseconds this process's clock is ahead of the guest's.
pub(crate) fn set_offset(microseconds: i64) {
    OFFSET.store(microseconds, Ordering::Relaxed);
}

/// Steps the time of day to the host's, when it is off by more than the message can have taken.
pub(crate) fn set(unix_ns: u64) {
    let Some(time) = step(clock_gettime(ClockId::Realtime), unix_ns) else { return };
    if let Err(error) = clock_settime(ClockId::Realtime, time) {
        crate::log::note(format_args!("time of day: {error}"));
    }
}

fn step(now: Timespec, unix_ns: u64) -> Option<Timespec> {
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let now_ns = seconds.saturating_mul(NS).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0));
    if now_ns <= unix_ns.saturating_add(AHEAD_NS) && now_ns >= unix_ns.saturating_sub(BEHIND_NS) {
        return None;
    }
    Some(Timespec { tv_sec: i64::try_from(unix_ns / NS).ok()?, tv_nsec: i64::try_from(unix_ns % NS).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_left() {
        let now = Timespec { tv_sec: 1_700_000_000, tv_nsec: 5 };
        let ns = 1_700_000_000 * NS + 5;
        assert_eq!(step(now, ns), None);
        assert_eq!(step(now, ns + BEHIND_NS), None);
        assert_eq!(step(now, ns - AHEAD_NS), None);
        let forward = Timespec { tv_sec: 1_700_000_000, tv_nsec: 10_000_006 };
        assert_eq!(step(now, ns + BEHIND_NS + 1), Some(forward));
        assert!(step(now, ns - AHEAD_NS - 1).is_some());
        let back = Timespec { tv_sec: 1_699_999_998, tv_nsec: 5 };
        assert_eq!(step(now, ns - 2 * NS), Some(back));
        // A guest that has no clock starts in 1970.
        assert!(step(Timespec { tv_sec: 3, tv_nsec: 0 }, ns).is_some());
    }
}
