//! One timer as something to read: timerfd(2).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer that is off until it is set.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Expires once, after this time.
    pub(crate) fn set_once(&self, after: Duration) -> io::Result<()> {
        self.set(after, Duration::ZERO)
    }

    /// Expires again and again.
    pub(crate) fn set_every(&self, interval: Duration) -> io::Result<()> {
        self.set(interval, interval)
    }

    /// Does not expire any more.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.set(Duration::ZERO, Duration::ZERO)
    }

    /// Whether it has expired since it was set and since this was asked. Never waits.
    pub(crate) fn take(&self) -> io::Result<bool> {
        match rustix::io::read(&self.0, &mut [0; size_of::<u64>()]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn set(&self, first: Duration, interval: Duration) -> io::Result<()> {
        let time = |duration: Duration| Timespec::try_from(duration).map_err(io::Error::other);
        let times = Itimerspec { it_value: time(first)?, it_interval: time(interval)? };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_timer_that_is_stopped_after_it_expired_does_not_wait() {
        let timer = Timer::new().unwrap();
        assert!(!timer.take().unwrap());
        let short = Duration::from_millis(1);
        timer.set_once(short).unwrap();
        sleep(short * 20);
        timer.stop().unwrap();
        assert!(!timer.take().unwrap());
        timer.set_every(short).unwrap();
        for _ in 0..2 {
            sleep(short * 20);
            assert!(timer.take().unwrap());
        }
    }
}
