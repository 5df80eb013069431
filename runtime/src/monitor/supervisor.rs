//! What runs on the machine's event loop: the control connection, signals, the ends of the streams, one timer.
//!
//! It ends the machine as soon as it knows how the container ended, and leaves that in the [`Record`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drupe_protocol::{ExitStatus, GuestMessage, HostMessage};
use drupe_vmm::MutEventSubscriber;
use event_manager::{EventOps, EventSet, Events};

use super::MonitorError;
use super::control::{Control, ReadOutcome};
use super::conversation::{Conversation, SignalAction, State};
use super::signals::Signals;
use super::stdio::Outputs;
use super::timer::Timer;
use crate::stage::Stages;

/// How long a guest may take to boot: the processor may be emulated, and shared by many that boot at once.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(300);
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

/// The subscriber of the event loop.
pub(crate) struct Supervisor {
    pub(crate) conversation: Conversation,
    pub(crate) control: Control,
    pub(crate) signals: Signals,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) timer: Timer,
    pub(crate) patience: u32,
    pub(crate) record: Rc<RefCell<Record>>,
    /// Called when the container's program runs.
    pub(crate) started: Box<dyn FnMut()>,
    /// Ends the machine.
    pub(crate) stop: Box<dyn FnMut()>,
}

impl Supervisor {
    /// How patient a new one is.
    pub(crate) const PATIENCE: u32 = DRAIN_PATIENCE;

    fn end(&mut self, result: Result<Ending, MonitorError>) {
        let mut record = self.record.borrow_mut();
        if record.result.is_none() {
            record.stages.mark("end");
            record.result = Some(result);
            drop(record);
            (self.stop)();
        }
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
            let answers = self.conversation.receive(&message)?;
            self.note(&message)?;
            for answer in answers {
                self.send(&answer, ops)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, message: &HostMessage, ops: &mut EventOps) -> Result<(), MonitorError> {
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
    fn note(&mut self, message: &GuestMessage) -> Result<(), MonitorError> {
        let mut record = self.record.borrow_mut();
        let Record { stages, status: exit_status, .. } = &mut *record;
        match *message {
            GuestMessage::Hello { pid1_us, now_us, .. } => {
                stages.mark_guest("guest kernel", pid1_us, now_us);
                stages.mark("agent");
                self.timer.stop().map_err(MonitorError::Descriptors)?;
            }
            GuestMessage::Ready { configured_us, mounted_us, now_us, .. } => {
                stages.mark_guest("configured", configured_us, now_us);
                stages.mark_guest("mounted", mounted_us, now_us);
                stages.mark("ready");
            }
            GuestMessage::Started { .. } => {
                stages.mark("started");
                (self.started)();
            }
            GuestMessage::Exited { status, .. } => {
                stages.mark("exited");
                *exit_status = Some(status);
                self.timer.set_every(DRAIN_INTERVAL).map_err(MonitorError::Descriptors)?;
            }
            GuestMessage::Failed { .. }
            | GuestMessage::ExecStarted { .. }
            | GuestMessage::ExecFailed { .. }
            | GuestMessage::ExecExited { .. }
            | GuestMessage::Answer { .. } => {}
        }
        Ok(())
    }

    fn read_signals(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        while let Some(signal) = self.signals.next() {
            match self.conversation.signal(signal) {
                SignalAction::Send(message) => self.send(&message, ops)?,
                SignalAction::Hold | SignalAction::Ignore => {}
                SignalAction::End => self.end(Ok(match self.conversation.state() {
                    State::Exited(status) => Ending::Exited(status),
                    _ => Ending::Interrupted(signal),
                })),
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), MonitorError> {
        // It may have been set anew after the loop had learnt that it expired.
        if !self.timer.take().map_err(MonitorError::Descriptors)? {
            return Ok(());
        }
        let State::Exited(status) = self.conversation.state() else { return Err(MonitorError::NoHello) };
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
        ops.add(Events::with_data(self.outputs.changed(), OUTPUTS, EventSet::IN))?;
        ops.add(Events::with_data_raw(self.timer.fd(), TIMER, EventSet::IN))?;
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
            _ => {
                // Read only to rest it; what changed is looked at below.
                let _ = self.outputs.changed().read();
                Ok(())
            }
        };
        match result {
            Ok(()) => self.check_end(),
            Err(error) => self.end(Err(error)),
        }
    }
}
