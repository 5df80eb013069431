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

#[cfg(test)]
pub(crate) mod testing {
    //! Connections over AF_VSOCK of this machine itself: its sockets differ from Unix ones in many ways.

    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use crate::sys;

    /// A dialled connection and the host's end of it; `None` says why not.
    ///
    /// The host's end is vsock, too. The std type serves for its read, write and shutdown.
    pub(crate) fn vsock_pair(port: u32) -> Option<(OwnedFd, UnixStream)> {
        // Ends of pipes that break are errors here, as in the agent, whose signals are blocked.
        sys::block_signals().unwrap();
        let dialled = sys::listen_vsock_loopback(port).and_then(|l| Ok((sys::dial_vsock(1, port)?, l)));
        let (socket, listener) = match dialled {
            Ok(both) => both,
            Err(error) => {
                eprintln!(
                    "skipped: no vsock loopback here ({error}): modprobe vsock_loopback, or run it in the lab"
                );
                assert!(std::env::var_os("REQUIRE_VSOCK").is_none(), "vsock is required");
                return None;
            }
        };
        let host = UnixStream::from(rustix::net::accept(listener).unwrap());
        super::established(socket.as_fd()).unwrap();
        Some((socket, host))
    }
}
