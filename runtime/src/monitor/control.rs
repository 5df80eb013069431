//! The control connection: frames over two pipes, whose other ends the vsock device joins to the agent.
//!
//! Pipes, not a socket pair: each direction then ends on its own, as that of the vsock connection does.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use drupe_protocol::frame::{self, Decoder, FrameError};
use drupe_protocol::{GuestMessage, HostMessage};
use drupe_vmm::{HostPort, HostStream};
use rustix::pipe::PipeFlags;

use super::conversation::ConversationError;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Bytes of unsent messages beyond which signals are dropped: the guest has stopped reading.
const MAX_UNSENT: usize = frame::MAX_FRAME + CHUNK;

/// Our end of the connection.
#[derive(Debug)]
pub(crate) struct Control {
    input: File,
    output: File,
    decoder: Decoder,
    unsent: Vec<u8>,
}

/// What listens on [`drupe_protocol::CONTROL_PORT`]: the agent connects once, and nobody after it.
#[derive(Debug)]
pub(crate) struct ControlPort(Option<HostStream>);

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Some bytes, perhaps whole messages.
    Bytes,
    /// Nothing for now.
    Empty,
    /// The end of the connection.
    End,
}

/// Makes both ends.
pub(crate) fn channel() -> io::Result<(Control, ControlPort)> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (input, guest_output): (OwnedFd, OwnedFd) = rustix::pipe::pipe_with(flags)?;
    let (guest_input, output) = rustix::pipe::pipe_with(flags)?;
    let control = Control {
        input: File::from(input),
        output: File::from(output),
        decoder: Decoder::new(),
        unsent: Vec::new(),
    };
    let stream = HostStream { input: Some(guest_input), output: Some(guest_output) };
    Ok((control, ControlPort(Some(stream))))
}

impl HostPort for ControlPort {
    fn connect(&mut self, _guest_port: u32) -> Option<HostStream> {
        self.0.take()
    }

    /// The ends of the pipes say it too, and in order with the bytes.
    fn closed(&mut self, _guest_port: u32) {}
}

impl Control {
    /// The descriptor to read from.
    pub(crate) fn input(&self) -> RawFd {
        self.input.as_raw_fd()
    }

    /// The descriptor to write to.
    pub(crate) fn output(&self) -> RawFd {
        self.output.as_raw_fd()
    }

    /// Reads what is there, up to a chunk.
    pub(crate) fn read(&mut self) -> Result<ReadOutcome, ConversationError> {
        let mut chunk = [0; CHUNK];
        match self.input.read(&mut chunk) {
            Ok(0) => {
                self.decoder.finish()?;
                Ok(ReadOutcome::End)
            }
            Ok(length) => {
                self.decoder.push(chunk.get(..length).unwrap_or_default());
                Ok(ReadOutcome::Bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(ReadOutcome::Empty)
            }
            // A pipe fails in no other way.
            Err(_) => Ok(ReadOutcome::End),
        }
    }

    /// The next whole message that was read.
    pub(crate) fn next(&mut self) -> Result<Option<GuestMessage>, FrameError> {
        self.decoder.take()
    }

    /// Puts a message in line. A signal is left out while the guest does not read what it was sent before.
    pub(crate) fn queue(&mut self, message: &HostMessage) -> Result<(), ConversationError> {
        let frame = frame::encode(message)?;
        if self.unsent.len() + frame.len() <= MAX_UNSENT || !matches!(message, HostMessage::Signal { .. }) {
            self.unsent.extend_from_slice(&frame);
        }
        Ok(())
    }

    /// Writes as much as goes. What is left is written when the descriptor becomes writable.
    pub(crate) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.output.write(&self.unsent) {
                Ok(length) => {
                    self.unsent.drain(..length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody reads any more. The other direction says what that means.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// Whether there is something left to write.
    pub(crate) fn is_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}
