//! The streams of a process: each is one vsock connection, joined to a descriptor of this process. The bytes
//! pass through the vsock device alone, which keeps order, back-pressure and ends.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drupe_protocol::{Descriptor, Process, StdioPorts, WindowSize};
use drupe_vmm::{HostPort, HostStream};
use rustix::event::{PollFd, PollFlags, Timespec};
use vmm_sys_util::eventfd::EventFd;

use crate::console;
use crate::descriptors::PassedFd;

/// The guest has not connected the stream.
const IDLE: u8 = 0;
/// The stream is connected.
const OPEN: u8 = 1;
/// The stream has ended, and all of it was written.
const CLOSED: u8 = 2;

/// The host's side of what a process reads and writes.
#[derive(Debug, Default)]
pub(crate) struct StreamFds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Instead of the three.
    pub(crate) terminal: Option<TerminalFds>,
    /// Beside them.
    pub(crate) others: Vec<PassedFd>,
}

/// The host's side of a terminal. Both are often the same one.
#[derive(Debug)]
pub(crate) struct TerminalFds {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

impl StreamFds {
    /// The three streams of this process. Descriptors 0 to 2 are open: Rust's start-up puts /dev/null where they
    /// are not.
    pub(crate) fn inherited() -> io::Result<Self> {
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(Some);
        Ok(Self {
            stdin: duplicate(io::stdin().as_fd())?,
            stdout: duplicate(io::stdout().as_fd())?,
            stderr: duplicate(io::stderr().as_fd())?,
            ..Self::default()
        })
    }

    /// This process's input and output as a terminal.
    pub(crate) fn inherited_terminal() -> io::Result<Self> {
        let terminal = TerminalFds {
            input: io::stdin().as_fd().try_clone_to_owned()?,
            output: io::stdout().as_fd().try_clone_to_owned()?,
        };
        Ok(Self { terminal: Some(terminal), ..Self::default() })
    }
}

/// A port and what listens on it.
pub(crate) type Port = (u32, Box<dyn HostPort>);

/// The streams of a process, ready for the guest to connect.
pub(crate) struct Streams {
    /// What listens for them.
    pub(crate) ports: Vec<Port>,
    /// What the end of the process depends on.
    pub(crate) outputs: Arc<Outputs>,
}

/// Which ports the streams of a process have.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// From this one on: no process of the container is there yet to connect to them.
    From(u32),
    /// Any from this one on, but those in use. Whoever in the guest connects first has the stream: a process of the
    /// container, which may connect as the agent does, must not be able to guess them.
    Drawn(u32, BTreeSet<u32>),
}

impl Numbers {
    fn next(&mut self) -> io::Result<u32> {
        match self {
            Self::From(next) => {
                let port = *next;
                *next = next.saturating_add(1);
                Ok(port)
            }
            Self::Drawn(first, used) => loop {
                let mut bytes = [0; size_of::<u32>()];
                rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
                let port = u32::from_ne_bytes(bytes);
                // The last number is VMADDR_PORT_ANY.
                if (*first..u32::MAX).contains(&port) && used.insert(port) {
                    return Ok(port);
                }
            },
        }
    }
}

/// Makes the ports of a process's streams, and tells the process of them. `changed` becomes readable when a stream
/// begins or ends.
pub(crate) fn open(
    fds: StreamFds,
    numbers: Numbers,
    process: &mut Process,
    changed: &Arc<EventFd>,
) -> io::Result<Streams> {
    let mut made = Builder { numbers, ports: Vec::new(), outputs: Vec::new() };
    let stdin = made.add(fds.stdin, None)?;
    let stdout = made.add(None, fds.stdout)?;
    let stderr = made.add(None, fds.stderr)?;
    let (input, output) = fds.terminal.map(|terminal| (terminal.input, terminal.output)).unzip();
    let has_terminal = output.is_some();
    let terminal = made.add(input, output)?;
    process.stdio = StdioPorts { stdin, stdout, stderr, terminal };
    process.descriptors = Vec::new();
    for PassedFd { number, fd, read, write } in fds.others {
        // The guest's writing end is our output, and what it reads is our input.
        let input = if read { Some(fd.try_clone()?) } else { None };
        if let Some(port) = made.add(input, write.then_some(fd))? {
            process.descriptors.push(Descriptor { fd: number, port, read, write });
        }
    }
    let Builder { ports, outputs, .. } = made;
    let outputs = Arc::new(Outputs { outputs, has_terminal, changed: Arc::clone(changed) });
    let listen = |(port, stream, output)| -> Port {
        (port, Box::new(StreamPort { stream: Some(stream), output, outputs: Arc::clone(&outputs) }))
    };
    Ok(Streams { ports: ports.into_iter().map(listen).collect(), outputs })
}

/// Streams while they are numbered.
struct Builder {
    numbers: Numbers,
    ports: Vec<(u32, HostStream, Option<usize>)>,
    outputs: Vec<Output>,
}

impl Builder {
    /// The next port, whether there is a stream for it or not: so each stream always has the same.
    fn add(&mut self, input: Option<OwnedFd>, output: Option<OwnedFd>) -> io::Result<Option<u32>> {
        let port = self.numbers.next()?;
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        let watched = output.as_ref().map(OwnedFd::try_clone).transpose()?;
        let index = watched.map(|fd| {
            self.outputs.push(Output { state: AtomicU8::new(IDLE), fd: Mutex::new(Some(fd)) });
            self.outputs.len() - 1
        });
        self.ports.push((port, HostStream { input, output }, index));
        Ok(Some(port))
    }
}

/// One stream that the guest writes.
#[derive(Debug)]
struct Output {
    state: AtomicU8,
    /// Where it goes; closed with it.
    fd: Mutex<Option<OwnedFd>>,
}

impl Output {
    fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    fn with_fd<T>(&self, f: impl FnOnce(&OwnedFd) -> T) -> Option<T> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(f)
    }
}

/// The output streams of a process, as far as its end depends on them.
#[derive(Debug)]
pub(crate) struct Outputs {
    outputs: Vec<Output>,
    has_terminal: bool,
    changed: Arc<EventFd>,
}

impl Outputs {
    /// Whether nothing more can come: a stream that the guest never connected has nothing to say after the
    /// exit of its process.
    pub(crate) fn are_complete(&self) -> bool {
        !self.outputs.iter().any(Output::is_open)
    }

    /// Whether an open stream waits for who reads from us, not for the guest.
    pub(crate) fn wait_for_reader(&self) -> bool {
        let waits = |output: &Output| output.with_fd(|fd| !is_writable(fd.as_fd())).unwrap_or(false);
        self.outputs.iter().any(|output| output.is_open() && waits(output))
    }

    /// Whether the process has a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// The size of the process's terminal on the host.
    pub(crate) fn window_size(&self) -> Option<WindowSize> {
        // It is the first output: a process with a terminal has no other streams before it.
        let terminal = self.outputs.first().filter(|_| self.has_terminal)?;
        terminal.with_fd(|fd| console::window_size(fd))?
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    // An error counts as writable: it is no reason to wait.
    rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// What listens on the port of one stream: the agent connects once.
struct StreamPort {
    stream: Option<HostStream>,
    /// The stream's place in [`Outputs::outputs`], if it is an output.
    output: Option<usize>,
    outputs: Arc<Outputs>,
}

impl StreamPort {
    fn output(&self) -> Option<&Output> {
        self.outputs.outputs.get(self.output?)
    }

    fn set(&self, state: u8) {
        if let Some(output) = self.output() {
            output.state.store(state, Ordering::Release);
            // An eventfd's write fails only when its counter is full, and then it is readable anyway.
            let _ = self.outputs.changed.write(1);
        }
    }
}

impl HostPort for StreamPort {
    fn connect(&mut self, _guest_port: u32) -> Option<HostStream> {
        let stream = self.stream.take()?;
        self.set(OPEN);
        Some(stream)
    }

    fn closed(&mut self, _guest_port: u32) {
        if let Some(output) = self.output() {
            output.fd.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.set(CLOSED);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn open(fds: StreamFds, first: u32, process: &mut Process) -> io::Result<Streams> {
        super::open(fds, Numbers::From(first), process, &Arc::new(changed()))
    }

    fn changed() -> EventFd {
        EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap()
    }

    fn null() -> Option<OwnedFd> {
        Some(File::options().read(true).write(true).open("/dev/null").unwrap().into())
    }

    fn three() -> StreamFds {
        StreamFds { stdin: null(), stdout: null(), stderr: null(), ..StreamFds::default() }
    }

    #[test]
    fn each_stream_is_connected_once_and_its_end_is_told() {
        let mut process = Process::default();
        let changed = Arc::new(changed());
        let Streams { ports: mut made, outputs } =
            super::open(three(), Numbers::From(1), &mut process, &changed).unwrap();
        let expected = StdioPorts { stdin: Some(1), stdout: Some(2), stderr: Some(3), terminal: None };
        assert_eq!(process.stdio, expected);
        assert_eq!(made.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(outputs.are_complete() && !outputs.has_terminal() && outputs.window_size().is_none());
        for (port, listener) in &mut made {
            let stream = listener.connect(9).unwrap();
            assert_eq!((stream.input.is_some(), stream.output.is_some()), (*port == 1, *port != 1));
            assert!(listener.connect(9).is_none());
        }
        for (_, listener) in &mut made {
            assert!(!outputs.are_complete());
            listener.closed(9);
        }
        assert!(outputs.are_complete());
        assert!(changed.read().is_ok());
    }

    #[test]
    fn streams_that_are_not_there_have_no_port() {
        let mut process = Process::default();
        assert!(open(StreamFds::default(), 1, &mut process).unwrap().ports.is_empty());
        assert_eq!((process.stdio, process.descriptors.len()), (StdioPorts::default(), 0));
    }

    #[test]
    fn drawn_ports_are_not_in_a_row() {
        let mut process = Process::default();
        let drawn =
            super::open(three(), Numbers::Drawn(9, BTreeSet::new()), &mut process, &Arc::new(changed()));
        let ports: Vec<u32> = drawn.unwrap().ports.iter().map(|(port, _)| *port).collect();
        assert!(ports.windows(2).any(|pair| pair[0].wrapping_add(1) != pair[1]), "{ports:?}");
    }

    #[test]
    fn the_reader_of_a_stream_sees_its_end_when_the_guest_ends_it() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let fds = StreamFds { stdout: Some(writer.into()), ..StreamFds::default() };
        let mut made = open(fds, 1, &mut Process::default()).unwrap();
        let (_, port) = made.ports.first_mut().unwrap();
        drop(port.connect(1).unwrap());
        port.closed(1);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_terminal_goes_both_ways_and_descriptors_as_they_are_open() {
        let passed = |number, read, write| PassedFd { number, fd: null().unwrap(), read, write };
        let fds = StreamFds {
            terminal: Some(TerminalFds { input: null().unwrap(), output: null().unwrap() }),
            others: vec![passed(3, true, false), passed(4, false, true), passed(5, true, true)],
            ..StreamFds::default()
        };
        let mut process = Process::default();
        let mut made = open(fds, 10, &mut process).unwrap();
        assert_eq!(process.stdio, StdioPorts { terminal: Some(13), ..StdioPorts::default() });
        let expected = [(3, 14, true, false), (4, 15, false, true), (5, 16, true, true)];
        let told = process.descriptors.iter().map(|d| (d.fd, d.port, d.read, d.write));
        assert_eq!(told.collect::<Vec<_>>(), expected);
        let ways = [(13, (true, true)), (14, (true, false)), (15, (false, true)), (16, (true, true))];
        for ((port, listener), way) in made.ports.iter_mut().zip(ways) {
            let stream = listener.connect(1).unwrap();
            assert_eq!((*port, (stream.input.is_some(), stream.output.is_some())), way);
        }
        assert!(made.outputs.has_terminal());
        for (_, listener) in &mut made.ports {
            assert!(!made.outputs.are_complete());
            listener.closed(1);
        }
        assert!(made.outputs.are_complete());
    }
}
