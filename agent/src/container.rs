//! One container in the guest, from `Configure` to `Exited`.
//!
//! ```text
//! Preparing --Ready--> Prepared --Start--> Starting --exec--> Running
//!     |                                        |                 |
//!     +------------- Failed -------------------+                 +--> all processes reaped, streams drained: Exited
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use drupe_protocol::frame::Decoder;
use drupe_protocol::{ExitStatus, Failure, GuestMessage};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::Pid;

use crate::failure::{Named, setup};
use crate::spawn::Spawned;
use crate::stdio::Relay;
use crate::sys::Process;
use crate::{clock, dial, sys};

/// A container whose process exists.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    phase: Phase,
    main: Member,
    init: Option<Member>,
    report: Option<OwnedFd>,
    decoder: Decoder,
    relays: Vec<Relay>,
    failure: Option<Failure>,
    drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Prepared,
    Starting,
    Running,
}

/// A process of the container that is the agent's child.
#[derive(Debug)]
struct Member {
    process: Process,
    status: Option<ExitStatus>,
}

impl Container {
    /// A container in preparation.
    pub(crate) fn new(id: String, spawned: Spawned) -> Self {
        let member = |process| Member { process, status: None };
        Self {
            id,
            phase: Phase::Preparing,
            main: member(spawned.main),
            init: spawned.init.map(member),
            report: Some(spawned.report),
            decoder: Decoder::new(),
            relays: spawned.relays,
            failure: None,
            drained: false,
        }
    }

    /// Adds what the container waits for.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.report.iter().map(|report| PollFd::from_borrowed_fd(report.as_fd(), PollFlags::IN)));
        if self.streams_flow() {
            self.relays.iter().for_each(|relay| relay.watch(fds));
        }
    }

    /// Takes the answers to [`Container::watch`], in its order.
    pub(crate) fn wake(
        &mut self,
        answers: &mut impl Iterator<Item = PollFlags>,
        messages: &mut Vec<GuestMessage>,
    ) {
        let reported = self.report.is_some() && answers.next().is_some_and(|answer| !answer.is_empty());
        if self.streams_flow() {
            self.relays.iter_mut().for_each(|relay| relay.wake(answers));
        }
        if reported {
            self.read_report(messages);
        }
    }

    /// Lets the prepared process execute its program.
    pub(crate) fn start(&mut self) {
        match &self.report {
            Some(report) if self.phase == Phase::Prepared => {
                // When the process is gone its end will tell.
                let _ = send(report, &[1], SendFlags::NOSIGNAL);
                self.phase = Phase::Starting;
            }
            _ => crate::log::note(format_args!("container {:?}: start in phase {:?}", self.id, self.phase)),
        }
    }

    /// Delivers a signal to the main process, if it still exists.
    pub(crate) fn signal(&self, signal: i32) {
        if self.main.status.is_none() {
            let sent = sys::send_signal(self.main.process.pidfd.as_fd(), signal);
            if let Err(error) = sent.filter_gone() {
                crate::log::note(format_args!("container {:?}: signal {signal}: {error}", self.id));
            }
        }
    }

    /// Takes note that a child has ended, if it is of this container.
    pub(crate) fn reaped(&mut self, pid: Pid, status: ExitStatus, messages: &mut Vec<GuestMessage>) -> bool {
        if let Some(init) = self.init.as_mut().filter(|init| init.process.pid == pid) {
            init.status = Some(status);
            return true;
        }
        if self.main.process.pid != pid {
            return false;
        }
        self.main.status = Some(status);
        // Its exec may not have been noticed yet: `Started` comes before `Exited`.
        self.read_report(messages);
        self.report = None;
        // The kernel ends the rest of a pid namespace with its first process.
        self.kill();
        true
    }

    /// Ends every process of the container.
    pub(crate) fn kill(&self) {
        for member in self.init.iter().chain([&self.main]).filter(|member| member.status.is_none()) {
            let _ = sys::send_signal(member.process.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// The last message about this container, once nothing of it is left.
    pub(crate) fn last_message(&mut self) -> Option<GuestMessage> {
        let status = self.main.status?;
        if self.init.as_ref().is_some_and(|init| init.status.is_none()) {
            return None;
        }
        let container = self.id.clone();
        if self.phase == Phase::Preparing && self.failure.is_none() {
            let text = format_args!("preparation ended early with {status:?}");
            self.failure = Some(setup("process", text));
        }
        if let Some(failure) = self.failure.take() {
            return Some(GuestMessage::Failed { container, failure });
        }
        if !self.drained {
            self.drained = true;
            self.relays.iter_mut().for_each(Relay::finish);
        }
        self.relays.iter().all(Relay::is_done).then_some(GuestMessage::Exited { container, status })
    }

    /// Connections are waited for when the process is ready; until then there is nothing to relay.
    fn streams_flow(&self) -> bool {
        self.phase != Phase::Preparing
    }

    fn read_report(&mut self, messages: &mut Vec<GuestMessage>) {
        let mut bytes = [0; 4096];
        while let Some(report) = &self.report {
            match recv(report, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    self.report = None;
                    if self.phase == Phase::Starting && self.failure.is_none() {
                        self.phase = Phase::Running;
                        messages.push(GuestMessage::Started {
                            container: self.id.clone(),
                            pid: self.main.process.pid.as_raw_pid(),
                            now_us: clock::now_us(),
                        });
                    }
                }
                Ok((_, length)) => self.decoder.push(bytes.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            while let Ok(Some(message)) = self.decoder.take::<GuestMessage>() {
                self.take_report(message, messages);
            }
        }
    }

    fn take_report(&mut self, message: GuestMessage, messages: &mut Vec<GuestMessage>) {
        match message {
            GuestMessage::Failed { failure, .. } => self.failure = Some(failure),
            ready @ GuestMessage::Ready { .. } => match self.await_streams() {
                Ok(()) => {
                    self.phase = Phase::Prepared;
                    messages.push(ready);
                }
                Err(failure) => {
                    self.failure = Some(failure);
                    self.kill();
                }
            },
            _ => {}
        }
    }

    fn await_streams(&self) -> Result<(), Failure> {
        let mut sockets = self.relays.iter().filter_map(Relay::socket);
        sockets.try_for_each(dial::established).named("process.stdio", "connection to the host")
    }
}

/// A process that has ended is no error for who signals it.
trait FilterGone {
    fn filter_gone(self) -> io::Result<()>;
}

impl FilterGone for io::Result<()> {
    fn filter_gone(self) -> io::Result<()> {
        match self {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}
