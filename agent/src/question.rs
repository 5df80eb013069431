//! Questions of the host about a container.
//!
//! What the kernel answers by itself is answered at once, what it does in its own time when it is done. A list of processes is made by a child of the agent,
//! since a process can delay whoever looks at it: the loop never waits for a container.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{Answer, GuestMessage, Question};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::Pid;
use rustix::time::Timespec;

use crate::container::Container;
use crate::failure::{Named, Result, setup};
use crate::freezer::Freezer;
use crate::sys::Process;
use crate::{limits, processes, sys};

/// Questions under way at a time: each is a process.
const MAX_PENDING: usize = 16;

/// Whom a question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) cgroups: &'a Path,
    pub(crate) container: &'a str,
    /// The process in its cgroup that is the agent's own.
    pub(crate) own: Option<Pid>,
}

/// Questions that children work on, and those about containers that are to stand still.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    pending: Vec<Pending>,
    freezer: Freezer,
}

#[derive(Debug)]
struct Pending {
    container: String,
    number: u32,
    child: Process,
    answer: Option<OwnedFd>,
    decoder: Decoder,
}

impl Questions {
    /// Answers a question, or begins to.
    pub(crate) fn ask(&mut self, about: About<'_>, number: u32, question: &Question) -> Option<GuestMessage> {
        let About { cgroups, container, .. } = about;
        let answer = match question {
            Question::Statistics => Ok(Some(Answer::Statistics(limits::statistics(cgroups, container)))),
            Question::Update(settings) => {
                limits::update(cgroups, container, settings).map(|()| Some(Answer::Updated))
            }
            Question::Processes => self.list(about, number).map(|()| None),
            Question::Freeze => self.freezer.freeze(cgroups, container, number).map(|()| None),
            Question::Thaw => self.freezer.thaw(cgroups, container).map(|()| Some(Answer::Thawed)),
        };
        let answer = answer.unwrap_or_else(|failure| Some(Answer::Failed(failure)))?;
        Some(GuestMessage::Answer { container: container.to_owned(), number, answer })
    }

    /// Adds what is waited for.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let answers = self.pending.iter().filter_map(|pending| pending.answer.as_ref());
        fds.extend(answers.map(|answer| PollFd::from_borrowed_fd(answer.as_fd(), PollFlags::IN)));
    }

    /// Takes the answers to [`Questions::watch`], in its order.
    pub(crate) fn wake(
        &mut self,
        answers: &mut impl Iterator<Item = PollFlags>,
        messages: &mut Vec<GuestMessage>,
    ) {
        for pending in self.pending.iter_mut().filter(|pending| pending.answer.is_some()) {
            if answers.next().is_some_and(|answer| !answer.is_empty()) {
                pending.read(messages);
            }
        }
    }

    /// Takes note that a child has ended, if it is one of these.
    pub(crate) fn reaped(&mut self, pid: Pid, messages: &mut Vec<GuestMessage>) -> bool {
        let Some(at) = self.pending.iter().position(|pending| pending.child.pid == pid) else { return false };
        let mut pending = self.pending.swap_remove(at);
        pending.read(messages);
        if pending.answer.is_some() {
            pending.give(Answer::Failed(setup("question", "its process ended early")), messages);
        }
        true
    }

    /// How long to wait at most before the next look at containers.
    pub(crate) fn interval(&self) -> Option<&'static Timespec> {
        self.freezer.interval()
    }

    /// Looks at containers that are to stand still. True when children are to be reaped for it.
    pub(crate) fn look(&mut self, cgroups: &Path, containers: &BTreeMap<String, Container>) -> bool {
        self.freezer.look(cgroups, containers)
    }

    /// Answers what that look showed.
    pub(crate) fn answer_look(
        &mut self,
        containers: &BTreeMap<String, Container>,
        messages: &mut Vec<GuestMessage>,
    ) {
        self.freezer.answer(containers, messages);
    }

    /// Ends what works on questions about a container.
    pub(crate) fn forget(&self, container: &str) {
        self.pending
            .iter()
            .filter(|pending| pending.container == container)
            .for_each(|pending| sys::kill(&pending.child));
    }

    fn list(&mut self, about: About<'_>, number: u32) -> Result<()> {
        if self.pending.len() >= MAX_PENDING {
            return Err(setup("question", format_args!("{MAX_PENDING} at once are the most")));
        }
        let (ours, theirs) = UnixStream::pair().named("question", "socket")?;
        let child = sys::clone_process(0, None).named("question", "clone")?;
        let Some(child) = child else { answer(theirs, about) };
        self.pending.push(Pending {
            container: about.container.to_owned(),
            number,
            child,
            answer: Some(ours.into()),
            decoder: Decoder::new(),
        });
        Ok(())
    }
}

impl Pending {
    fn read(&mut self, messages: &mut Vec<GuestMessage>) {
        let mut bytes = [0; 16 << 10];
        while let Some(answer) = &self.answer {
            match recv(answer, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => break,
                Ok((_, length)) => self.decoder.push(bytes.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => continue,
                Err(_) => break,
            }
            if let Ok(Some(answer)) = self.decoder.take() {
                self.give(answer, messages);
            }
        }
    }

    fn give(&mut self, answer: Answer, messages: &mut Vec<GuestMessage>) {
        self.answer = None;
        let container = self.container.clone();
        messages.push(GuestMessage::Answer { container, number: self.number, answer });
    }
}

/// The child's life.
fn answer(stream: UnixStream, about: About<'_>) -> ! {
    // However long it takes, no stream of a process stays open because of it.
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let Ok([stream]) = sys::keep_only(standard, &[], [stream.as_fd()]) else { sys::exit(1) };
    let mut stream = UnixStream::from(stream);
    let list = processes::list(about.cgroups, about.container, about.own);
    let answer = match list.named("question", format_args!("processes of {:?}", about.container)) {
        Ok(processes) => Answer::Processes(processes),
        Err(failure) => Answer::Failed(failure),
    };
    let frame =
        frame::encode(&answer).or_else(|error| frame::encode(&Answer::Failed(setup("question", error))));
    let sent = frame.is_ok_and(|bytes| std::io::Write::write_all(&mut stream, &bytes).is_ok());
    sys::exit(i32::from(!sent))
}
