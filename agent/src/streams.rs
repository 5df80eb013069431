//! The streams of a process: what the agent keeps of them, and the ends that the process gets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use drupe_protocol::{Descriptor, Process, WindowSize};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

use crate::dial::{self, Dial};
use crate::duplex::{Duplex, Local};
use crate::failure::{Named, Result, setup};
use crate::stdio::{Direction, Relay};
use crate::terminal;

/// Descriptors of a process beside its streams.
const MAX_DESCRIPTORS: usize = 64;
/// Largest number of such a descriptor.
const MAX_NUMBER: i32 = 255;

/// The agent's side.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    relays: Vec<Relay>,
    duplexes: Vec<Duplex>,
    terminal: Terminal,
}

#[derive(Debug, Default)]
enum Terminal {
    #[default]
    None,
    /// The connection is there, the terminal is still to come; it is to have this size then.
    Awaited(OwnedFd, Option<WindowSize>),
    Open(Duplex),
}

/// The process's side.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Standard input, output and error.
    standard: [OwnedFd; 3],
    /// Others, with their numbers.
    others: Vec<(i32, OwnedFd)>,
}

/// Starts to connect what the configuration names; other streams are the null device.
pub(crate) fn connect(process: &Process, dial: &dyn Dial) -> Result<(Streams, Ends)> {
    let ports = process.stdio;
    let mut streams = Streams::default();
    let mut stream = |name: &str, port: Option<u32>, direction| {
        let field = format!("process.stdio.{name}");
        let Some(port) = port else {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            return rustix::fs::open(c"/dev/null", flags, Mode::empty()).named(field, "\"/dev/null\"");
        };
        let socket = dial.dial(port).named(&field, format_args!("port {port}"))?;
        let (relay, theirs) = Relay::new(direction, socket).named(&field, format_args!("port {port}"))?;
        streams.relays.push(relay);
        Ok(theirs)
    };
    let standard = [
        stream("stdin", ports.stdin, Direction::ToWorkload)?,
        stream("stdout", ports.stdout, Direction::ToHost)?,
        stream("stderr", ports.stderr, Direction::ToHost)?,
    ];
    if process.terminal.is_some() {
        let port = ports.terminal.ok_or_else(|| setup("process.terminal", "true: no port for it"))?;
        let socket = dial.dial(port).named("process.stdio.terminal", format_args!("port {port}"))?;
        streams.terminal = Terminal::Awaited(socket, None);
    }
    let others = connect_others(&process.descriptors, &mut streams, dial)?;
    Ok((streams, Ends { standard, others }))
}

fn connect_others(
    descriptors: &[Descriptor],
    streams: &mut Streams,
    dial: &dyn Dial,
) -> Result<Vec<(i32, OwnedFd)>> {
    if descriptors.len() > MAX_DESCRIPTORS {
        let text = format_args!("{}: {MAX_DESCRIPTORS} are the most", descriptors.len());
        return Err(setup("process.descriptors", text));
    }
    let mut others: Vec<(i32, OwnedFd)> = Vec::new();
    for (index, Descriptor { fd, port, read, write }) in descriptors.iter().copied().enumerate() {
        let field = format!("process.descriptors[{index}]");
        if !(3..=MAX_NUMBER).contains(&fd) || others.iter().any(|(other, _)| *other == fd) {
            return Err(setup(field, format_args!("{fd}: not a free descriptor from 3 to {MAX_NUMBER}")));
        }
        let what = format!("port {port}");
        let socket = dial.dial(port).named(&field, &what)?;
        let theirs = match (read, write) {
            (true, false) => streams.relay(Direction::ToWorkload, socket).named(&field, &what)?,
            (false, true) => streams.relay(Direction::ToHost, socket).named(&field, &what)?,
            (true, true) => {
                let (ours, theirs) = UnixStream::pair().named(&field, &what)?;
                ours.set_nonblocking(true).named(&field, &what)?;
                let duplex = Duplex::new(Local::Socket, ours.into(), socket).named(&field, &what)?;
                streams.duplexes.push(duplex);
                theirs.into()
            }
            (false, false) => return Err(setup(field, format_args!("{fd}: neither read nor written"))),
        };
        others.push((fd, theirs));
    }
    Ok(others)
}

impl Streams {
    /// Adds what the streams wait for.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        self.relays.iter().for_each(|relay| relay.watch(fds));
        self.both_ways().for_each(|duplex| duplex.watch(fds));
    }

    /// Takes the answers to [`Streams::watch`], in its order, and acts on them.
    pub(crate) fn wake(&mut self, answers: &mut impl Iterator<Item = PollFlags>) {
        self.relays.iter_mut().for_each(|relay| relay.wake(answers));
        self.duplexes.iter_mut().for_each(|duplex| duplex.wake(answers));
        if let Terminal::Open(terminal) = &mut self.terminal {
            terminal.wake(answers);
        }
    }

    /// Takes the terminal that the process has made.
    pub(crate) fn open_terminal(&mut self, master: OwnedFd) {
        if let Terminal::Awaited(socket, size) = std::mem::take(&mut self.terminal) {
            match Duplex::new(Local::Terminal, master, socket) {
                Ok(duplex) => self.terminal = Terminal::Open(duplex),
                // Both are closed: to the process and to the host it is a hang-up.
                Err(error) => crate::log::note(format_args!("terminal: {error}")),
            }
            size.into_iter().for_each(|size| self.resize(size));
        }
    }

    /// Changes the size of the terminal, if there is one.
    pub(crate) fn resize(&mut self, size: WindowSize) {
        match &mut self.terminal {
            Terminal::None => {}
            Terminal::Awaited(_, later) => *later = Some(size),
            Terminal::Open(duplex) => {
                if let Some(Err(error)) = duplex.local().map(|master| terminal::resize(master, size)) {
                    crate::log::note(format_args!("terminal: size {size:?}: {error}"));
                }
            }
        }
    }

    /// Waits until every connection is made.
    pub(crate) fn established(&self) -> io::Result<()> {
        let awaited = match &self.terminal {
            Terminal::Awaited(socket, _) => Some(socket.as_fd()),
            _ => None,
        };
        let relays = self.relays.iter().filter_map(Relay::socket);
        let mut sockets = relays.chain(self.both_ways().filter_map(Duplex::socket)).chain(awaited);
        sockets.try_for_each(dial::established)
    }

    /// Says that the process has ended; what it has written still goes to the host.
    pub(crate) fn finish(&mut self) {
        self.relays.iter_mut().for_each(Relay::finish);
        self.duplexes.iter_mut().for_each(Duplex::finish);
        match &mut self.terminal {
            Terminal::Open(terminal) => terminal.finish(),
            // The process ended without it.
            other => *other = Terminal::None,
        }
    }

    /// Whether every stream has ended.
    pub(crate) fn are_done(&self) -> bool {
        self.relays.iter().all(Relay::is_done) && self.both_ways().all(Duplex::is_done)
    }

    fn both_ways(&self) -> impl Iterator<Item = &Duplex> {
        let terminal = match &self.terminal {
            Terminal::Open(terminal) => Some(terminal),
            _ => None,
        };
        self.duplexes.iter().chain(terminal)
    }

    fn relay(&mut self, direction: Direction, socket: OwnedFd) -> io::Result<OwnedFd> {
        let (relay, theirs) = Relay::new(direction, socket)?;
        self.relays.push(relay);
        Ok(theirs)
    }
}

impl Ends {
    /// Those beside the streams, with their numbers.
    pub(crate) fn others(&self) -> Vec<(i32, BorrowedFd<'_>)> {
        self.others.iter().map(|(number, fd)| (*number, fd.as_fd())).collect()
    }

    /// Standard input, output and error.
    pub(crate) fn standard(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.standard;
        [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }
}
