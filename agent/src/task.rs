//! One process that the agent makes in a container, the main one or an exec's, from its clone to its end.
//!
//! ```text
//! Preparing --Ready--> Prepared --start--> Starting --exec--> Running
//!     |                                        |                 |
//!     +------------- Failed -------------------+                 +--> reaped, streams drained: Exited
//! ```

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{ExitStatus, Failure, GuestMessage, HostMessage, WindowSize};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::Pid;

use crate::failure::{Named, cause, setup};
use crate::streams::Streams;
use crate::sys;
use crate::sys::Process;

/// A process in the agent's care.
#[derive(Debug)]
pub(crate) struct Task {
    process: Process,
    phase: Phase,
    report: Option<OwnedFd>,
    decoder: Decoder,
    streams: Streams,
    status: Option<ExitStatus>,
    failure: Option<Failure>,
    drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Preparing,
    Prepared,
    Starting,
    Running,
}

/// What a task has come to.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is one exec away from running; this is the message that says so.
    Ready(GuestMessage),
    /// Its program has been executed.
    Started,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Its program was never executed.
    Failed(Failure),
    /// Its program ended, and its streams are drained.
    Exited(ExitStatus),
}

impl Task {
    /// A task in preparation, whose child reports over `report` (see [`crate::report`]).
    pub(crate) fn new(process: Process, report: OwnedFd, streams: Streams) -> Self {
        Self {
            process,
            phase: Phase::Preparing,
            report: Some(report),
            decoder: Decoder::new(),
            streams,
            status: None,
            failure: None,
            drained: false,
        }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Adds what the task waits for.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.report.iter().map(|report| PollFd::from_borrowed_fd(report.as_fd(), PollFlags::IN)));
        if self.streams_flow() {
            self.streams.watch(fds);
        }
    }

    /// Takes the answers to [`Task::watch`], in its order.
    pub(crate) fn wake(&mut self, answers: &mut impl Iterator<Item = PollFlags>) -> Vec<Event> {
        let reported = self.report.is_some() && answers.next().is_some_and(|answer| !answer.is_empty());
        if self.streams_flow() {
            self.streams.wake(answers);
        }
        if reported { self.read_report() } else { Vec::new() }
    }

    /// Lets the prepared process execute its program. False when it is not the time for it.
    pub(crate) fn start(&mut self, start: &HostMessage) -> bool {
        let Some(report) = self.report.as_ref().filter(|_| self.phase == Phase::Prepared) else {
            return false;
        };
        let mut left = frame::encode(start).unwrap_or_default();
        while !left.is_empty() {
            match send(report, &left, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(left.drain(..sent.min(left.len()))),
                Err(Errno::INTR) => {}
                // When the process is gone its end will tell.
                Err(_) => break,
            }
        }
        self.phase = Phase::Starting;
        true
    }

    /// Delivers a signal, if the process still exists.
    pub(crate) fn signal(&self, signal: i32) {
        if self.has_ended() {
            return;
        }
        match sys::send_signal(self.process.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                let pid = self.process.pid;
                crate::log::note(format_args!("process {pid:?}: signal {signal}: {}", cause(&error)));
            }
            _ => {}
        }
    }

    /// Changes the size of its terminal, if it has one.
    pub(crate) fn resize(&mut self, size: WindowSize) {
        self.streams.resize(size);
    }

    /// Takes note of the end of a child, if it is this one.
    pub(crate) fn reaped(&mut self, pid: Pid, status: ExitStatus) -> Option<Vec<Event>> {
        if self.has_ended() || self.process.pid != pid {
            return None;
        }
        self.status = Some(status);
        // Its exec may not have been noticed yet: that it started is told before its end.
        let events = self.read_report();
        self.report = None;
        Some(events)
    }

    /// How it ended, once nothing of it is left. Streams are finished by this.
    pub(crate) fn end(&mut self) -> Option<End> {
        let status = self.status?;
        if self.phase == Phase::Preparing && self.failure.is_none() {
            self.failure = Some(setup("process", format_args!("preparation ended early with {status:?}")));
        }
        if let Some(failure) = self.failure.take() {
            return Some(End::Failed(failure));
        }
        if !self.drained {
            self.drained = true;
            self.streams.finish();
        }
        self.streams.are_done().then_some(End::Exited(status))
    }

    /// Connections are waited for when the process is ready; until then there is nothing to relay.
    fn streams_flow(&self) -> bool {
        self.phase != Phase::Preparing
    }

    fn read_report(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut bytes = [0; 4096];
        while let Some(report) = &self.report {
            match receive(report.as_fd(), &mut bytes) {
                Ok((0, _)) => {
                    self.report = None;
                    if self.phase == Phase::Starting && self.failure.is_none() {
                        self.phase = Phase::Running;
                        events.push(Event::Started);
                    }
                }
                // What comes with a descriptor is no part of a message.
                Ok((_, Some(master))) => self.streams.open_terminal(master),
                Ok((length, None)) => self.decoder.push(bytes.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            while let Ok(Some(message)) = self.decoder.take::<GuestMessage>() {
                events.extend(self.take_report(message));
            }
        }
        events
    }

    fn take_report(&mut self, message: GuestMessage) -> Option<Event> {
        match message {
            GuestMessage::Failed { failure, .. } => self.failure = Some(failure),
            ready @ GuestMessage::Ready { .. } => {
                match self.streams.established().named("process.stdio", "connection to the host") {
                    Ok(()) => {
                        self.phase = Phase::Prepared;
                        return Some(Event::Ready(ready));
                    }
                    Err(failure) => {
                        self.failure = Some(failure);
                        self.signal(libc::SIGKILL);
                    }
                }
            }
            _ => {}
        }
        None
    }
}

/// Reads from a report, and takes the descriptor that may come with it.
fn receive(report: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(report, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}
