//! The monitor's end of one client's connection.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use drupe_protocol::frame::{self, Decoder, FrameError};
use rustix::io::Errno;

use super::passing;
use super::{Reply, Request};

const CHUNK: usize = 64 << 10;

/// A client.
#[derive(Debug)]
pub(crate) struct Session {
    stream: UnixStream,
    decoder: Decoder,
    descriptors: Vec<OwnedFd>,
    unsent: Vec<u8>,
}

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing whole for now.
    Nothing,
    /// A request, with the descriptors that came with it.
    Request(Request, Vec<OwnedFd>),
    /// The client has gone, or speaks another language.
    End,
}

impl Session {
    /// `stream` is nonblocking.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(), descriptors: Vec::new(), unsent: Vec::new() }
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Reads what is there, up to a request.
    pub(crate) fn receive(&mut self) -> Received {
        loop {
            match self.decoder.take() {
                Ok(Some(request)) => {
                    return Received::Request(request, std::mem::take(&mut self.descriptors));
                }
                Ok(None) => {}
                Err(error) => {
                    log::warn!("a client's request: {}", crate::text::chain(&error));
                    return Received::End;
                }
            }
            let mut chunk = [0; CHUNK];
            match passing::receive(&self.stream, &mut chunk, &mut self.descriptors) {
                Ok(0) => return Received::End,
                Ok(length) => self.decoder.push(chunk.get(..length).unwrap_or_default()),
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Received::End,
            }
            if self.descriptors.len() > passing::MOST {
                return Received::End;
            }
        }
    }

    /// Sends a reply, now or when there is room.
    pub(crate) fn send(&mut self, reply: &Reply) -> Result<(), FrameError> {
        // A client that does not read what it asks for is not waited for.
        if self.unsent.len() > frame::MAX_FRAME {
            return Err(FrameError::TooLarge(self.unsent.len()));
        }
        self.unsent.extend_from_slice(&frame::encode(reply)?);
        self.flush();
        Ok(())
    }

    /// Writes as much as goes.
    pub(crate) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match passing::send(&self.stream, &self.unsent, &[]) {
                Ok(length) => {
                    self.unsent.drain(..length);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // The client has gone. Reading says so too.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// Whether there is something left to write.
    pub(crate) fn is_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}
