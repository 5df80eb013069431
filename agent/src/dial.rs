//! Connections to the host: vsock in a guest, anything that is a stream in tests.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_error;

use crate::sys;

/// Makes connections to ports of the host.
pub trait Dial {
    /// Starts to connect. The stream is non-blocking, and perhaps not connected yet: [`established`] waits for it.
    ///
    /// # Errors
    /// The connection could not be begun.
    fn dial(&self, port: u32) -> io::Result<OwnedFd>;
}

/// The host of a guest, over vsock.
#[derive(Clone, Copy, Debug)]
pub struct VsockHost;

const HOST_CID: u32 = 2;

impl Dial for VsockHost {
    fn dial(&self, port: u32) -> io::Result<OwnedFd> {
        sys::dial_vsock(HOST_CID, port)
    }
}

/// Waits until a dialled stream is connected.
///
/// # Errors
/// The host refused the connection or did not answer.
pub fn established(stream: BorrowedFd<'_>) -> io::Result<()> {
    // The kernel gives up on a vsock connection after two seconds; this is for a kernel that does not.
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    if poll(&mut fds, Some(&limit))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket_error(stream)?.map_err(io::Error::from)
}
