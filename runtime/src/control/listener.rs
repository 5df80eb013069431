//! The monitor's socket in the container's directory.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;

use super::session::Session;
use crate::container::store::CONTROL;

/// What accepts clients.
#[derive(Debug)]
pub(crate) struct Listener(UnixListener);

impl Listener {
    /// Binds the socket in a directory that only this user can enter. The path goes by the directory's descriptor:
    /// those of sockets are short.
    pub(crate) fn bind(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The next client that waits. One of another user is turned away.
    pub(crate) fn accept(&self) -> Option<Session> {
        loop {
            let stream = match self.0.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Out of descriptors, say: it is tried again when the next client comes.
                Err(_) => return None,
            };
            let peer = rustix::net::sockopt::socket_peercred(stream.as_fd());
            let own = rustix::process::geteuid();
            if peer.is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
                && stream.set_nonblocking(true).is_ok()
            {
                return Some(Session::new(stream));
            }
        }
    }

    /// The descriptor to wait for.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
