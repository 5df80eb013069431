//! The control connection: frames in, frames out, never blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drupe_protocol::frame::{self, Decoder, FrameError};
use drupe_protocol::{GuestMessage, HostMessage};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Why the conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection broke.
    #[error("control connection")]
    Connection(#[source] io::Error),
    /// The host sent something that is not a message.
    #[error("message from the host")]
    Message(#[from] FrameError),
}

/// Answers that the host has not taken yet; with more than this its next messages wait. A message can be larger.
const MAX_OUTGOING: usize = 1 << 20;

/// One end of the control connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: OwnedFd,
    decoder: Decoder,
    outgoing: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self { stream, decoder: Decoder::new(), outgoing: Vec::new() }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What poll should wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.listens());
        interest.set(PollFlags::OUT, !self.outgoing.is_empty());
        interest
    }

    fn listens(&self) -> bool {
        self.outgoing.len() <= MAX_OUTGOING
    }

    /// Sends a message, or keeps what the connection does not take yet.
    pub(crate) fn send(&mut self, message: &GuestMessage) -> Result<(), LinkError> {
        self.outgoing.extend(frame::encode(message)?);
        self.flush()
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        while !self.outgoing.is_empty() {
            match send(&self.stream, &self.outgoing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.outgoing.drain(..sent.min(self.outgoing.len()))),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(LinkError::Connection(error.into())),
            }
        }
        Ok(())
    }

    /// The next message, if it has arrived and the host takes the answers to earlier ones.
    pub(crate) fn next(&mut self) -> Result<Option<HostMessage>, LinkError> {
        if self.listens() { Ok(self.decoder.take()?) } else { Ok(None) }
    }

    /// Reads what has arrived. False when the host has closed the connection.
    pub(crate) fn receive(&mut self) -> Result<bool, LinkError> {
        let mut bytes = [0; 16 << 10];
        let length = match recv(&self.stream, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                self.decoder.finish()?;
                return Ok(false);
            }
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(LinkError::Connection(error.into())),
        };
        self.decoder.push(bytes.get(..length).unwrap_or_default());
        Ok(true)
    }
}
