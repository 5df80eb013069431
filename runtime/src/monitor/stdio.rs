//! The workload's standard streams: each is one vsock connection, joined to a descriptor of this process. The
//! bytes pass through the vsock device alone, which keeps order, back-pressure and ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use drupe_protocol::StdioPorts;
use drupe_vmm::{HostPort, HostStream};
use rustix::event::{PollFd, PollFlags, Timespec};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The guest has not connected the stream.
const IDLE: u8 = 0;
/// The stream is connected.
const OPEN: u8 = 1;
/// The stream has ended, and all of it was written.
const CLOSED: u8 = 2;

/// The two output streams, as far as the end of the container depends on them.
#[derive(Debug)]
pub(crate) struct Outputs {
    states: [AtomicU8; 2],
    changed: EventFd,
}

impl Outputs {
    /// Becomes readable when a stream ends.
    pub(crate) fn changed(&self) -> &EventFd {
        &self.changed
    }

    /// Whether nothing more can come: a stream that the guest never connected has nothing to say after the
    /// exit of its process.
    pub(crate) fn are_complete(&self) -> bool {
        self.states.iter().all(|state| state.load(Ordering::Acquire) != OPEN)
    }

    /// Whether an open stream waits for who reads from us, not for the guest.
    pub(crate) fn wait_for_reader(&self) -> bool {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let descriptors = [stdout.as_fd(), stderr.as_fd()];
        let open = |state: &AtomicU8| state.load(Ordering::Acquire) == OPEN;
        self.states.iter().zip(descriptors).any(|(state, fd)| open(state) && !is_writable(fd))
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    // An error counts as writable: it is no reason to wait.
    rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// What listens on the port of one stream: the agent connects once.
struct StdioPort {
    stream: Option<HostStream>,
    /// The stream's place in [`Outputs::states`], if it is an output.
    output: Option<(usize, Arc<Outputs>)>,
}

impl StdioPort {
    fn set(&self, state: u8) {
        if let Some((index, outputs)) = &self.output {
            if let Some(place) = outputs.states.get(*index) {
                place.store(state, Ordering::Release);
            }
            // An eventfd's write fails only when its counter is full, and then it is readable anyway.
            let _ = outputs.changed.write(1);
        }
    }
}

impl HostPort for StdioPort {
    fn connect(&mut self, _guest_port: u32) -> Option<HostStream> {
        let stream = self.stream.take()?;
        self.set(OPEN);
        Some(stream)
    }

    fn closed(&mut self, _guest_port: u32) {
        self.set(CLOSED);
    }
}

/// A port and what listens on it.
pub(crate) type Port = (u32, Box<dyn HostPort>);

/// Makes the ports of the streams. Descriptors 0 to 2 are open: Rust's start-up puts /dev/null where they are not.
pub(crate) fn ports(ports: &StdioPorts) -> io::Result<(Vec<Port>, Arc<Outputs>)> {
    let outputs = Arc::new(Outputs {
        states: [AtomicU8::new(IDLE), AtomicU8::new(IDLE)],
        changed: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
    });
    let duplicate = |fd: BorrowedFd<'_>| -> io::Result<Option<OwnedFd>> { fd.try_clone_to_owned().map(Some) };
    let mut made: Vec<Port> = Vec::new();
    if let Some(port) = ports.stdin {
        let stream = HostStream { input: duplicate(io::stdin().as_fd())?, output: None };
        made.push((port, Box::new(StdioPort { stream: Some(stream), output: None })));
    }
    let output_ports =
        [(ports.stdout, duplicate(io::stdout().as_fd())?), (ports.stderr, duplicate(io::stderr().as_fd())?)];
    for (index, (port, output)) in output_ports.into_iter().enumerate() {
        if let Some(port) = port {
            let stream = HostStream { input: None, output };
            let output = Some((index, Arc::clone(&outputs)));
            made.push((port, Box::new(StdioPort { stream: Some(stream), output })));
        }
    }
    Ok((made, outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_connected_once_and_its_end_is_told() {
        let all = StdioPorts { stdin: Some(1), stdout: Some(2), stderr: Some(3), terminal: None };
        let (mut made, outputs) = ports(&all).unwrap();
        assert_eq!(made.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(outputs.are_complete());
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
        assert!(outputs.changed().read().is_ok());
    }

    #[test]
    fn streams_that_are_not_asked_for_have_no_port() {
        assert!(ports(&StdioPorts::default()).unwrap().0.is_empty());
    }
}
