//! A container that stands still, in two layers: the guest freezes its processes, then the machine's processors stop.
//!
//! ```text
//! Running --(pause)--> Freezing --Frozen, or too late--> Paused --(resume)--> Thawing --Thawed, or too late--> Running
//! ```
//!
//! While it is paused the processors run for as long as the guest has something to answer, and the processes stay
//! frozen. The guest gets the time of day before they go on: none of them sees a clock that stood still. A guest that
//! does not answer is not waited for: its processors stop, whatever it does.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use drupe_protocol::{Answer, Question};
use event_manager::EventOps;

use super::MonitorError;
use super::supervisor::Supervisor;
use super::tasks;
use super::timer::Timer;
use crate::container::Status;
use crate::container::status::{Refusal, Verb};
use crate::control::Reply;
use crate::text::printable;

/// How long the guest may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// To freeze: as long as runc waits for a cgroup.
    pub(crate) freeze: Duration,
    /// To answer while it is paused, or to thaw: less than the client waits.
    pub(crate) answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { freeze: Duration::from_secs(10), answer: Duration::from_secs(50) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Freezing,
    Paused,
    Thawing,
}

/// How far the container is from standing still.
#[derive(Debug)]
pub(super) struct Pause {
    phase: Phase,
    /// The question whose answer ends the phase.
    question: Option<u32>,
    /// Clients that wait for the end of the phase.
    waiters: Vec<u32>,
    /// Questions that the processors run for.
    awaited: BTreeSet<u32>,
    /// Whether the processors stand still.
    is_stopped: bool,
    timer: Timer,
    bounds: Bounds,
}

impl Pause {
    pub(super) fn new(bounds: Bounds) -> io::Result<Self> {
        Ok(Self {
            phase: Phase::Running,
            question: None,
            waiters: Vec::new(),
            awaited: BTreeSet::new(),
            is_stopped: false,
            timer: Timer::new()?,
            bounds,
        })
    }

    /// Whether the container counts as paused.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.phase, Phase::Paused | Phase::Thawing)
    }

    /// What announces that the guest takes too long.
    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// The processors run until this question is answered.
    pub(super) fn await_answer(&mut self, number: u32) {
        self.awaited.insert(number);
    }

    fn set_timer(&self, after: Duration) -> Result<(), MonitorError> {
        self.timer.set_once(after).map_err(MonitorError::Descriptors)
    }

    fn stop_timer(&self) -> Result<(), MonitorError> {
        self.timer.stop().map_err(MonitorError::Descriptors)
    }
}

impl Supervisor {
    pub(super) fn request_pause(&mut self, client: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        if !self.begin(client, Verb::Pause, Phase::Freezing, ops)? {
            return Ok(());
        }
        self.tasks.pause.question = self.ask_guest(Question::Freeze, ops)?;
        if self.tasks.pause.question.is_none() { self.frozen(ops) } else { Ok(()) }
    }

    pub(super) fn request_resume(&mut self, client: u32, ops: &mut EventOps) -> Result<(), MonitorError> {
        if !self.begin(client, Verb::Resume, Phase::Thawing, ops)? {
            return Ok(());
        }
        self.send(&tasks::clock(), ops)?;
        self.tasks.pause.question = self.ask_guest(Question::Thaw, ops)?;
        if self.tasks.pause.question.is_none() { self.thawed(&not_thawed(), ops) } else { Ok(()) }
    }

    /// Begins a phase, whose end the client waits for. `false`: the guest is not to be asked, since the client is refused, or
    /// another one has begun the phase.
    fn begin(
        &mut self,
        client: u32,
        verb: Verb,
        phase: Phase,
        ops: &mut EventOps,
    ) -> Result<bool, MonitorError> {
        if let Some(refusal) = self.refusal(verb) {
            return self.reply(client, &refusal, ops).map(|()| false);
        }
        let pause = &mut self.tasks.pause;
        pause.waiters.push(client);
        if pause.phase == phase {
            return Ok(false);
        }
        pause.phase = phase;
        let bound = if phase == Phase::Freezing { pause.bounds.freeze } else { pause.bounds.answer };
        pause.set_timer(bound)?;
        Ok(true)
    }

    /// A signal is on its way: while processes are frozen the processors run until it has had its effect.
    pub(super) fn await_signal(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        if matches!(self.tasks.pause.phase, Phase::Freezing | Phase::Paused)
            && let Some(number) = self.ask_guest(Question::Freeze, ops)?
        {
            self.tasks.pause.await_answer(number);
        }
        Ok(())
    }

    /// Asks something that no client has asked. `None`: the guest owes too many answers.
    fn ask_guest(&mut self, question: Question, ops: &mut EventOps) -> Result<Option<u32>, MonitorError> {
        match self.tasks.ask(question) {
            Ok((number, message)) => {
                self.send(&message, ops)?;
                Ok(Some(number))
            }
            Err(busy) => {
                log::warn!("{busy}");
                Ok(None)
            }
        }
    }

    /// Takes note of an answer. `true`: it is about the pause, and no client has asked for it.
    pub(super) fn note_answer(
        &mut self,
        number: u32,
        answer: &Answer,
        ops: &mut EventOps,
    ) -> Result<bool, MonitorError> {
        let pause = &mut self.tasks.pause;
        pause.awaited.remove(&number);
        if pause.question != Some(number) {
            return Ok(false);
        }
        pause.question = None;
        let reply = match answer {
            Answer::Failed(failure) => {
                let text = printable(&format!("{}: {}", failure.field, failure.message));
                log::warn!("the guest: {text}");
                Reply::failed(text)
            }
            _ => Reply::Done,
        };
        match pause.phase {
            Phase::Freezing => self.frozen(ops)?,
            Phase::Thawing => self.thawed(&reply, ops)?,
            Phase::Running | Phase::Paused => {}
        }
        Ok(true)
    }

    /// The processors may stop, since the processes stand still, or cannot be made to.
    fn frozen(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        let pause = &mut self.tasks.pause;
        pause.phase = Phase::Paused;
        pause.question = None;
        if pause.awaited.is_empty() {
            pause.stop_timer()?
        } else {
            pause.set_timer(pause.bounds.answer)?
        }
        self.settle()?;
        self.lifecycle.changed(Status::Paused);
        self.tell_waiters(&Reply::Done, ops)
    }

    /// The processes go on, or cannot be made to.
    fn thawed(&mut self, reply: &Reply, ops: &mut EventOps) -> Result<(), MonitorError> {
        let pause = &mut self.tasks.pause;
        pause.phase = Phase::Running;
        pause.question = None;
        pause.stop_timer()?;
        self.settle()?;
        let status = self.status();
        self.lifecycle.changed(status);
        self.tell_waiters(reply, ops)
    }

    fn tell_waiters(&mut self, reply: &Reply, ops: &mut EventOps) -> Result<(), MonitorError> {
        let waiters = std::mem::take(&mut self.tasks.pause.waiters);
        waiters.into_iter().try_for_each(|client| self.reply(client, reply, ops))
    }

    /// The container's process has ended: what is left of it must not stand still.
    pub(super) fn end_pause(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        let pause = &mut self.tasks.pause;
        let refusal = if pause.is_paused() { Refusal::NotPaused } else { Refusal::NotRunning };
        pause.phase = Phase::Running;
        pause.question = None;
        pause.stop_timer()?;
        self.tell_waiters(&Reply::failed(refusal.message(self.conversation.container())), ops)
    }

    /// The guest has taken too long.
    pub(super) fn give_up_pause(&mut self, ops: &mut EventOps) -> Result<(), MonitorError> {
        if !self.tasks.pause.timer.take().map_err(MonitorError::Descriptors)? {
            return Ok(());
        }
        match self.tasks.pause.phase {
            Phase::Running => Ok(()),
            Phase::Freezing => {
                log::warn!("the guest did not freeze the container's processes in time");
                self.frozen(ops)
            }
            Phase::Thawing => self.thawed(&not_thawed(), ops),
            Phase::Paused => {
                let awaited = std::mem::take(&mut self.tasks.pause.awaited);
                self.settle()?;
                let reply = Reply::failed("the container is paused, and its guest does not answer");
                for client in self.tasks.forget(&awaited) {
                    self.reply(client, &reply, ops)?;
                }
                Ok(())
            }
        }
    }

    /// Lets the processors run or stand still, as they should by now.
    pub(super) fn settle(&mut self) -> Result<(), MonitorError> {
        let pause = &mut self.tasks.pause;
        let stops = pause.phase == Phase::Paused && pause.awaited.is_empty();
        if stops == pause.is_stopped {
            return Ok(());
        }
        pause.is_stopped = stops;
        if stops {
            pause.stop_timer()?;
            self.tasks.machine.pause();
        } else {
            if pause.phase == Phase::Paused {
                pause.set_timer(pause.bounds.answer)?;
            }
            self.tasks.machine.resume();
        }
        Ok(())
    }
}

fn not_thawed() -> Reply {
    Reply::failed("the guest did not let the container's processes go on: it does not answer")
}
