//! The connection to the monitor that one exec lives by: as long as it is there, so is the process.

use std::os::fd::{AsFd, BorrowedFd};

use drupe_protocol::{Answer, Descriptor, Failure as GuestFailure, Process, WindowSize};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::container::status::Refusal;
use crate::control::{Client, ClientError, Reply, Request};
use crate::monitor::{Signals, StreamFds};
use crate::text::printable;

/// The exit status of a process that went away with its machine: that of SIGKILL.
const KILLED: u8 = 137;

/// Why a process does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Client(ClientError),
    #[error("{}", Refusal::ExecStopped.message(""))]
    Stopped,
    #[error("{0}")]
    Refused(String),
    #[error("the container's monitor replied with something else than was asked for")]
    Confused,
    #[error("waiting for the container's monitor")]
    Poll(#[from] Errno),
}

impl From<ClientError> for SessionError {
    fn from(error: ClientError) -> Self {
        match error {
            // The container has ended since it was looked up.
            ClientError::Gone => Self::Stopped,
            error => Self::Client(error),
        }
    }
}

/// One exec.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    signals: Signals,
}

/// What there is to react to.
enum Event {
    Reply(Reply),
    Signal(i32),
}

impl Session {
    /// Asks for the process. Its descriptors are the monitor's from here on.
    pub(super) fn begin(
        mut client: Client,
        signals: Signals,
        mut process: Process,
        fds: StreamFds,
    ) -> Result<Self, SessionError> {
        process.descriptors = fds
            .others
            .iter()
            .map(|passed| Descriptor { fd: passed.number, port: 0, read: passed.read, write: passed.write })
            .collect();
        let terminal = fds.terminal.iter().flat_map(|terminal| [&terminal.input, &terminal.output]);
        let standard = [&fds.stdin, &fds.stdout, &fds.stderr].into_iter().flatten();
        let others = fds.others.iter().map(|passed| &passed.fd);
        let descriptors: Vec<BorrowedFd<'_>> =
            terminal.chain(standard).chain(others).map(AsFd::as_fd).collect();
        client.send(&Request::Exec { process: Box::new(process) }, &descriptors)?;
        Ok(Self { client, signals })
    }

    /// Waits until the process runs. A signal that asks for an end gives up: the result is the exit status then.
    pub(super) fn wait_for_start(&mut self) -> Result<Option<u8>, SessionError> {
        loop {
            match self.next()? {
                Event::Reply(Reply::ExecStarted { .. }) => return Ok(None),
                Event::Reply(Reply::Failed { message, .. }) => return Err(SessionError::Refused(message)),
                Event::Reply(Reply::Answer(Answer::Failed(failure))) => {
                    return Err(SessionError::Refused(told(&failure)));
                }
                Event::Reply(_) => return Err(SessionError::Confused),
                Event::Signal(signal @ (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT)) => {
                    return Ok(Some(128_u8.saturating_add(u8::try_from(signal).unwrap_or(0))));
                }
                Event::Signal(_) => {}
            }
        }
    }

    /// Waits until the process has ended, and hands signals on; `size` is that of its terminal. The result is the
    /// exit status.
    pub(super) fn wait(&mut self, size: &dyn Fn() -> Option<WindowSize>) -> u8 {
        loop {
            let request = match self.next() {
                Ok(Event::Reply(Reply::ExecExited { status })) => return status.shell_status(),
                Ok(Event::Reply(_)) => continue,
                Ok(Event::Signal(libc::SIGWINCH)) => match size() {
                    Some(size) => Request::ResizeExec { size },
                    None => Request::SignalExec { signal: libc::SIGWINCH },
                },
                Ok(Event::Signal(signal)) => Request::SignalExec { signal },
                // The machine has ended, and the process with it.
                Err(_) => return KILLED,
            };
            // A monitor that is gone is noticed above.
            let _ = self.client.send(&request, &[]);
        }
    }

    fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            if let Some(reply) = self.client.take()? {
                return Ok(Event::Reply(reply));
            }
            if let Some(signal) = self.signals.next() {
                return Ok(Event::Signal(signal));
            }
            let mut fds = [
                PollFd::from_borrowed_fd(self.client.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [client, _] = fds.map(|fd| !fd.revents().is_empty());
            if client {
                self.client.fill()?;
            }
        }
    }
}

/// What the agent says. The fields are those of the process, whether it came from a file or from flags.
fn told(failure: &GuestFailure) -> String {
    let GuestFailure { field, message, .. } = failure;
    let field = field.strip_prefix("process.").unwrap_or(field);
    printable(&format!("{field}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_has_just_ended_is_said_to_be_stopped() {
        assert_eq!(SessionError::from(ClientError::Gone).to_string(), "cannot exec in a stopped container");
    }
}
