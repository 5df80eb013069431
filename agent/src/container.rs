//! One container in the guest, from `Configure` to `Exited`: its main process, and the execs beside it.

use std::collections::BTreeMap;
use std::path::Path;

use drupe_protocol::{ExitStatus, GuestMessage, HostMessage, Namespaces, SignalTarget, WindowSize};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use crate::exec::Home;
use crate::failure::{Result, setup};
use crate::spawn::Spawned;
use crate::sys::Process;
use crate::task::{End, Event, Phase, Task};
use crate::{cgroup, clock, sys};

/// Execs of one container at a time: each costs the agent descriptors.
pub(crate) const MAX_EXECS: usize = 64;

/// A container whose process exists.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    main: Task,
    init: Option<Init>,
    execs: BTreeMap<u32, Task>,
    namespaces: Namespaces,
}

/// The agent's own first process of a pid namespace.
#[derive(Debug)]
struct Init {
    process: Process,
    ended: bool,
}

/// What the end of a child was for a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// Nothing: it is not of this container.
    Foreign,
    /// The end of an exec.
    Exec,
    /// The end of the container.
    Container,
}

impl Container {
    /// A container in preparation.
    pub(crate) fn new(id: String, spawned: Spawned, namespaces: Namespaces) -> Self {
        Self {
            id,
            main: spawned.main,
            init: spawned.init.map(|process| Init { process, ended: false }),
            execs: BTreeMap::new(),
            namespaces,
        }
    }

    /// Adds what the container waits for.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        self.main.watch(fds);
        self.execs.values().for_each(|exec| exec.watch(fds));
    }

    /// Takes the answers to [`Container::watch`], in its order.
    pub(crate) fn wake(
        &mut self,
        answers: &mut impl Iterator<Item = PollFlags>,
        messages: &mut Vec<GuestMessage>,
    ) {
        let id = &self.id;
        let events = self.main.wake(answers);
        messages.extend(events.into_iter().map(|event| main_message(id, &self.main, event)));
        for (number, exec) in &mut self.execs {
            let events = exec.wake(answers);
            messages.extend(events.into_iter().filter_map(|event| exec_message(id, *number, exec, event)));
        }
    }

    /// Lets the prepared process execute its program; `start` is the host's message.
    pub(crate) fn start(&mut self, start: &HostMessage) {
        if !self.main.start(start) {
            let phase = self.main.phase();
            crate::log::note(format_args!("container {:?}: start in phase {phase:?}", self.id));
        }
    }

    /// Delivers a signal to those that still exist.
    pub(crate) fn signal(&self, cgroups: &Path, target: SignalTarget, signal: i32) {
        match target {
            SignalTarget::Main => self.main.signal(signal),
            SignalTarget::All => {
                cgroup::signal(cgroups, &self.id, self.own_process(), signal);
            }
            SignalTarget::Exec(number) => {
                if let Some(exec) = self.execs.get(&number) {
                    exec.signal(signal);
                }
            }
        }
    }

    /// Changes the size of a terminal, if there is such a one.
    pub(crate) fn resize(&mut self, exec: Option<u32>, size: WindowSize) {
        let task = match exec {
            None => Some(&mut self.main),
            Some(number) => self.execs.get_mut(&number),
        };
        task.into_iter().for_each(|task| task.resize(size));
    }

    /// The process in its cgroup that is the agent's.
    pub(crate) fn own_process(&self) -> Option<Pid> {
        self.init.as_ref().map(|init| init.process.pid)
    }

    /// The process that becomes, or is, the workload.
    pub(crate) fn main_pid(&self) -> Pid {
        self.main.process().pid
    }

    /// Whether that process has ended. What is left of the container goes away by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.main.has_ended()
    }

    /// What an exec needs to know of this container, when it can have one more.
    pub(crate) fn home(&self, exec: u32) -> Result<Home<'_>> {
        if self.main.phase() != Phase::Running || self.main.has_ended() {
            return Err(setup("id", format_args!("{:?}: the container is not running", self.id)));
        }
        if self.execs.contains_key(&exec) {
            return Err(setup("exec", format_args!("{exec}: exists")));
        }
        if self.execs.len() >= MAX_EXECS {
            let text = format_args!("{:?}: {MAX_EXECS} execs at once are the most", self.id);
            return Err(setup("exec", text));
        }
        Ok(Home { id: &self.id, main: self.main.process(), namespaces: &self.namespaces })
    }

    /// Takes an exec in preparation.
    pub(crate) fn add(&mut self, exec: u32, task: Task) {
        self.execs.insert(exec, task);
    }

    /// Takes note that a child has ended, if it is of this container.
    pub(crate) fn reaped(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        messages: &mut Vec<GuestMessage>,
    ) -> Reaped {
        let id = &self.id;
        for (number, exec) in &mut self.execs {
            if let Some(events) = exec.reaped(pid, status) {
                messages.extend(events.into_iter().filter_map(|e| exec_message(id, *number, exec, e)));
                return Reaped::Exec;
            }
        }
        if let Some(init) = self.init.as_mut().filter(|init| !init.ended && init.process.pid == pid) {
            init.ended = true;
            return Reaped::Container;
        }
        let Some(events) = self.main.reaped(pid, status) else { return Reaped::Foreign };
        messages.extend(events.into_iter().map(|event| main_message(id, &self.main, event)));
        // The kernel ends the rest of a pid namespace with its first process.
        self.kill();
        Reaped::Container
    }

    /// Ends every process of the container.
    pub(crate) fn kill(&self) {
        if let Some(init) = self.init.as_ref().filter(|init| !init.ended) {
            sys::kill(&init.process);
        }
        self.main.signal(libc::SIGKILL);
        self.execs.values().for_each(|exec| exec.signal(libc::SIGKILL));
    }

    /// Says which execs have ended, and with true that nothing of the container is left.
    pub(crate) fn ended(&mut self, messages: &mut Vec<GuestMessage>) -> bool {
        let id = &self.id;
        self.execs.retain(|number, exec| {
            let (container, exec_number) = (id.clone(), *number);
            let message = match exec.end() {
                None => return true,
                Some(End::Failed(failure)) => {
                    GuestMessage::ExecFailed { container, exec: exec_number, failure }
                }
                // Killed between its report and its start.
                Some(End::Exited(status)) if exec.phase() != Phase::Running => {
                    let failure = setup("process", format_args!("ended before its start with {status:?}"));
                    GuestMessage::ExecFailed { container, exec: exec_number, failure }
                }
                Some(End::Exited(status)) => {
                    GuestMessage::ExecExited { container, exec: exec_number, status }
                }
            };
            messages.push(message);
            false
        });
        if !self.execs.is_empty() || self.init.as_ref().is_some_and(|init| !init.ended) {
            return false;
        }
        let container = self.id.clone();
        let message = match self.main.end() {
            None => return false,
            Some(End::Failed(failure)) => GuestMessage::Failed { container, failure },
            Some(End::Exited(status)) => GuestMessage::Exited { container, status },
        };
        messages.push(message);
        true
    }
}

fn main_message(id: &str, task: &Task, event: Event) -> GuestMessage {
    match event {
        Event::Ready(ready) => ready,
        Event::Started => GuestMessage::Started {
            container: id.to_owned(),
            pid: task.process().pid.as_raw_pid(),
            now_us: clock::now_us(),
        },
    }
}

/// An exec that is ready starts at once.
fn exec_message(id: &str, exec: u32, task: &mut Task, event: Event) -> Option<GuestMessage> {
    let container = id.to_owned();
    match event {
        Event::Ready(_) => {
            task.start(&HostMessage::Start { container, state: String::new() });
            None
        }
        Event::Started => {
            let pid = task.process().pid.as_raw_pid();
            Some(GuestMessage::ExecStarted { container, exec, pid })
        }
    }
}
