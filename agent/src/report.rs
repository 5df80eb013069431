//! What a child that is to become a process of a container tells the agent, and how it is let go.
//!
//! The connection is a socket of its own. Over it the child hands its terminal over, says `Ready` or `Failed` in
//! messages of the protocol, waits for `Start`, and is gone from it by exec, which closes it.
//!
//! The filter of the process may be loaded once the terminal is handed over: from then on the socket is only read and
//! written, as a pipe is.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{Failure, GuestMessage, HostMessage};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::{clock, sys};

/// The child's end.
#[derive(Debug)]
pub(crate) struct Report {
    stream: OwnedFd,
    container: String,
}

impl Report {
    pub(crate) fn new(stream: OwnedFd, container: &str) -> Self {
        Self { stream, container: container.to_owned() }
    }

    /// Waits for the agent's descriptors, each in a message of its own.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn descriptors(&mut self, count: usize) -> Vec<OwnedFd> {
        let mut received = Vec::new();
        while received.len() < count {
            match receive_descriptor(self.stream.as_fd()) {
                Ok(Some(fd)) => received.push(fd),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => sys::exit(1),
            }
        }
        received
    }

    /// Gives the agent its end of the terminal. Before anything else is said.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn hand_over(&self, terminal: &OwnedFd) {
        if send_descriptors(self.stream.as_fd(), [terminal.as_fd()].into_iter()).is_err() {
            sys::exit(1);
        }
    }

    /// Says that one exec is missing, and waits for the start; returns the state that comes with it.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn ready(&self, configured_us: u64, mounted_us: u64) -> String {
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
            match retry_on_intr(|| read(&self.stream, &mut bytes)) {
                Ok(0) | Err(_) => sys::exit(1),
                Ok(length) => decoder.push(bytes.get(..length).unwrap_or_default()),
            }
        }
    }

    /// Says why this process is none of the container's, and ends it.
    pub(crate) fn failed(self, failure: Failure) -> ! {
        let container = self.container.clone();
        self.say(&GuestMessage::Failed { container, failure });
        sys::exit(1)
    }

    fn say(&self, message: &GuestMessage) {
        let Ok(frame) = frame::encode(message) else { sys::exit(1) };
        let mut left = frame.as_slice();
        while !left.is_empty() {
            // SIGPIPE is blocked.
            match retry_on_intr(|| write(&self.stream, left)) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(_) => sys::exit(1),
            }
        }
    }
}

/// Sends descriptors over a report, each with a byte that means nothing.
pub(crate) fn send_descriptors<'a>(
    report: BorrowedFd<'_>,
    fds: impl Iterator<Item = BorrowedFd<'a>>,
) -> io::Result<()> {
    for fd in fds {
        let rights = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&rights));
        sendmsg(report, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn receive_descriptor(stream: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(received)
}
