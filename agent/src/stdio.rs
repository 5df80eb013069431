//! Relays between the pipes of a process and its connections to the host.
//!
//! A relay holds no bytes: splice(2) moves them from pipe to socket, and what the socket does not take stays in
//! the pipe, which is the back-pressure. The end of either side is passed on to the other. Peers that hang up are
//! noticed without data: poll reports it for descriptors that are watched for nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::reader::Reader;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToWorkload,
    ToHost,
}

/// One stream. It is gone (`is_done`) when its end was passed on.
#[derive(Debug)]
pub(crate) struct Relay {
    direction: Direction,
    open: Option<Ends>,
    waits_for: WaitsFor,
    /// The process has ended, and this many bytes from before that are left in the pipe.
    left: Option<usize>,
}

#[derive(Debug)]
struct Ends {
    pipe: OwnedFd,
    socket: OwnedFd,
    /// Of what goes to the host.
    reader: Option<Reader>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    Source,
    Sink,
}

/// Largest move at once, the capacity of a pipe.
const CHUNK: usize = 64 << 10;
/// Moves before other streams get their turn.
const ROUNDS: usize = 16;

impl Relay {
    /// A relay over a non-blocking socket, and the end of its pipe that is for the process.
    pub(crate) fn new(direction: Direction, socket: OwnedFd) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (pipe, theirs) = match direction {
            Direction::ToWorkload => (write, read),
            Direction::ToHost => (read, write),
        };
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let reader = match direction {
            Direction::ToWorkload => None,
            Direction::ToHost => Some(Reader::of(socket.as_fd())?),
        };
        let relay = Self {
            direction,
            open: Some(Ends { pipe, socket, reader }),
            waits_for: WaitsFor::Source,
            left: None,
        };
        Ok((relay, theirs))
    }

    /// The connection, while it is open.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|ends| ends.socket.as_fd())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.open.is_none()
    }

    /// Adds what the relay waits for.
    ///
    /// A side that is not waited for is left out when the other one is the sink: its end, reported at every
    /// poll, could not be acted on yet.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let Some(Ends { pipe, socket, reader }) = &self.open else { return };
        let mut add = |fd: &'a dyn AsFd, events| fds.push(PollFd::from_borrowed_fd(fd.as_fd(), events));
        match (self.direction, self.waits_for) {
            (Direction::ToHost, WaitsFor::Source) => {
                add(pipe, PollFlags::IN);
                if let Some(reader) = reader {
                    add(reader, PollFlags::IN);
                }
            }
            (Direction::ToHost, WaitsFor::Sink) => add(socket, PollFlags::OUT),
            (Direction::ToWorkload, WaitsFor::Source) => {
                add(socket, PollFlags::IN);
                add(pipe, PollFlags::empty());
            }
            (Direction::ToWorkload, WaitsFor::Sink) => add(pipe, PollFlags::OUT),
        }
    }

    /// Takes the answers to [`Relay::watch`], in its order, and acts on them.
    pub(crate) fn wake(&mut self, answers: &mut impl Iterator<Item = PollFlags>) {
        if self.open.is_none() {
            return;
        }
        let awaited = answers.next().unwrap_or(PollFlags::empty());
        if self.waits_for == WaitsFor::Source {
            let other = answers.next().unwrap_or(PollFlags::empty());
            if self.reader_is_gone(other) {
                self.close();
                return;
            }
        }
        if !awaited.is_empty() {
            self.pump();
        }
    }

    /// Says that the process has ended; what is left in the pipe still goes to the host.
    ///
    /// Not what others write later: a child that the process left behind could do so for ever.
    pub(crate) fn finish(&mut self) {
        let Some(Ends { pipe, .. }) = &self.open else { return };
        match self.direction {
            Direction::ToWorkload => self.close(),
            Direction::ToHost => {
                self.left =
                    Some(ioctl_fionread(pipe).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
                if self.waits_for == WaitsFor::Source {
                    self.pump();
                }
            }
        }
    }

    /// Whether nobody takes what goes this way any more; `answer` is the other side's.
    fn reader_is_gone(&self, answer: PollFlags) -> bool {
        let Some(Ends { socket, reader, .. }) = &self.open else { return true };
        match reader {
            Some(reader) => !answer.is_empty() && reader.is_gone(socket.as_fd()),
            None => answer.intersects(PollFlags::ERR | PollFlags::HUP),
        }
    }

    fn pump(&mut self) {
        for _ in 0..ROUNDS {
            let Some(Ends { pipe, socket, .. }) = &self.open else { return };
            let (from, to) = match self.direction {
                Direction::ToHost => (pipe, socket),
                Direction::ToWorkload => (socket, pipe),
            };
            let most = self.left.unwrap_or(CHUNK).min(CHUNK);
            if most == 0 {
                return self.close();
            }
            match splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) => return self.close(),
                Ok(moved) => {
                    self.left = self.left.map(|left| left.saturating_sub(moved));
                    self.waits_for = WaitsFor::Source;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.waits_for = self.blocked_on();
                    return;
                }
                // Whoever reads is gone. Closing our end tells the writer, as with any pipe.
                Err(_) => return self.close(),
            }
        }
    }

    /// Which side made splice say "again".
    fn blocked_on(&self) -> WaitsFor {
        let Some(Ends { pipe, .. }) = &self.open else { return WaitsFor::Source };
        let pipe_is_ready = match self.direction {
            Direction::ToHost => ioctl_fionread(pipe).unwrap_or(0) > 0,
            Direction::ToWorkload => {
                let mut fds = [PollFd::new(pipe, PollFlags::OUT)];
                poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0) > 0
            }
        };
        match (self.direction, pipe_is_ready) {
            (Direction::ToHost, true) | (Direction::ToWorkload, false) => WaitsFor::Sink,
            (Direction::ToHost, false) | (Direction::ToWorkload, true) => WaitsFor::Source,
        }
    }

    /// Passes the end on: half of the connection, and the pipe.
    fn close(&mut self) {
        if let Some(ends) = self.open.take() {
            let how = match self.direction {
                Direction::ToHost => Shutdown::Write,
                Direction::ToWorkload => Shutdown::Read,
            };
            let _ = shutdown(&ends.socket, how);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Over AF_VSOCK itself: splice(2) treats every kind of socket in its own way. The Unix sockets of
    //! `tests/serve` are the other kind.

    use std::io::{Read, Write};
    use std::net::Shutdown as Half;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::dial::testing::vsock_pair;

    /// A relay, the process's end of its pipe, and the host's end of its connection.
    fn relay(direction: Direction, port: u32) -> Option<(Relay, std::fs::File, UnixStream)> {
        let (socket, host) = vsock_pair(port)?;
        let (relay, theirs) = Relay::new(direction, socket).unwrap();
        Some((relay, theirs.into(), host))
    }

    /// The agent's loop, for one relay.
    fn serve(mut relay: Relay) {
        while !relay.is_done() {
            let mut fds = Vec::new();
            relay.watch(&mut fds);
            poll(&mut fds, None).unwrap();
            let answers: Vec<_> = fds.iter().map(PollFd::revents).collect();
            relay.wake(&mut answers.into_iter());
        }
    }

    fn pattern() -> Vec<u8> {
        (0..10_u64 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    #[test]
    fn vsock_carries_every_byte_to_the_host() {
        let Some((relay, mut process, mut host)) = relay(Direction::ToHost, 9001) else { return };
        let relay = thread::spawn(move || serve(relay));
        let writer = thread::spawn(move || process.write_all(&pattern()).unwrap());
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert!(got == pattern(), "{} bytes came", got.len());
        writer.join().unwrap();
        relay.join().unwrap();
    }

    #[test]
    fn vsock_carries_every_byte_to_the_process() {
        let Some((relay, mut process, mut host)) = relay(Direction::ToWorkload, 9002) else { return };
        let relay = thread::spawn(move || serve(relay));
        let writer = thread::spawn(move || {
            host.write_all(&pattern()).unwrap();
            host.shutdown(Half::Write).unwrap();
            host
        });
        let mut got = Vec::new();
        process.read_to_end(&mut got).unwrap();
        assert!(got == pattern(), "{} bytes came", got.len());
        writer.join().unwrap();
        relay.join().unwrap();
    }

    #[test]
    fn vsock_reader_that_is_gone_breaks_the_pipe() {
        for (port, write_first) in [(9003, false), (9004, true)] {
            let Some((relay, mut process, host)) = relay(Direction::ToHost, port) else { return };
            let relay = thread::spawn(move || serve(relay));
            if write_first {
                process.write_all(b"unread").unwrap();
            }
            drop(host);
            // Ends without another byte: the closed connection is noticed.
            relay.join().unwrap();
            assert_eq!(process.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn vsock_reader_that_leaves_by_halves_breaks_the_pipe() {
        let Some((relay, mut process, host)) = relay(Direction::ToHost, 9006) else { return };
        let relay = thread::spawn(move || serve(relay));
        for half in [Half::Write, Half::Read] {
            thread::sleep(std::time::Duration::from_millis(200));
            host.shutdown(half).unwrap();
        }
        // Ends without a byte: it is the first write that fails, none is lost without a word.
        relay.join().unwrap();
        assert_eq!(process.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn vsock_host_that_only_stops_to_send_still_reads() {
        let Some((relay, mut process, mut host)) = relay(Direction::ToHost, 9005) else { return };
        let relay = thread::spawn(move || serve(relay));
        host.shutdown(Half::Write).unwrap();
        thread::sleep(std::time::Duration::from_millis(200));
        process.write_all(b"still read").unwrap();
        drop(process);
        let mut got = String::new();
        host.read_to_string(&mut got).unwrap();
        assert_eq!(got, "still read");
        relay.join().unwrap();
    }
}
