//! A verb's end of the connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use drupe_protocol::frame::{self, Decoder, FrameError};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::passing;
use super::{Reply, Request};
use crate::container::Entry;
use crate::container::store::CONTROL;

const CHUNK: usize = 64 << 10;

/// How long a monitor may take to accept a client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the container's monitor has ended")]
    Gone,
    #[error("the container's monitor does not answer")]
    Silent,
    #[error("the container's monitor")]
    Frame(#[from] FrameError),
    #[error("the container's control socket")]
    Socket(#[source] io::Error),
}

impl From<Errno> for ClientError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::CONNREFUSED | Errno::PIPE | Errno::CONNRESET => Self::Gone,
            Errno::AGAIN | Errno::TIMEDOUT => Self::Silent,
            errno => Self::Socket(errno.into()),
        }
    }
}

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Client {
    socket: std::os::fd::OwnedFd,
    decoder: Decoder,
}

impl Client {
    /// Connects to a container's monitor.
    pub(crate) fn connect(entry: &Entry) -> Result<Self, ClientError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(entry.dir(), CONTROL, flags, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
            return Err(ClientError::Socket(io::Error::other("not a socket")));
        }
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // A monitor that hangs stops accepting, and connecting would wait for ever.
        set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_TIMEOUT))?;
        // By the descriptor: nothing is resolved a second time, and the path is short.
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self { socket, decoder: Decoder::new() })
    }

    /// Sends a request with descriptors and waits for the reply: as long as it takes, or up to a limit.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> Result<Reply, ClientError> {
        self.send(request, descriptors)?;
        self.reply(limit)
    }

    /// Sends a request with descriptors.
    pub(crate) fn send(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let frame = frame::encode(request)?;
        let (mut rest, mut descriptors) = (frame.as_slice(), descriptors);
        while !rest.is_empty() {
            match passing::send(&self.socket, rest, descriptors) {
                Ok(length) => (rest, descriptors) = (rest.get(length..).unwrap_or_default(), &[]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// A reply that has been read already.
    pub(crate) fn take(&mut self) -> Result<Option<Reply>, ClientError> {
        Ok(self.decoder.take()?)
    }

    /// Reads what is there. It waits when there is nothing.
    pub(crate) fn fill(&mut self) -> Result<(), ClientError> {
        let mut chunk = vec![0; CHUNK];
        match passing::receive(&self.socket, &mut chunk, &mut Vec::new()) {
            Ok(0) => Err(ClientError::Gone),
            Ok(length) => {
                self.decoder.push(chunk.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next reply.
    pub(crate) fn reply(&mut self, limit: Option<Duration>) -> Result<Reply, ClientError> {
        set_socket_timeout(&self.socket, Timeout::Recv, limit)?;
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
