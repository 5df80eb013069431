//! The agent's one loop: messages of the host, ends of children, streams of containers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use drupe_protocol::{
    Answer, ExitStatus, Failure, GuestConfig, GuestMessage, HostMessage, Process, Question,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus, set_dumpable_behavior};

use crate::container::{Container, Reaped};
use crate::dial::Dial;
use crate::failure::{Result, setup};
use crate::link::{Link, LinkError};
use crate::question::{About, Questions};
use crate::{Places, cgroup, clock, exec, spawn, sys};

/// Why the agent stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The control connection cannot be used any more.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel refused what the loop is made of.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

/// The agent of one guest, with its connection to the host and its containers.
pub struct Agent<D> {
    link: Link,
    dial: D,
    places: Places,
    children: OwnedFd,
    containers: BTreeMap<String, Container>,
    questions: Questions,
}

impl<D: Dial> Agent<D> {
    /// An agent that talks over `stream`. Signals are blocked from here on: they arrive as data.
    ///
    /// # Errors
    /// Signals could not be blocked.
    pub fn new(stream: OwnedFd, dial: D, places: Places) -> Result<Self, ServeError> {
        // Every child is a copy of this process until its exec, and seen by the container that it joins.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| ServeError::System("protection from ptrace", error.into()))?;
        sys::block_signals().map_err(|error| ServeError::System("signal mask", error))?;
        let children = sys::child_signalfd().map_err(|error| ServeError::System("signalfd", error))?;
        let (containers, questions) = (BTreeMap::new(), Questions::default());
        Ok(Self { link: Link::new(stream), dial, places, children, containers, questions })
    }

    /// Greets the host.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn hello(&mut self, pid1_us: u64) -> Result<(), ServeError> {
        let (version, build) = (drupe_protocol::VERSION, drupe_protocol::BUILD.to_owned());
        Ok(self.link.send(&GuestMessage::Hello { version, build, pid1_us, now_us: clock::now_us() })?)
    }

    /// Makes every controller available to containers.
    pub fn prepare_cgroups(&self) {
        if let Err(error) = cgroup::enable_controllers(&self.places.cgroup) {
            // A container that needs a limit will fail by name; others need no controller.
            crate::log::note(format_args!("cgroup controllers: {error}"));
        }
    }

    /// Serves the host until it closes the connection. No process of a container is left then.
    ///
    /// # Errors
    /// The conversation broke; the containers were ended as well.
    pub fn serve(&mut self) -> Result<(), ServeError> {
        let result = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        for (id, container) in &self.containers {
            container.kill();
            cgroup::kill(&self.places.cgroup, id);
        }
        result
    }

    /// Waits once and acts on what happened. False when the host has closed the connection.
    fn turn(&mut self) -> Result<bool, ServeError> {
        let mut answers = self.wait()?.into_iter();
        let link = answers.next().unwrap_or(PollFlags::empty());
        let child_ended = answers.next().is_some_and(|answer| !answer.is_empty());
        let mut messages = Vec::new();
        for container in self.containers.values_mut() {
            container.wake(&mut answers, &mut messages);
        }
        self.questions.wake(&mut answers, &mut messages);
        let is_still = self.questions.look(&self.places.cgroup, &self.containers);
        if child_ended || is_still {
            self.reap(&mut messages);
        }
        let cgroups = &self.places.cgroup;
        self.containers.retain(|id, container| {
            // "Nothing of it is left" when the host is told.
            let ended = container.ended(&mut messages);
            if ended {
                cgroup::remove(cgroups, id);
            }
            !ended
        });
        self.questions.answer_look(&self.containers, &mut messages);
        let open = link.is_empty() || link == PollFlags::OUT || self.link.receive()?;
        self.link.flush()?;
        self.send(&mut messages)?;
        while let Some(request) = self.link.next()? {
            self.answer(request, &mut messages);
            self.send(&mut messages)?;
        }
        Ok(open)
    }

    fn send(&mut self, messages: &mut Vec<GuestMessage>) -> Result<(), ServeError> {
        messages.drain(..).try_for_each(|message| self.link.send(&message))?;
        Ok(())
    }

    fn wait(&self) -> Result<Vec<PollFlags>, ServeError> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.link.as_fd(), self.link.interest()),
            PollFd::from_borrowed_fd(self.children.as_fd(), PollFlags::IN),
        ];
        self.containers.values().for_each(|container| container.watch(&mut fds));
        self.questions.watch(&mut fds);
        match poll(&mut fds, self.questions.interval()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.iter().map(PollFd::revents).collect()),
            Err(error) => Err(ServeError::System("poll", error.into())),
        }
    }

    fn answer(&mut self, request: HostMessage, messages: &mut Vec<GuestMessage>) {
        match request {
            HostMessage::Configure { config } => {
                let configured_us = clock::now_us();
                if let Err(failure) = self.configure(&config, configured_us) {
                    messages.push(GuestMessage::Failed { container: config.id, failure });
                }
            }
            HostMessage::Start { ref container, .. } => match self.containers.get_mut(container) {
                Some(found) => found.start(&request),
                None => {
                    let failure = no_such(container);
                    messages.push(GuestMessage::Failed { container: container.clone(), failure });
                }
            },
            HostMessage::Signal { container, target, signal } => {
                if let Some(found) = self.containers.get(&container) {
                    found.signal(&self.places.cgroup, target, signal);
                }
            }
            HostMessage::Exec { container, exec, process } => {
                if let Err(failure) = self.exec(&container, exec, &process) {
                    messages.push(GuestMessage::ExecFailed { container, exec, failure });
                }
            }
            HostMessage::Ask { container, number, question } => {
                messages.extend(self.ask(container, number, &question));
            }
            HostMessage::Clock { unix_ns } => clock::set(unix_ns),
            HostMessage::Resize { container, exec, size } => {
                if let Some(found) = self.containers.get_mut(&container) {
                    found.resize(exec, size);
                }
            }
        }
    }

    fn configure(&mut self, config: &GuestConfig, configured_us: u64) -> Result<()> {
        if self.containers.contains_key(&config.id) {
            return Err(setup("id", format_args!("{:?}: exists", config.id)));
        }
        let spawned = spawn::spawn(config, &self.places, &self.dial, configured_us)?;
        let container = Container::new(config.id.clone(), spawned, config.namespaces.clone());
        self.containers.insert(config.id.clone(), container);
        Ok(())
    }

    fn exec(&mut self, container: &str, exec: u32, process: &Process) -> Result<()> {
        let found = self.containers.get_mut(container).ok_or_else(|| no_such(container))?;
        let task = exec::spawn(found.home(exec)?, process, &self.places, &self.dial)?;
        found.add(exec, task);
        Ok(())
    }

    fn ask(&mut self, container: String, number: u32, question: &Question) -> Option<GuestMessage> {
        let Some(found) = self.containers.get(&container) else {
            let answer = Answer::Failed(no_such(&container));
            return Some(GuestMessage::Answer { container, number, answer });
        };
        let about = About { cgroups: &self.places.cgroup, container: &container, own: found.own_process() };
        self.questions.ask(about, number, question)
    }

    /// Reaps every child that has ended, the adopted ones of nobody included.
    fn reap(&mut self, messages: &mut Vec<GuestMessage>) {
        let mut record = [0; 512];
        while rustix::io::read(&self.children, &mut record).is_ok() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(status) = exit_status(status) {
                self.note_end(pid, status, messages);
            }
        }
    }

    fn note_end(&mut self, pid: Pid, status: ExitStatus, messages: &mut Vec<GuestMessage>) {
        if self.questions.reaped(pid, messages) {
            return;
        }
        for (id, container) in &mut self.containers {
            match container.reaped(pid, status, messages) {
                Reaped::Foreign => continue,
                Reaped::Exec => {}
                Reaped::Container => {
                    cgroup::kill(&self.places.cgroup, id);
                    self.questions.forget(id);
                }
            }
            return;
        }
    }
}

impl<D> std::fmt::Debug for Agent<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("link", &self.link)
            .field("containers", &self.containers)
            .finish_non_exhaustive()
    }
}

fn no_such(container: &str) -> Failure {
    setup("id", format_args!("{container:?}: no such container"))
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().and_then(|s| u8::try_from(s).ok()).map(ExitStatus::Signal))
}
