//! One connection joined to the host's file descriptors: moves bytes, and holds those that the guest has sent
//! and the host's reader has not taken.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmm_sys_util::epoll::Epoll;

use super::HostStream;
use super::connection::Connection;
use super::endpoint::{Direction, Endpoint, Transfer, are_same_socket};

/// A connection and the descriptors at its host's end.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    input: Option<Endpoint>,
    output: Option<Endpoint>,
    /// Input and output are one socket: dropping one of its descriptors ends nothing.
    is_one_socket: bool,
    /// What the guest has sent and the output has not taken; bounded by the credit that the guest gets.
    backlog: VecDeque<u8>,
}

impl Stream {
    /// Joins `connection` to `host`, whose readiness `epoll` announces with the tokens that `token` gives.
    ///
    /// # Errors
    /// When a descriptor cannot be watched.
    pub(super) fn new(
        connection: Connection,
        host: HostStream,
        epoll: &Arc<Epoll>,
        token: impl Fn(Direction) -> u64,
    ) -> std::io::Result<Self> {
        let is_one_socket = match (&host.input, &host.output) {
            (Some(input), Some(output)) => are_same_socket(input, output),
            _ => false,
        };
        let open = |fd: Option<OwnedFd>, direction| {
            fd.map(|fd| Endpoint::new(fd, direction, Arc::clone(epoll), token(direction))).transpose()
        };
        Ok(Self {
            connection,
            input: open(host.input, Direction::Input)?,
            output: open(host.output, Direction::Output)?,
            is_one_socket,
            backlog: VecDeque::new(),
        })
    }

    /// Readiness was announced.
    pub(super) fn set_ready(&mut self, direction: Direction) {
        let endpoint = match direction {
            Direction::Input => &mut self.input,
            Direction::Output => &mut self.output,
        };
        if let Some(endpoint) = endpoint {
            endpoint.set_ready();
        }
    }

    /// Forwards data of the guest's, for which the connection has found that there is room.
    pub(super) fn forward(&mut self, data: &[u8]) {
        let rest = if self.backlog.is_empty() {
            let written = self.write(data);
            data.get(written..).unwrap_or_default()
        } else {
            data
        };
        if self.connection.has_output() {
            self.backlog.extend(rest);
        }
    }

    /// Writes some of the backlog. True when there is less of it than before.
    pub(super) fn flush(&mut self) -> bool {
        let backlog = std::mem::take(&mut self.backlog);
        let (front, _) = backlog.as_slices();
        let written = self.write(front);
        self.backlog = backlog;
        let has_output = self.connection.has_output();
        if !has_output || written == self.backlog.len() {
            // Gives the memory back: most streams have no backlog most of the time.
            return !std::mem::take(&mut self.backlog).is_empty();
        }
        self.backlog.drain(..written);
        written > 0
    }

    /// How many bytes may be read from the input for the guest now.
    pub(super) fn readable(&mut self) -> usize {
        let is_ready = self.input.as_ref().is_some_and(Endpoint::is_ready);
        if !is_ready || !self.connection.has_input() {
            return 0;
        }
        let limit = self.connection.sendable();
        if limit == 0 {
            self.connection.wants_credit();
        }
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Reads from the input, into a `buffer` that is not empty.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Transfer {
        let transfer = match &mut self.input {
            Some(input) => input.read(buffer),
            None => Transfer::Ended,
        };
        match transfer {
            Transfer::Done(count) => self.connection.sent(u32::try_from(count).unwrap_or(u32::MAX)),
            Transfer::NotNow => {}
            Transfer::Ended => self.connection.input_ended(),
        }
        transfer
    }

    /// Closes the descriptors whose direction has ended.
    pub(super) fn close_ended(&mut self) {
        if !self.connection.has_input() {
            self.close(Direction::Input);
        }
        if !self.connection.has_output() {
            self.backlog = VecDeque::new();
            self.close(Direction::Output);
        }
    }

    fn close(&mut self, direction: Direction) {
        let endpoint = match direction {
            Direction::Input => self.input.take(),
            Direction::Output => self.output.take(),
        };
        if let Some(endpoint) = endpoint.filter(|_| self.is_one_socket) {
            endpoint.shut_down(direction);
        }
    }

    /// Writes what the output takes of `data`, and accounts for it.
    fn write(&mut self, data: &[u8]) -> usize {
        let Some(output) = self.output.as_mut().filter(|output| output.is_ready() && !data.is_empty()) else {
            return 0;
        };
        match output.write(data) {
            Transfer::Done(written) => {
                self.connection.forwarded(u32::try_from(written).unwrap_or(u32::MAX));
                written
            }
            Transfer::NotNow => 0,
            Transfer::Ended => {
                self.connection.output_broke();
                0
            }
        }
    }
}
