//! What a child that is to become a process of a container tells the agent, and how it is let go.
//!
//! The connection is a socket of its own. Over it the child says `Ready` or `Failed` in messages of the protocol,
//! waits for `Start`, and is gone from it by exec, which closes it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{Failure, GuestMessage, HostMessage};

use crate::{clock, sys};

/// The child's end.
#[derive(Debug)]
pub(crate) struct Report {
    stream: UnixStream,
    container: String,
}

impl Report {
    pub(crate) fn new(stream: OwnedFd, container: &str) -> Self {
        Self { stream: stream.into(), container: container.to_owned() }
    }

    /// Says that one exec is missing, and waits for the start; returns the state that comes with it.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn ready(&mut self, configured_us: u64, mounted_us: u64) -> String {
        let (container, now_us) = (self.container.clone(), clock::now_us());
        self.say(&GuestMessage::Ready { container, configured_us, mounted_us, now_us });
        let mut decoder = Decoder::new();
        let mut bytes = [0; 4096];
        loop {
            match decoder.take() {
                Ok(Some(HostMessage::Start { state, .. })) => return state,
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => sys::exit(1),
            }
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => sys::exit(1),
                Ok(length) => decoder.push(bytes.get(..length).unwrap_or_default()),
            }
        }
    }

    /// Says why this process is none of the container's, and ends it.
    pub(crate) fn failed(mut self, failure: Failure) -> ! {
        let container = self.container.clone();
        self.say(&GuestMessage::Failed { container, failure });
        sys::exit(1)
    }

    fn say(&mut self, message: &GuestMessage) {
        let sent = frame::encode(message).is_ok_and(|bytes| self.stream.write_all(&bytes).is_ok());
        if !sent {
            sys::exit(1);
        }
    }
}
