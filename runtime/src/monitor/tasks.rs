//! What clients ask about the workload while it runs: other processes, terminals, pausing, numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drupe_protocol::{
    Answer, CONTROL_PORT, ExitStatus, GuestMessage, HostMessage, Process, Question, WindowSize,
};
use drupe_vmm::{FsCounts, FsHandle, MachineHandle};
use event_manager::EventOps;
use vmm_sys_util::eventfd::EventFd;

use super::MonitorError;
use super::conversation::State;
use super::pause::{Bounds, Pause};
use super::pending::{Busy, Pending, TaskEvent};
use super::stdio::{self, Numbers, Outputs, StreamFds, Streams, TerminalFds};
use super::supervisor::Supervisor;
use super::timer::Timer;
use crate::container::status::{self, Verb, Verdict};
use crate::control::{Reply, Request};
use crate::descriptors::PassedFd;

/// The first port of execs; those below are the container's own process's.
const FIRST_PORT: u32 = CONTROL_PORT + 1024;
/// How often the output of a process that has ended is looked at, until the guest has ended it.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// How many looks in a row may find output that could be written, and a guest that does not end it.
const DRAIN_PATIENCE: u32 = 10;

/// What the supervisor does with its machine, beside ending it.
pub(crate) trait Controls {
    /// The guest stands still.
    fn pause(&self);
    /// It goes on.
    fn resume(&self);
    /// The guest can connect to a port.
    fn listen(&self, port: stdio::Port);
    /// It cannot any more, and what is connected ends.
    fn forget(&self, port: u32);
    /// What its shared filesystem has done.
    fn filesystem(&self) -> FsCounts;
}

impl Controls for MachineHandle {
    fn pause(&self) {
        MachineHandle::pause(self);
    }

    fn resume(&self) {
        MachineHandle::resume(self);
    }

    fn listen(&self, (port, listener): stdio::Port) {
        self.ports().add(port, listener);
    }

    fn forget(&self, port: u32) {
        self.ports().remove(port);
    }

    fn filesystem(&self) -> FsCounts {
        self.shares().map(FsHandle::counts).unwrap_or_default()
    }
}

/// What is under way for clients.
pub(crate) struct Tasks {
    pending: Pending,
    execs: BTreeMap<u32, Exec>,
    /// Who asked a question.
    askers: BTreeMap<u32, u32>,
    pub(super) pause: Pause,
    pub(super) machine: Box<dyn Controls>,
    /// Written when a stream ends.
    changed: Arc<EventFd>,
    timer: Timer,
}

/// A process of an exec.
#[derive(Debug)]
struct Exec {
    /// Who asked for it; `None` when that one has gone.
    client: Option<u32>,
    outputs: Arc<Outputs>,
    ports: Vec<u32>,
    /// How it ended; only its output is waited for then.
    status: Option<ExitStatus>,
    patience: u32,
}

impl Tasks {
    /// Nothing yet. `changed` is written when a stream of an exec ends.
    pub(crate) fn new(
        container: &str,
        machine: Box<dyn Controls>,
        changed: Arc<EventFd>,
        bounds: Bounds,
    ) -> io::Result<Self> {
        Ok(Self {
            pending: Pending::new(container),
            execs: BTreeMap::new(),
            askers: BTreeMap::new(),
            pause: Pause::new(bounds)?,
            machine,
            changed,
            timer: Timer::new()?,
        })
    }

    /// Whether the container counts as paused.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_paused()
    }

    /// Makes a question, and what to tell the guest of it.
    pub(super) fn ask(&mut self, question: Question) -> Result<(u32, HostMessage), Busy> {
        self.pending.ask(question)
    }

    /// Forgets who asked these questions: those are to be told that there is no answer.
    pub(super) fn forget(&mut self, questions: &BTreeSet<u32>) -> Vec<u32> {
        questions.iter().filter_map(|number| self.askers.remove(number)).collect()
    }

    /// What announces that output should be looked at again.
    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Makes an exec, and what to tell the guest of it.
    fn exec(&mut self, client: u32, mut process: Process, fds: StreamFds) -> Result<HostMessage, Reply> {
        let failed = |error: &dyn std::error::Error| Reply::failed(crate::text::chain(error));
        let used = self.execs.values().flat_map(|exec| exec.ports.iter().copied()).collect();
        let numbers = Numbers::Drawn(FIRST_PORT, used);
        let Streams { ports, outputs } =
            stdio::open(fds, numbers, &mut process, &self.changed).map_err(|error| failed(&error))?;
        let (exec, message) = self.pending.exec(process).map_err(|error| failed(&error))?;
        let numbers = ports.iter().map(|(number, _)| *number).collect();
        for port in ports {
            self.machine.listen(port);
        }
        let exec_state =
            Exec { client: Some(client), outputs, ports: numbers, status: None, patience: DRAIN_PATIENCE };
        self.execs.insert(exec, exec_state);
        Ok(message)
    }

    /// Forgets an exec; who asked for it is still to be told.
    fn remove(&mut self, exec: u32) -> Option<Exec> {
        let gone = self.execs.remove(&exec)?;
        for port in &gone.ports {
            self.machine.forget(*port);
        }
        Some(gone)
    }

    /// An exec whose process has ended and whose output is delivered, or given up.
    fn take_complete(&mut self) -> Option<(Option<u32>, ExitStatus)> {
        let (&exec, status) = self.execs.iter().find_map(|(exec, state)| {
            let status = state.status?;
            (state.outputs.are_complete() || state.patience == 0).then_some((exec, status))
        })?;
        Some((self.remove(exec)?.client, status))
    }

    /// What is left to tell when the container is over: how those ended whose output was waited for.
    pub(super) fn ended(&self) -> Vec<(u32, Reply)> {
        let ended = self.execs.values();
        ended.filter_map(|exec| Some((exec.client?, Reply::ExecExited { status: exec.status? }))).collect()
    }

    fn is_draining(&self) -> bool {
        self.execs.values().any(|exec| exec.status.is_some())
    }

    /// What tells the client's execs something.
    fn messages_for(
        &self,
        client: u32,
        message: impl Fn(&Pending, u32) -> Option<HostMessage>,
    ) -> Vec<HostMessage> {
        let own = self.execs.iter().filter(|(_, exec)| exec.client == Some(client));
        own.filter_map(|(&number, _)| message(&self.pending, number)).collect()
    }
}

/// The host's time of day, for the guest.
pub(super) fn clock() -> HostMessage {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    HostMessage::Clock { unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
}

/// The descriptors that came with an exec, as its process wants them: input and output of its terminal or its three
/// streams, then what it has besides.
fn stream_fds(process: &Process, fds: Vec<OwnedFd>) -> Option<StreamFds> {
    let mut fds = fds.into_iter();
    let mut streams = if process.terminal.is_some() {
        let terminal = TerminalFds { input: fds.next()?, output: fds.next()? };
        StreamFds { terminal: Some(terminal), ..StreamFds::default() }
    } else {
        let (stdin, stdout, stderr) = (fds.next()?, fds.next()?, fds.next()?);
        StreamFds { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), ..StreamFds::default() }
    };
    for descriptor in &process.descriptors {
        let fd = fds.next()?;
        let (read, write) = (descriptor.read, descriptor.write);
        streams.others.push(PassedFd { number: descriptor.fd, fd, read, write });
    }
    fds.next().is_none().then_some(streams)
}

impl Supervisor {
    /// Carries out a request that is about neither start nor the container's own signals.
    pub(super) fn request_task(
        &mut self,
        client: u32,
        request: Request,
        descriptors: Vec<OwnedFd>,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        match request {
            Request::Exec { process } => self.request_exec(client, *process, descriptors, ops),
            Request::SignalExec { signal } => {
                self.tell_execs(client, |pending, exec| pending.signal(exec, signal), ops)?;
                self.await_signal(ops)
            }
            Request::ResizeExec { size } => {
                self.tell_execs(client, |pending, exec| pending.resize(exec, size), ops)
            }
            Request::Processes => self.ask(client, Verb::Ps, Question::Processes, ops),
            Request::Statistics => self.ask(client, Verb::Events, Question::Statistics, ops),
            Request::Filesystem => {
                let counts = self.tasks.machine.filesystem().into();
                self.reply(client, &Reply::Filesystem(counts), ops)
            }
            Request::Update { settings } => self.ask(client, Verb::Update, Question::Update(settings), ops),
            Request::Pause => self.request_pause(client, ops),
            Request::Resume => self.request_resume(client, ops),
            Request::Start | Request::Signal { .. } => Ok(()),
        }
    }

    fn request_exec(
        &mut self,
        client: u32,
        process: Process,
        descriptors: Vec<OwnedFd>,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        // Whether a paused container may be asked is for the client to know: it waits until the guest goes on.
        if let Some(refusal) = self.refusal(Verb::ExecPaused) {
            return self.reply(client, &refusal, ops);
        }
        let Some(fds) = stream_fds(&process, descriptors) else {
            return self.reply(
                client,
                &Reply::failed("exec: not the descriptors that its process needs"),
                ops,
            );
        };
        match self.tasks.exec(client, process, fds) {
            Ok(message) => self.send(&message, ops),
            Err(reply) => self.reply(client, &reply, ops),
        }
    }

    fn tell_execs(
        &mut self,
        client: u32,
        message: impl Fn(&Pending, u32) -> Option<HostMessage>,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        let messages = self.tasks.messages_for(client, message);
        messages.iter().try_for_each(|message| self.send(message, ops))
    }

    pub(super) fn refusal(&self, verb: Verb) -> Option<Reply> {
        match status::verdict(verb, Some(self.status())) {
            Verdict::Allowed => None,
            Verdict::Refused(refusal) => Some(Reply::failed(refusal.message(self.conversation.container()))),
            Verdict::Wait | Verdict::Nothing => Some(Reply::failed("the container is being created")),
        }
    }

    fn ask(
        &mut self,
        client: u32,
        verb: Verb,
        question: Question,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        if let Some(refusal) = self.refusal(verb) {
            return self.reply(client, &refusal, ops);
        }
        match self.tasks.ask(question) {
            Ok((number, message)) => {
                self.tasks.pause.await_answer(number);
                self.tasks.askers.insert(number, client);
                self.send(&message, ops)
            }
            Err(busy) => self.reply(client, &Reply::failed(busy.to_string()), ops),
        }
    }

    /// Takes a message that is about an exec or answers a question. `false`: it is neither.
    pub(super) fn note_task(
        &mut self,
        message: &GuestMessage,
        ops: &mut EventOps,
    ) -> Result<bool, MonitorError> {
        let event = match self.conversation.state() {
            State::Ready | State::Starting | State::Running | State::Exited(_) => {
                self.conversation.check_container(message)?;
                self.tasks.pending.receive(message)?
            }
            State::WaitHello | State::Configuring => None,
        };
        let Some(event) = event else { return Ok(false) };
        match event {
            TaskEvent::ExecStarted { exec, .. } => self.exec_started(exec, ops)?,
            TaskEvent::ExecFailed { exec, failure } => {
                if let Some(client) = self.tasks.remove(exec).and_then(|exec| exec.client) {
                    self.reply(client, &Reply::Answer(Answer::Failed(failure)), ops)?;
                }
            }
            TaskEvent::ExecExited { exec, status } => {
                if let Some(exec) = self.tasks.execs.get_mut(&exec) {
                    exec.status = Some(status);
                }
                self.tasks.timer.set_every(DRAIN_INTERVAL).map_err(MonitorError::Descriptors)?;
            }
            TaskEvent::Answered { number, answer } => {
                if !self.note_answer(number, &answer, ops)?
                    && let Some(client) = self.tasks.askers.remove(&number)
                {
                    self.reply(client, &Reply::Answer(answer), ops)?;
                }
            }
        }
        Ok(true)
    }

    fn exec_started(&mut self, exec: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        match self.tasks.execs.get(&exec).and_then(|exec| exec.client) {
            Some(client) => self.reply(client, &Reply::ExecStarted { exec }, ops),
            // Nobody is left whose process it is.
            None => self.kill_exec(exec, ops),
        }
    }

    fn kill_exec(&mut self, exec: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        match self.tasks.pending.signal(exec, libc::SIGKILL) {
            Some(message) => {
                self.send(&message, ops)?;
                self.await_signal(ops)
            }
            None => Ok(()),
        }
    }

    /// Tells of execs that are over.
    pub(super) fn check_execs(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        while let Some((client, status)) = self.tasks.take_complete() {
            if let Some(client) = client {
                self.reply(client, &Reply::ExecExited { status }, ops)?;
            }
            if !self.tasks.is_draining() {
                self.tasks.timer.stop().map_err(MonitorError::Descriptors)?;
            }
        }
        Ok(())
    }

    /// Looks at output that the guest has not ended.
    pub(super) fn tick_execs(&mut self) -> Result<(), MonitorError> {
        if !self.tasks.timer.take().map_err(MonitorError::Descriptors)? || self.tasks.is_paused() {
            return Ok(());
        }
        for exec in self.tasks.execs.values_mut().filter(|exec| exec.status.is_some()) {
            let waits = exec.outputs.wait_for_reader();
            exec.patience = if waits { DRAIN_PATIENCE } else { exec.patience.saturating_sub(1) };
        }
        Ok(())
    }

    /// A client has ended its connection: what it had running ends with it.
    pub(super) fn client_left(&mut self, client: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        self.tasks.askers.retain(|_, asker| *asker != client);
        let mut orphans = Vec::new();
        for (&number, exec) in &mut self.tasks.execs {
            if exec.client == Some(client) {
                exec.client = None;
                orphans.push(number);
            }
        }
        orphans.into_iter().try_for_each(|exec| self.kill_exec(exec, ops))
    }

    /// The terminal of the container's own process has another size on the host.
    pub(super) fn resize(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        if let (State::Running, Some(size)) = (self.conversation.state(), self.outputs.window_size()) {
            self.send_size(size, ops)?;
        }
        Ok(())
    }

    fn send_size(&mut self, size: WindowSize, ops: &mut EventOps) -> Result<(), MonitorError> {
        let container = self.conversation.container().to_owned();
        self.send(&HostMessage::Resize { container, exec: None, size }, ops)
    }
}
