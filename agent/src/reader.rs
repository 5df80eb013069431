//! Whether the host still reads a connection, seen without a byte being sent.
//!
//! Of vsock, poll(2) says the same after the host has closed the half that it sends on, which is its right, and after
//! it has closed both. So the closing is watched by edges, and sending nothing tells which of the two it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// The host as the reader of a connection.
#[derive(Debug)]
pub(crate) struct Reader {
    closing: OwnedFd,
}

impl Reader {
    /// The reader of a connection.
    pub(crate) fn of(connection: BorrowedFd<'_>) -> Result<Self, Errno> {
        Ok(Self { closing: edges(connection, epoll::EventFlags::RDHUP)? })
    }

    /// After this has become readable: whether the host reads no more.
    pub(crate) fn is_gone(&self, connection: BorrowedFd<'_>) -> bool {
        take_edge(self.closing.as_fd()).is_err()
            || send(connection, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err()
    }
}

impl AsFd for Reader {
    /// Becomes readable when the host closes a half of the connection, or all of it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.closing.as_fd()
    }
}

/// A descriptor that becomes readable when something happens to another one, and not as long as it lasts.
pub(crate) fn edges(fd: BorrowedFd<'_>, events: epoll::EventFlags) -> Result<OwnedFd, Errno> {
    let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&edges, fd, epoll::EventData::new_u64(0), events | epoll::EventFlags::ET)?;
    Ok(edges)
}

/// Takes what such a descriptor tells, so that it is not readable any more.
pub(crate) fn take_edge(edges: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut event = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
    epoll::wait(edges, &mut event, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map(drop)
}
