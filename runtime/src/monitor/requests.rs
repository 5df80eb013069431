//! The supervisor's clients: verbs of other processes that ask something of it.

use std::os::fd::OwnedFd;

use drupe_protocol::{ExitStatus, HostMessage, SignalTarget};
use event_manager::{EventOps, EventSet, Events};

use super::MonitorError;
use super::conversation::{SignalAction, State};
use super::supervisor::{Ending, KILLED, SESSIONS, Supervisor};
use crate::container::status::{self, Status, Verb, Verdict};
use crate::control::{Listener, Received, Reply, Request, Session};

/// The most clients at a time: others wait until one has gone.
const MOST_SESSIONS: usize = 256;

/// The clients, and where they come from.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) listener: Option<Listener>,
    sessions: std::collections::BTreeMap<u32, Session>,
    next: u32,
    /// Who waits for the program to be executed.
    starter: Option<u32>,
    /// Who waits for the end.
    killers: Vec<u32>,
}

impl Clients {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self { listener, ..Self::default() }
    }
}

impl Supervisor {
    /// Lets those in who wait.
    pub(super) fn accept(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        let Some(listener) = &self.clients.listener else { return Ok(()) };
        while self.clients.sessions.len() < MOST_SESSIONS {
            let Some(session) = listener.accept() else { return Ok(()) };
            let number = SESSIONS.saturating_add(self.clients.next);
            // Numbers come back only after all others were used.
            self.clients.next = self.clients.next.wrapping_add(1) % (u32::MAX - SESSIONS);
            ops.add(Events::with_data_raw(session.fd(), number, EventSet::IN))?;
            self.clients.sessions.insert(number, session);
        }
        ops.remove(Events::empty_raw(listener.fd()))?;
        Ok(())
    }

    /// Reads from a client, and writes to it what was left.
    pub(super) fn serve(&mut self, number: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        loop {
            let Some(session) = self.clients.sessions.get_mut(&number) else { return Ok(()) };
            session.flush();
            match session.receive() {
                Received::Nothing => return self.watch(number, ops),
                Received::Request(request, descriptors) => self.request(number, request, descriptors, ops)?,
                Received::End => return self.part(number, ops),
            }
        }
    }

    /// Answers a client, if it is still there.
    pub(super) fn reply(
        &mut self,
        number: u32,
        reply: &Reply,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        let Some(session) = self.clients.sessions.get_mut(&number) else { return Ok(()) };
        if let Err(error) = session.send(reply) {
            log::warn!("a reply: {error}");
            return self.part(number, ops);
        }
        self.watch(number, ops)
    }

    fn watch(&mut self, number: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        let Some(session) = self.clients.sessions.get(&number) else { return Ok(()) };
        let interest = if session.is_unsent() { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        Ok(ops.modify(Events::with_data_raw(session.fd(), number, interest))?)
    }

    fn part(&mut self, number: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        let Some(session) = self.clients.sessions.remove(&number) else { return Ok(()) };
        ops.remove(Events::empty_raw(session.fd()))?;
        self.client_left(number, ops)?;
        if self.clients.sessions.len() + 1 == MOST_SESSIONS
            && let Some(listener) = &self.clients.listener
        {
            ops.add(Events::with_data_raw(listener.fd(), super::supervisor::LISTENER, EventSet::IN))?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        number: u32,
        request: Request,
        descriptors: Vec<OwnedFd>,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        match request {
            Request::Start => self.request_start(number, ops),
            Request::Signal { signal, all } => self.request_signal(number, signal, all, ops),
            request => self.request_task(number, request, descriptors, ops),
        }
    }

    /// The state that a client sees.
    pub(super) fn status(&self) -> Status {
        match self.conversation.state() {
            State::Exited(_) => Status::Stopped,
            _ if self.tasks.is_paused() => Status::Paused,
            State::WaitHello | State::Configuring => Status::Creating,
            State::Ready | State::Starting => Status::Created,
            State::Running => Status::Running,
        }
    }

    fn request_start(&mut self, number: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        let message = match status::verdict(Verb::Start, Some(self.status())) {
            Verdict::Refused(refusal) => return self.reply(number, &Reply::failed(refusal.message("")), ops),
            _ => self.conversation.start(self.lifecycle.start_state()),
        };
        match message {
            Some(message) => {
                self.clients.starter = Some(number);
                self.send(&message, ops)
            }
            None => self.reply(number, &Reply::failed("the container is being started"), ops),
        }
    }

    fn request_signal(
        &mut self,
        number: u32,
        signal: i32,
        all: bool,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        let target = if all { SignalTarget::All } else { SignalTarget::Main };
        if signal == libc::SIGKILL {
            // Answered at the end.
            self.clients.killers.push(number);
            return self.deliver(signal, target, ops);
        }
        self.deliver(signal, target, ops)?;
        self.reply(number, &Reply::Done, ops)
    }

    /// Hands a signal to the workload, or ends the machine where there is none to get it.
    pub(super) fn deliver(
        &mut self,
        signal: i32,
        target: SignalTarget,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        if signal == libc::SIGKILL && self.tasks.is_paused() {
            // No guest is waited for that stands still.
            self.end(Ok(Ending::Exited(KILLED)));
            return Ok(());
        }
        match self.conversation.signal(signal, target) {
            SignalAction::Send(message) => {
                self.send(&message, ops)?;
                self.await_signal(ops)?;
                if signal == libc::SIGKILL { self.expect_end() } else { Ok(()) }
            }
            SignalAction::Hold | SignalAction::Ignore => Ok(()),
            SignalAction::End => {
                self.end(Ok(match self.conversation.state() {
                    State::Exited(status) => Ending::Exited(status),
                    _ => Ending::Interrupted(signal),
                }));
                Ok(())
            }
        }
    }

    /// Executes the program.
    pub(super) fn start(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        let message: Option<HostMessage> = self.conversation.start(self.lifecycle.start_state());
        message.map_or(Ok(()), |message| self.send(&message, ops))
    }

    /// Tells who waited for it that the program runs.
    pub(super) fn reply_started(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        match self.clients.starter.take() {
            Some(number) => self.reply(number, &Reply::Done, ops),
            None => Ok(()),
        }
    }

    /// Tells those who wait for something that the container is over.
    pub(super) fn reply_ended(&mut self, result: &Result<Ending, MonitorError>) {
        let mut tell = |number, reply: &Reply| {
            if let Some(session) = self.clients.sessions.get_mut(&number) {
                // A client that does not read has gone, or will see the end of the connection.
                let _ = session.send(reply);
            }
        };
        for (number, reply) in self.tasks.ended() {
            tell(number, &reply);
        }
        for number in std::mem::take(&mut self.clients.killers) {
            tell(number, &Reply::Done);
        }
        if let Some(number) = self.clients.starter.take() {
            tell(
                number,
                &match result {
                    Err(error) => {
                        Reply::Failed { message: crate::text::chain(error), status: error.exit_status() }
                    }
                    Ok(_) => Reply::failed("the container was ended before its program was executed"),
                },
            );
        }
    }
}

/// How the end of the container is recorded.
pub(super) fn exit_of(result: &Result<Ending, MonitorError>) -> Option<ExitStatus> {
    match result {
        Ok(Ending::Exited(status)) => Some(*status),
        Ok(Ending::Interrupted(signal)) => u8::try_from(*signal).ok().map(ExitStatus::Signal),
        Err(_) => None,
    }
}
