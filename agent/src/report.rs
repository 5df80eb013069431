//! What a child that is to become a process of a container tells the agent, and how it is let go.
//!
//! The connection is a socket of its own. Over it the child says `Ready` or `Failed` in messages of the protocol,
//! waits for `Start`, and is gone from it by exec, which closes it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{Failure, GuestMessage, HostMessage};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

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

    /// Waits for the agent's descriptors, each in a message of its own.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn descriptors(&mut self, count: usize) -> Vec<OwnedFd> {
        let mut received = Vec::new();
        while received.len() < count {
            match receive_descriptor(&self.stream) {
                Ok(Some(fd)) => received.push(fd),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => sys::exit(1),
            }
        }
        received
    }

    /// Says that one exec is missing, hands the terminal over, and waits for the start; returns the state that comes
    /// with it.
    ///
    /// Ends this process when the agent is gone.
    pub(crate) fn ready(&mut self, configured_us: u64, mounted_us: u64, terminal: Option<OwnedFd>) -> String {
        let (container, now_us) = (self.container.clone(), clock::now_us());
        self.say(&GuestMessage::Ready { container, configured_us, mounted_us, now_us }, terminal);
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
        self.say(&GuestMessage::Failed { container, failure }, None);
        sys::exit(1)
    }

    fn say(&mut self, message: &GuestMessage, terminal: Option<OwnedFd>) {
        if self.send(message, terminal).is_err() {
            sys::exit(1);
        }
    }

    fn send(&mut self, message: &GuestMessage, terminal: Option<OwnedFd>) -> io::Result<()> {
        let frame = frame::encode(message).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = terminal.as_ref().map(AsFd::as_fd);
        control.push(SendAncillaryMessage::ScmRights(fds.as_slice()));
        let sent = sendmsg(&self.stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?;
        self.stream.write_all(frame.get(sent..).unwrap_or_default())
    }
}

/// Sends descriptors to a child that waits for them.
pub(crate) fn send_descriptors<'a>(
    report: &UnixStream,
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

fn receive_descriptor(stream: &UnixStream) -> Result<Option<OwnedFd>, Errno> {
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
