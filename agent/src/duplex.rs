//! A relay for both directions between a local descriptor, a terminal or a socket, and a connection to the host.
//!
//! Neither can be spliced to the other, so bytes go through a buffer for each direction, which is all that is held:
//! what a side does not take stays on the other one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::{Errno, ioctl_fionread, read, write};
use rustix::net::{Shutdown, shutdown};

use crate::reader::{Reader, edges, take_edge};

/// What the local descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The master of a pseudo-terminal: closing it hangs the terminal up.
    Terminal,
    /// A stream socket.
    Socket,
}

/// The relay. It is gone (`is_done`) when both ends are closed.
#[derive(Debug)]
pub(crate) struct Duplex {
    kind: Local,
    ends: Option<Ends>,
    to_host: Flow,
    to_local: Flow,
    /// Nobody has the terminal open now: its hang-up, which poll would report for ever, is waited out here.
    parked: Option<OwnedFd>,
    host_is_gone: bool,
}

#[derive(Debug)]
struct Ends {
    local: OwnedFd,
    host: OwnedFd,
    reader: Reader,
}

/// Bytes of one direction.
const BUFFER: usize = 8 << 10;
/// Moves before other streams get their turn.
const ROUNDS: usize = 32;

impl Duplex {
    /// A relay between two non-blocking descriptors.
    pub(crate) fn new(kind: Local, local: OwnedFd, host: OwnedFd) -> Result<Self, Errno> {
        let reader = Reader::of(host.as_fd())?;
        Ok(Self {
            kind,
            ends: Some(Ends { local, host, reader }),
            to_host: Flow::new(),
            to_local: Flow::new(),
            parked: None,
            host_is_gone: false,
        })
    }

    /// The local end, while it is open.
    pub(crate) fn local(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.local.as_fd())
    }

    /// The connection, while it is open.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.ends.as_ref().map(|ends| ends.host.as_fd())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ends.is_none()
    }

    /// Adds what the relay waits for.
    ///
    /// The end of a side is reported at every poll: a side is left out while its end could not be acted on.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let Some(Ends { local, host, reader }) = &self.ends else { return };
        if let Some(events) = self.local_events() {
            let local = self.parked.as_ref().unwrap_or(local);
            fds.push(PollFd::from_borrowed_fd(local.as_fd(), events));
        }
        if let Some(events) = self.host_events() {
            fds.push(PollFd::from_borrowed_fd(host.as_fd(), events));
        }
        if !self.host_is_gone {
            fds.push(PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN));
        }
    }

    /// Takes the answers to [`Duplex::watch`], in its order, and acts on them.
    pub(crate) fn wake(&mut self, answers: &mut impl Iterator<Item = PollFlags>) {
        if self.ends.is_none() {
            return;
        }
        let mut answer =
            |watched: bool| if watched { answers.next() } else { None }.unwrap_or(PollFlags::empty());
        let local = answer(self.local_events().is_some());
        let host = answer(self.host_events().is_some());
        let reader = answer(!self.host_is_gone);
        if local.is_empty() && host.is_empty() && reader.is_empty() {
            return;
        }
        if !local.is_empty() {
            self.parked = None;
        }
        self.host_is_gone |= host.intersects(ENDED) || (!reader.is_empty() && self.reader_is_gone());
        self.pump();
        if local.intersects(ENDED) {
            self.local_ended();
        }
    }

    /// Says that the process has ended; what it has left behind still goes to the host.
    ///
    /// Not what others write later: a child that the process left behind could do so for ever. A terminal has hung up
    /// for everyone when the first process of its session ends, so that what is in it is from before.
    pub(crate) fn finish(&mut self) {
        let Some(Ends { local, .. }) = &self.ends else { return };
        let waiting = ioctl_fionread(local).ok().and_then(|length| usize::try_from(length).ok());
        self.to_host.last = match self.kind {
            Local::Terminal => Some(usize::MAX),
            Local::Socket => Some(waiting.unwrap_or(0)),
        };
        self.to_local.break_off();
        self.pump();
    }

    fn local_events(&self) -> Option<PollFlags> {
        if self.parked.is_some() {
            return Some(PollFlags::IN);
        }
        let events = events(&self.to_host, &self.to_local);
        let watch_for_end = self.kind == Local::Socket && self.to_host.has_ended();
        (!events.is_empty() || watch_for_end).then_some(events)
    }

    fn host_events(&self) -> Option<PollFlags> {
        let events = events(&self.to_local, &self.to_host);
        (!events.is_empty()).then_some(events)
    }

    fn reader_is_gone(&self) -> bool {
        self.ends.as_ref().is_none_or(|Ends { host, reader, .. }| reader.is_gone(host.as_fd()))
    }

    fn pump(&mut self) {
        let Some(Ends { local, host, .. }) = &self.ends else { return };
        self.to_local.pump(host.as_fd(), local.as_fd());
        if !self.host_is_gone {
            self.to_host.pump(local.as_fd(), host.as_fd());
        }
        self.pass_ends_on();
    }

    fn pass_ends_on(&mut self) {
        let Some(Ends { local, host, .. }) = &self.ends else { return };
        if self.host_is_gone {
            self.to_host.break_off();
        }
        let done = match self.kind {
            Local::Terminal => self.to_host.has_ended(),
            Local::Socket => {
                if self.to_host.ends_now() {
                    let _ = shutdown(host, Shutdown::Write);
                    let _ = shutdown(local, Shutdown::Read);
                }
                if self.to_local.ends_now() {
                    let _ = shutdown(local, Shutdown::Write);
                    let _ = shutdown(host, Shutdown::Read);
                }
                self.to_host.has_ended() && self.to_local.has_ended()
            }
        };
        if done {
            let _ = shutdown(host, Shutdown::Both);
            self.ends = None;
        }
    }

    /// Nobody has the local end open.
    fn local_ended(&mut self) {
        let Some(Ends { local, .. }) = &self.ends else { return };
        self.to_local.discard();
        match self.kind {
            // It can be opened again, by name.
            Local::Terminal => self.parked = park(local.as_fd()).ok().flatten(),
            Local::Socket if self.to_host.has_ended() => {
                self.to_local.break_off();
                self.pass_ends_on();
            }
            Local::Socket => {}
        }
    }
}

const ENDED: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// What a descriptor is waited for that is the source of one flow and the sink of the other.
fn events(from_it: &Flow, to_it: &Flow) -> PollFlags {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, from_it.wants_source());
    events.set(PollFlags::OUT, to_it.has_bytes());
    events
}

/// A descriptor that becomes readable when the terminal is opened and written to again, if it is not already.
fn park(terminal: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let parked = edges(terminal, epoll::EventFlags::IN)?;
    // The hang-up itself is the first event. What came at the same time would be taken with it.
    take_edge(parked.as_fd())?;
    let answer = state(terminal, PollFlags::IN);
    Ok((answer.contains(PollFlags::HUP) && !answer.contains(PollFlags::IN)).then_some(parked))
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn state(fd: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, Some(&NOW)) {
        Ok(_) => fds.iter().map(PollFd::revents).fold(PollFlags::empty(), PollFlags::union),
        Err(_) => PollFlags::empty(),
    }
}

/// One direction: bytes that were read and not written yet.
struct Flow {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    source_open: bool,
    /// What is still to be read at most, and no more than what is there: the source is about to end.
    last: Option<usize>,
    told: bool,
}

impl Flow {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            from: 0,
            to: 0,
            source_open: true,
            last: None,
            told: false,
        }
    }

    fn has_bytes(&self) -> bool {
        self.from < self.to
    }

    fn wants_source(&self) -> bool {
        self.source_open && !self.has_bytes()
    }

    fn has_ended(&self) -> bool {
        !self.source_open && !self.has_bytes()
    }

    /// True once, when it has ended.
    fn ends_now(&mut self) -> bool {
        let now = self.has_ended() && !self.told;
        self.told |= now;
        now
    }

    fn discard(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    fn break_off(&mut self) {
        self.source_open = false;
        self.discard();
    }

    /// Moves what can be moved.
    fn pump(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>) {
        for _ in 0..ROUNDS {
            if self.has_bytes() {
                match write(sink, self.buffer.get(self.from..self.to).unwrap_or_default()) {
                    Ok(length) => self.from = self.from.saturating_add(length),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Err(_) => self.break_off(),
                }
            } else if self.source_open {
                let most = self.last.unwrap_or(usize::MAX).min(self.buffer.len());
                match read(source, self.buffer.get_mut(..most).unwrap_or_default()) {
                    // Also when nothing more is wanted.
                    Ok(0) => self.source_open = false,
                    Ok(length) => {
                        (self.from, self.to) = (0, length);
                        self.last = self.last.map(|last| last.saturating_sub(length));
                    }
                    Err(Errno::INTR) => {}
                    // A terminal that nobody has open says EIO.
                    Err(Errno::AGAIN | Errno::IO) => {
                        self.source_open = self.last.is_none();
                        return;
                    }
                    Err(_) => self.source_open = false,
                }
            } else {
                return;
            }
        }
        if self.last.is_some() && self.wants_source() && !state(source, PollFlags::IN).contains(PollFlags::IN)
        {
            self.source_open = false;
        }
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held = self.to.saturating_sub(self.from);
        f.debug_struct("Flow").field("held", &held).field("source_open", &self.source_open).finish()
    }
}

#[cfg(test)]
mod tests {
    //! Over AF_VSOCK; the Unix sockets of `tests/serve` are the other kind.

    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::Shutdown as Half;
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};

    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    use super::*;
    use crate::dial::testing::vsock_pair;

    /// The agent's loop, for one relay.
    fn serve(mut relay: Duplex) -> JoinHandle<()> {
        thread::spawn(move || {
            while !relay.is_done() {
                let mut fds = Vec::new();
                relay.watch(&mut fds);
                poll(&mut fds, None).unwrap();
                let answers: Vec<_> = fds.iter().map(PollFd::revents).collect();
                relay.wake(&mut answers.into_iter());
            }
        })
    }

    /// A relay that runs, the process's end and the host's.
    fn socket(port: u32) -> Option<(JoinHandle<()>, UnixStream, UnixStream)> {
        let (connection, host) = vsock_pair(port)?;
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        Some((serve(Duplex::new(Local::Socket, ours.into(), connection).unwrap()), theirs, host))
    }

    /// The same with a terminal, in raw mode.
    fn terminal(port: u32) -> Option<(JoinHandle<()>, File, UnixStream)> {
        let (connection, host) = vsock_pair(port)?;
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut mode = tcgetattr(&slave).unwrap();
        mode.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &mode).unwrap();
        Some((serve(Duplex::new(Local::Terminal, master, connection).unwrap()), slave.into(), host))
    }

    fn pattern() -> Vec<u8> {
        (0..3_u64 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    #[test]
    fn vsock_carries_every_byte_of_both_directions() {
        let Some((relay, mut process, mut host)) = socket(9101) else { return };
        let mut writer = host.try_clone().unwrap();
        let input = thread::spawn(move || {
            writer.write_all(&pattern()).unwrap();
            writer.shutdown(Half::Write).unwrap();
        });
        let echo = thread::spawn(move || {
            let mut bytes = Vec::new();
            process.read_to_end(&mut bytes).unwrap();
            process.write_all(&bytes).unwrap();
        });
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert!(got == pattern(), "{} bytes came back", got.len());
        input.join().unwrap();
        echo.join().unwrap();
        relay.join().unwrap();
    }

    #[test]
    fn vsock_host_that_leaves_breaks_the_socket() {
        let Some((relay, mut process, host)) = socket(9102) else { return };
        drop(host);
        assert_eq!(process.read(&mut [0]).unwrap(), 0);
        relay.join().unwrap();
        assert_eq!(process.write_all(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn vsock_host_that_leaves_hangs_the_terminal_up() {
        for (port, write_first) in [(9103, false), (9104, true)] {
            let Some((relay, mut slave, host)) = terminal(port) else { return };
            if write_first {
                slave.write_all(b"unread").unwrap();
            }
            drop(host);
            relay.join().unwrap();
            // What a terminal says after a hang-up.
            assert_eq!(slave.read(&mut [0]).unwrap_or(0), 0);
            assert!(slave.write(b"x").is_err());
        }
    }

    #[test]
    fn vsock_host_that_leaves_while_input_waits_hangs_the_terminal_up() {
        let Some((relay, _slave, mut host)) = terminal(9106) else { return };
        rustix::io::ioctl_fionbio(&host, true).unwrap();
        // More than anything between here and there holds.
        while (0..10).any(|_| {
            thread::sleep(std::time::Duration::from_millis(20));
            host.write(&[b'x'; 64 << 10]).is_ok()
        }) {}
        drop(host);
        relay.join().unwrap();
    }

    #[test]
    fn vsock_host_that_only_stops_to_send_still_sees_the_terminal() {
        let Some((relay, mut slave, mut host)) = terminal(9105) else { return };
        host.write_all(b"last input").unwrap();
        host.shutdown(Half::Write).unwrap();
        let mut input = [0; 10];
        slave.read_exact(&mut input).unwrap();
        thread::sleep(std::time::Duration::from_millis(200));
        slave.write_all(b"still seen").unwrap();
        let mut output = [0; 10];
        host.read_exact(&mut output).unwrap();
        assert_eq!((&input, &output), (b"last input", b"still seen"));
        drop(host);
        relay.join().unwrap();
    }
}
