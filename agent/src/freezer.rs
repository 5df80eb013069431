//! Makes the processes of a container stand still, and go on: `cgroup.freeze` of its cgroup.
//!
//! The kernel freezes each process where it next goes back to its program, and tells in `cgroup.events` when all are.
//! A signal wakes a frozen process for a moment: it freezes again with the signal pending, or it ends. Whichever it is
//! has happened when the host is answered.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use drupe_protocol::{Answer, GuestMessage};
use rustix::time::Timespec;

use crate::container::Container;
use crate::failure::{Named, Result, setup};
use crate::{cgroup, processes};

/// How long to wait between two looks.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// Questions that wait for containers to stand still, at a time.
const MAX_WAITING: usize = 128;

/// Questions that wait for containers to stand still.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    container: String,
    number: u32,
    seen: Seen,
}

/// What was seen of a container at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Moving,
    Still,
    /// It was let go meanwhile.
    Thawed,
}

impl Freezer {
    /// Stops a container's processes. Answered by [`Freezer::answer`].
    pub(crate) fn freeze(&mut self, root: &Path, container: &str, number: u32) -> Result<()> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(setup("question", format_args!("{MAX_WAITING} at once are the most")));
        }
        write(root, container, "1").named("freeze", "cgroup.freeze")?;
        self.waiting.push(Waiting { container: container.to_owned(), number, seen: Seen::Moving });
        Ok(())
    }

    /// Lets a container's processes go on.
    pub(crate) fn thaw(&mut self, root: &Path, container: &str) -> Result<()> {
        write(root, container, "0").named("thaw", "cgroup.freeze")?;
        let waiting = self.waiting.iter_mut().filter(|waiting| waiting.container == container);
        waiting.for_each(|waiting| waiting.seen = Seen::Thawed);
        Ok(())
    }

    /// How long to wait at most before the next look.
    pub(crate) fn interval(&self) -> Option<&'static Timespec> {
        (!self.waiting.is_empty()).then_some(&INTERVAL)
    }

    /// Looks which containers stand still. True when one does: a process that was about to end has ended, and
    /// is to be reaped before [`Freezer::answer`].
    pub(crate) fn look(&mut self, root: &Path, containers: &BTreeMap<String, Container>) -> bool {
        let mut found = false;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.seen != Seen::Thawed) {
            let container = containers.get(&waiting.container);
            let still =
                container.is_some_and(|container| !moves(container) && is_frozen(root, &waiting.container));
            waiting.seen = if still { Seen::Still } else { Seen::Moving };
            found |= still;
        }
        found
    }

    /// Answers for the containers that stand still, and for those that are gone.
    pub(crate) fn answer(
        &mut self,
        containers: &BTreeMap<String, Container>,
        messages: &mut Vec<GuestMessage>,
    ) {
        self.waiting.retain(|Waiting { container, number, seen }| {
            let failed = |why| Some(Answer::Failed(setup("freeze", format_args!("{container:?}: {why}"))));
            let answer = match (containers.get(container), seen) {
                (None, _) => failed("it has ended"),
                // Its end is told first.
                (Some(found), _) if found.has_ended() => None,
                (Some(_), Seen::Moving) => None,
                (Some(_), Seen::Still) => Some(Answer::Frozen),
                (Some(_), Seen::Thawed) => failed("thawed before it was frozen"),
            };
            let number = *number;
            let message =
                answer.map(|answer| GuestMessage::Answer { container: container.clone(), number, answer });
            let waits = message.is_none();
            messages.extend(message);
            waits
        });
    }
}

/// Whether a signal has woken the main process and not had its effect yet.
fn moves(container: &Container) -> bool {
    processes::state(container.main_pid()) == Some('R')
}

fn is_frozen(root: &Path, container: &str) -> bool {
    let events = fs::read_to_string(cgroup::path(root, container).join("cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}

fn write(root: &Path, container: &str, value: &str) -> io::Result<()> {
    fs::write(cgroup::path(root, container).join("cgroup.freeze"), value)
}
