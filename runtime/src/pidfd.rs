//! `--pidfd-socket`: a descriptor of the process, for who listens there.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags};

use crate::console;

/// Why nobody got the descriptor.
#[derive(Debug, thiserror::Error)]
#[error("--pidfd-socket: {}", path.display())]
pub(crate) struct PidfdError {
    path: PathBuf,
    source: io::Error,
}

/// Sends a descriptor of the process, as runc does.
pub(crate) fn send(socket: &Path, process: Pid) -> Result<(), PidfdError> {
    rustix::process::pidfd_open(process, PidfdFlags::empty())
        .map_err(io::Error::from)
        .and_then(|pidfd| console::send_descriptor(socket, pidfd.as_fd(), b"pidfd"))
        .map_err(|source| PidfdError { path: socket.to_owned(), source })
}
