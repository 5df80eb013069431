//! What runs on the machine's event loop: the control connection, signals, clients, the ends of the streams, timers.
//!
//! It ends the machine as soon as it knows how the container ended, and leaves that in the [`Record`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drupe_protocol::{ExitStatus, GuestMessage, HostMessage, SignalTarget};
use drupe_vmm::MutEventSubscriber;
use event_manager::{EventOps, EventSet, Events};
use vmm_sys_util::eventfd::EventFd;

use super::MonitorError;
use super::control::{Control, ReadOutcome};
use super::conversation::{Conversation, State};
use super::progress::Lifecycle;
use super::requests::{Clients, exit_of};
use super::signals::Signals;
use super::stdio::Outputs;
use super::tasks::{self, Tasks};
use super::timer::Timer;
use crate::container::Status;
use crate::stage::Stages;

/// How long a guest may take to boot: the processor may be emulated, and shared by many that boot at once.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(300);
/// How long its agent may take then to set the container up: it may have much to copy for `tmpcopyup`.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(600);
/// How often the streams are looked at after the exit, until the guest has ended them.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// How many looks in a row may find a stream that could be written to, and a guest that does not end it.
const DRAIN_PATIENCE: u32 = 10;

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its process did.
    Exited(ExitStatus),
    /// A signal to drupe did, before there was a process.
    Interrupted(i32),
}

/// What is known at the end.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stages: Stages,
    /// How the container's process ended, from the moment that this is known.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) result: Option<Result<Ending, MonitorError>>,
}

/// Descriptors, as the event loop tells them apart.
const CONTROL_IN: u32 = 0;
const CONTROL_OUT: u32 = 1;
const SIGNALS: u32 = 2;
const OUTPUTS: u32 = 3;
const TIMER: u32 = 4;
const DEADLINE: u32 = 5;
const TASKS: u32 = 7;
const PAUSE: u32 = 8;
pub(super) const LISTENER: u32 = 6;
/// The first of the clients.
pub(super) const SESSIONS: u32 = 1 << 16;

/// How a workload ended that its machine went away under.
pub(super) const KILLED: ExitStatus = ExitStatus::Signal(9);

/// The subscriber of the event loop.
pub(crate) struct Supervisor {
    pub(crate) conversation: Conversation,
    pub(crate) control: Control,
    pub(crate) signals: Signals,
    pub(crate) outputs: Arc<Outputs>,
    /// Readable when a stream of any process has begun or ended.
    pub(crate) changed: Arc<EventFd>,
    pub(crate) tasks: Tasks,
    /// Bounds the boot and the set-up of the container, then the end of its streams. Between them, and so for `Started`,
    /// nothing is bounded: the hooks that run in the container before its program have timeouts of their own.
    pub(crate) timer: Timer,
    pub(crate) ready_timeout: Duration,
    /// Set when the workload was told to end at once.
    pub(crate) deadline: Timer,
    /// How long it may take to end then.
    pub(crate) kill_timeout: Duration,
    pub(crate) patience: u32,
    pub(crate) record: Rc<RefCell<Record>>,
    pub(crate) lifecycle: Box<dyn Lifecycle>,
    pub(crate) clients: Clients,
    /// The program is executed as soon as it can be.
    pub(crate) starts: bool,
    /// Ends the machine.
    pub(crate) stop: Box<dyn FnMut()>,
}

impl Supervisor {
    /// How patient a new one is.
    pub(crate) const PATIENCE: u32 = DRAIN_PATIENCE;
    /// How long a guest may take to end its workload after SIGKILL, before the machine is ended.
    pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(4);

    pub(super) fn end(&mut self, result: Result<Ending, MonitorError>) {
        if self.has_ended() {
            return;
        }
        self.record.borrow_mut().stages.mark("end");
        self.lifecycle.ended(exit_of(&result));
        self.reply_ended(&result);
        self.record.borrow_mut().result = Some(result);
        (self.stop)();
    }

    fn has_ended(&self) -> bool {
        self.record.borrow().result.is_some()
    }

    fn read_control(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        match self.control.read()? {
            ReadOutcome::Empty => return Ok(()),
            ReadOutcome::Bytes => {}
            ReadOutcome::End => {
                self.conversation.lost()?;
                // The end stays readable, and would wake the loop for ever.
                return Ok(ops.remove(Events::empty_raw(self.control.input()))?);
            }
        }
        while let Some(message) = self.control.next().map_err(|error| self.conversation.malformed(error))? {
            if self.note_task(&message, ops)? {
                continue;
            }
            let answers = self.conversation.receive(&message)?;
            self.note(&message, ops)?;
            for answer in answers {
                self.send(&answer, ops)?;
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, message: &HostMessage, ops: &mut EventOps) -> Result<(), MonitorError> {
        self.control.queue(message)?;
        self.flush(ops)
    }

    fn flush(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        self.control.flush();
        let event = Events::with_data_raw(self.control.output(), CONTROL_OUT, EventSet::OUT);
        // Watched only while there is something to write: an idle pipe is always writable. Removing what is not
        // watched is an error without consequence, so that nothing needs to be remembered.
        let _ = ops.remove(event);
        if self.control.is_unsent() {
            ops.add(event)?;
        }
        Ok(())
    }

    /// What a message means beside its answers.
    fn note(&mut self, message: &GuestMessage, ops: &mut EventOps) -> Result<(), MonitorError> {
        self.mark(message);
        match *message {
            GuestMessage::Hello { .. } => {
                self.timer.set_once(self.ready_timeout).map_err(MonitorError::Descriptors)?;
                // In front of the configuration: what it makes has the right time from the first.
                self.send(&tasks::clock(), ops)
            }
            GuestMessage::Ready { .. } => {
                self.timer.stop().map_err(MonitorError::Descriptors)?;
                self.lifecycle.created()?;
                if self.starts { self.start(ops) } else { Ok(()) }
            }
            GuestMessage::Started { .. } => {
                self.lifecycle.started();
                if self.tasks.is_paused() {
                    // It was executed before it was frozen, and that is told late.
                    self.lifecycle.changed(Status::Paused);
                }
                self.reply_started(ops)
            }
            GuestMessage::Exited { status, .. } => {
                self.record.borrow_mut().status = Some(status);
                self.end_pause(ops)?;
                self.timer.set_every(DRAIN_INTERVAL).map_err(MonitorError::Descriptors)
            }
            GuestMessage::Failed { .. }
            | GuestMessage::ExecStarted { .. }
            | GuestMessage::ExecFailed { .. }
            | GuestMessage::ExecExited { .. }
            | GuestMessage::Answer { .. } => Ok(()),
        }
    }

    fn mark(&self, message: &GuestMessage) {
        let stages = &mut self.record.borrow_mut().stages;
        match *message {
            GuestMessage::Hello { pid1_us, now_us, .. } => {
                stages.mark_guest("guest kernel", pid1_us, now_us);
                stages.mark("agent");
            }
            GuestMessage::Ready { configured_us, mounted_us, now_us, .. } => {
                stages.mark_guest("configured", configured_us, now_us);
                stages.mark_guest("mounted", mounted_us, now_us);
                stages.mark("ready");
            }
            GuestMessage::Started { .. } => stages.mark("started"),
            GuestMessage::Exited { .. } => stages.mark("exited"),
            _ => {}
        }
    }

    fn read_signals(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        while let Some(signal) = self.signals.next() {
            if signal == libc::SIGWINCH && self.outputs.has_terminal() {
                self.resize(ops)?;
            } else {
                self.deliver(signal, SignalTarget::Main, ops)?;
            }
        }
        Ok(())
    }

    /// The workload was told to end at once: the machine is ended if it does not.
    pub(super) fn expect_end(&self) -> Result<(), MonitorError> {
        self.deadline.set_once(self.kill_timeout).map_err(MonitorError::Descriptors)
    }

    fn give_up(&mut self) -> Result<(), MonitorError> {
        if self.deadline.take().map_err(MonitorError::Descriptors)? {
            let status = match self.conversation.state() {
                State::Exited(status) => status,
                _ => KILLED,
            };
            self.end(Ok(Ending::Exited(status)));
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), MonitorError> {
        // It may have been set anew after the loop had learnt that it expired.
        if !self.timer.take().map_err(MonitorError::Descriptors)? {
            return Ok(());
        }
        let status = match self.conversation.state() {
            State::Exited(status) => status,
            State::WaitHello => return Err(MonitorError::NoHello),
            _ => return Err(MonitorError::NoReady),
        };
        self.patience =
            if self.outputs.wait_for_reader() { DRAIN_PATIENCE } else { self.patience.saturating_sub(1) };
        if self.patience == 0 {
            log::warn!("the guest did not end the container's output after the container's end");
            self.end(Ok(Ending::Exited(status)));
        }
        Ok(())
    }

    /// The container has ended when its process has, and all that it wrote was delivered.
    fn check_end(&mut self) {
        if let State::Exited(status) = self.conversation.state()
            && self.outputs.are_complete()
        {
            self.end(Ok(Ending::Exited(status)));
        }
    }

    fn register(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        ops.add(Events::with_data_raw(self.control.input(), CONTROL_IN, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.signals.fd(), SIGNALS, EventSet::IN))?;
        ops.add(Events::with_data(&*self.changed, OUTPUTS, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.tasks.timer().fd(), TASKS, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.tasks.pause.timer().fd(), PAUSE, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.timer.fd(), TIMER, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.deadline.fd(), DEADLINE, EventSet::IN))?;
        if let Some(listener) = &self.clients.listener {
            ops.add(Events::with_data_raw(listener.fd(), LISTENER, EventSet::IN))?;
        }
        self.timer.set_once(HELLO_TIMEOUT).map_err(MonitorError::Descriptors)
    }
}

impl MutEventSubscriber for Supervisor {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = self.register(ops) {
            self.end(Err(error));
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if self.has_ended() {
            return;
        }
        let result = match events.data() {
            CONTROL_IN => self.read_control(ops),
            CONTROL_OUT => self.flush(ops),
            SIGNALS => self.read_signals(ops),
            TIMER => self.tick(),
            DEADLINE => self.give_up(),
            TASKS => self.tick_execs(),
            PAUSE => self.give_up_pause(ops),
            LISTENER => self.accept(ops),
            number if number >= SESSIONS => self.serve(number, ops),
            _ => {
                // Read only to rest it; what changed is looked at below.
                let _ = self.changed.read();
                Ok(())
            }
        };
        match result.and_then(|()| self.check_execs(ops)).and_then(|()| self.settle()) {
            Ok(()) => self.check_end(),
            Err(error) => self.end(Err(error)),
        }
    }
}
