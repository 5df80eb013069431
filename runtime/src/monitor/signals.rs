//! Signals to drupe, as something to read: they are the workload's.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use vmm_sys_util::signal::{self, Error};

use crate::sys;

/// The signals that are passed on.
const PASSED_ON: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Signals that must not stop the machine: reading the terminal in the background fails instead, which is the
/// end of the container's standard input.
const HELD_OFF: [i32; 1] = [libc::SIGTTIN];

/// What the reserved numbers of the C library are, which no program may use.
const RESERVED: std::ops::RangeInclusive<i32> = 32..=34;

/// Size of `struct signalfd_siginfo`; its first field is the signal's number.
const RECORD: usize = size_of::<libc::signalfd_siginfo>();

/// Signals that wait to be read.
#[derive(Debug)]
pub(crate) struct Signals(File);

impl Signals {
    /// Blocks the signals and opens a descriptor to read them from. Threads that are made later do not get
    /// them either.
    pub(crate) fn block() -> io::Result<Self> {
        HELD_OFF.into_iter().try_for_each(block)?;
        Self::read(&PASSED_ON)
    }

    /// The same with every signal that can be caught, for a process that only stands for another one.
    pub(crate) fn block_all() -> io::Result<Self> {
        let can_be_caught = |number: &i32| {
            !matches!(*number, libc::SIGKILL | libc::SIGSTOP | libc::SIGCHLD) && !RESERVED.contains(number)
        };
        Self::read(&(1..=64).filter(can_be_caught).collect::<Vec<_>>())
    }

    fn read(signals: &[i32]) -> io::Result<Self> {
        signals.iter().copied().try_for_each(block)?;
        let set =
            signal::create_sigset(signals).map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        sys::signalfd(&set).map(Self)
    }

    /// A descriptor that gives records of signalfd(2) without being one.
    #[cfg(test)]
    pub(crate) fn from_file(file: File) -> Self {
        Self(file)
    }

    /// The next signal; `None` when none waits.
    pub(crate) fn next(&mut self) -> Option<i32> {
        let mut record = [0; RECORD];
        self.0.read_exact(&mut record).ok()?;
        let number = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
        i32::try_from(number).ok()
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn block(number: i32) -> io::Result<()> {
    match signal::block_signal(number) {
        Ok(()) | Err(Error::SignalAlreadyBlocked(_)) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
