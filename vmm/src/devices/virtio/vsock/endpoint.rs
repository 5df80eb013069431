//! One direction of the host's side of a connection: a file descriptor that is read or written without ever
//! blocking the thread.
//!
//! The descriptors are the user's: pipes, terminals, sockets, files, and other processes may share their open
//! file descriptions. So `O_NONBLOCK` is never set on one that was given to us, and there are several ways of
//! not blocking ([`Access`]). Readiness is edge-triggered: an [`Endpoint`] counts as ready from the moment that
//! the kernel says so until an attempt finds that it is not, so a descriptor that is left alone costs nothing.

use std::io::{ErrorKind, IoSlice, IoSliceMut, IsTerminal};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// The size up to which a write to a pipe that has polled writable cannot block (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// How many times something polled is written to in a row.
const POLLED_WRITES: usize = 64;

/// "Use the file's own offset", for `preadv2` and `pwritev2`. Pipes accept no other.
const CURRENT_OFFSET: u64 = u64::MAX;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The endpoint is read.
    Input,
    /// The endpoint is written.
    Output,
}

/// How the descriptor is used without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// A socket: each call says `MSG_DONTWAIT`.
    Socket,
    /// A pipe or terminal that could be opened anew: the description is ours, and has `O_NONBLOCK`.
    Private,
    /// Each call says `RWF_NOWAIT`; a kernel or file that does not know it turns this into `Polled`.
    NoWait,
    /// Asked before each call whether it would block; then at most that many bytes are written.
    Polled { write_limit: usize },
    /// A regular file or the like, which cannot be waited for: it is always ready.
    File,
}

/// What came out of an attempt to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    /// This many bytes, at least one.
    Done(usize),
    /// Nothing now; readiness will be announced.
    NotNow,
    /// The input has ended, or the output takes no more.
    Ended,
}

/// A file descriptor that is read or written.
#[derive(Debug)]
pub(super) struct Endpoint {
    fd: OwnedFd,
    access: Access,
    is_ready: bool,
    epoll: Arc<Epoll>,
}

impl Endpoint {
    /// Takes `fd` and has `epoll` announce its readiness with `token`.
    ///
    /// # Errors
    /// When the descriptor cannot be watched, for other reasons than that it is always ready.
    pub(super) fn new(
        fd: OwnedFd,
        direction: Direction,
        epoll: Arc<Epoll>,
        token: u64,
    ) -> std::io::Result<Self> {
        let (fd, mut access) = choose_access(fd, direction);
        let events = match direction {
            Direction::Input => EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED,
            Direction::Output => EventSet::OUT | EventSet::EDGE_TRIGGERED,
        };
        match epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(events, token)) {
            Ok(()) => {}
            // What cannot be waited for need not be.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => access = Access::File,
            Err(error) => return Err(error),
        }
        Ok(Self { fd, access, is_ready: true, epoll })
    }

    /// The kernel has announced readiness.
    pub(super) fn set_ready(&mut self) {
        self.is_ready = true;
    }

    /// Whether an attempt is worth while.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Reads what is there, up to the size of `buffer`, which must not be empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Transfer {
        self.attempt(PollFlags::IN, |fd, access| match access {
            Access::Socket => rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, n)| n),
            Access::NoWait => {
                let mut buffers = [IoSliceMut::new(buffer)];
                rustix::io::preadv2(fd, &mut buffers, CURRENT_OFFSET, ReadWriteFlags::NOWAIT)
            }
            Access::Private | Access::Polled { .. } | Access::File => rustix::io::read(fd, &mut *buffer),
        })
    }

    /// Writes as much of `data`, which must not be empty, as is taken now.
    pub(super) fn write(&mut self, data: &[u8]) -> Transfer {
        let mut written = 0;
        for _ in 0..POLLED_WRITES {
            let rest = data.get(written..).unwrap_or_default();
            match self.write_once(rest) {
                Transfer::Done(count) => written += count,
                // An end that comes after some bytes will come again.
                other if written == 0 => return other,
                Transfer::NotNow | Transfer::Ended => break,
            }
            // What takes little at a time only because we dare not give it more is given more at once.
            if !matches!(self.access, Access::Polled { .. }) || written >= data.len() {
                break;
            }
        }
        Transfer::Done(written)
    }

    fn write_once(&mut self, data: &[u8]) -> Transfer {
        self.attempt(PollFlags::OUT, |fd, access| match access {
            Access::Socket => rustix::net::send(fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Access::NoWait => {
                let buffers = [IoSlice::new(data)];
                rustix::io::pwritev2(fd, &buffers, CURRENT_OFFSET, ReadWriteFlags::NOWAIT)
            }
            Access::Polled { write_limit } => rustix::io::write(fd, data.get(..write_limit).unwrap_or(data)),
            Access::Private | Access::File => rustix::io::write(fd, data),
        })
    }

    /// Ends one direction of a socket whose other direction stays open: only so does the peer learn of it.
    pub(super) fn shut_down(&self, direction: Direction) {
        let how = match direction {
            Direction::Input => Shutdown::Read,
            Direction::Output => Shutdown::Write,
        };
        // A peer that is gone has nothing to learn.
        let _ = rustix::net::shutdown(&self.fd, how);
    }

    fn attempt(
        &mut self,
        wanted: PollFlags,
        mut call: impl FnMut(&OwnedFd, Access) -> Result<usize, Errno>,
    ) -> Transfer {
        loop {
            let polled = match self.access {
                Access::Polled { .. } => is_polled_ready(&self.fd, wanted),
                _ => Ok(true),
            };
            let result = match polled {
                Ok(true) => call(&self.fd, self.access),
                Ok(false) => Err(Errno::AGAIN),
                Err(error) => Err(error),
            };
            match result {
                Ok(0) => return Transfer::Ended,
                Ok(count) => return Transfer::Done(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.is_ready = false;
                    return Transfer::NotNow;
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.access == Access::NoWait => {
                    self.access = Access::Polled { write_limit: polled_write_limit(&self.fd) };
                }
                Err(error) => {
                    log::debug!("a host descriptor of a vsock connection ended: {error}");
                    return Transfer::Ended;
                }
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Others may hold the same open file description, and then closing our descriptor would leave it
        // watched. One that is not watched, or is gone already, is what is wanted.
        let _ = self.epoll.ctl(ControlOperation::Delete, self.fd.as_raw_fd(), EpollEvent::default());
    }
}

/// Whether both descriptors are the same socket, so that closing one of them tells its peer nothing.
pub(super) fn are_same_socket(input: &OwnedFd, output: &OwnedFd) -> bool {
    let (Ok(input), Ok(output)) = (rustix::fs::fstat(input), rustix::fs::fstat(output)) else {
        return false;
    };
    let is_socket = FileType::from_raw_mode(input.st_mode) == FileType::Socket;
    is_socket && (input.st_dev, input.st_ino) == (output.st_dev, output.st_ino)
}

/// Finds out how `fd` can be used without blocking, and replaces it where it can be opened anew.
fn choose_access(fd: OwnedFd, direction: Direction) -> (OwnedFd, Access) {
    let Ok(stat) = rustix::fs::fstat(&fd) else {
        return (fd, Access::NoWait);
    };
    let file_type = FileType::from_raw_mode(stat.st_mode);
    // Opening the terminal multiplexer again would make another terminal.
    let is_terminal = fd.is_terminal() && stat.st_rdev != rustix::fs::makedev(5, 2);
    if file_type == FileType::Socket {
        return (fd, Access::Socket);
    }
    if file_type != FileType::Fifo && !is_terminal {
        return (fd, Access::NoWait);
    }
    match open_anew(&fd, direction) {
        Ok(private) => (private, Access::Private),
        Err(_) => (fd, Access::NoWait),
    }
}

/// Makes an open file description of our own for the pipe or terminal behind `fd`. It fails without `/proc`,
/// on a terminal of another user, and on a FIFO that nobody reads.
fn open_anew(fd: &OwnedFd, direction: Direction) -> Result<OwnedFd, Errno> {
    let mode = match direction {
        Direction::Input => OFlags::RDONLY,
        Direction::Output => OFlags::WRONLY,
    };
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, mode | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

/// How much may be written at once to something that only says whether it takes anything at all.
fn polled_write_limit(fd: &OwnedFd) -> usize {
    // A pipe promises PIPE_BUF; a terminal that is writable has room for a character.
    let is_fifo =
        rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if is_fifo { PIPE_BUF } else { 1 }
}

/// Whether a call would find something to do: an end and an error count.
fn is_polled_ready(fd: &OwnedFd, wanted: PollFlags) -> Result<bool, Errno> {
    let mut set = [PollFd::new(fd, wanted)];
    Ok(poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

#[cfg(test)]
mod tests;
