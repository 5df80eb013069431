//! What operations work on: the descriptors that a process holds, and who it is at the moment. And the call under way.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::actor::Actor;
use crate::line::{Line, quoted};
use crate::random::Random;

/// How many descriptors a process holds.
const SLOTS: usize = 5;

/// The tree that operations change, below the root directory.
pub(crate) const TREE: &str = "/tree";

/// A process's own state.
#[derive(Debug)]
pub(crate) struct World {
    slots: [Option<OwnedFd>; SLOTS],
    actor: Actor,
    /// `/proc/self/fd`: the way to a descriptor's file by name.
    descriptors: OwnedFd,
    /// The last change of each file that was seen: device, inode, then seconds and nanoseconds.
    changes: HashMap<(u64, u64), (i64, i64)>,
}

impl World {
    /// The state of this process, whose descriptors have names below `proc`.
    pub(crate) fn new(proc: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(proc, "self/fd", flags, Mode::empty())?;
        Ok(Self { slots: [const { None }; SLOTS], actor: Actor::Root, descriptors, changes: HashMap::new() })
    }

    /// Begins with a new tree: nothing open, and root.
    pub(crate) fn enter_tree(&mut self) -> io::Result<()> {
        self.leave_tree()?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        Ok(rustix::process::chdir(TREE)?)
    }

    /// Lets go of everything in the tree.
    pub(crate) fn leave_tree(&mut self) -> io::Result<()> {
        self.become_actor(Actor::Root)?;
        self.slots = [const { None }; SLOTS];
        self.changes.clear();
        Ok(rustix::process::chdir("/")?)
    }

    pub(crate) fn become_actor(&mut self, actor: Actor) -> io::Result<()> {
        if self.actor != actor {
            actor.take_on()?;
            self.actor = actor;
        }
        Ok(())
    }

    pub(crate) fn descriptors(&self) -> BorrowedFd<'_> {
        self.descriptors.as_fd()
    }

    pub(crate) fn slot(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.slots[slot].as_ref().map(AsFd::as_fd)
    }

    /// Puts a descriptor into a slot; what was there is closed.
    pub(crate) fn set_slot(&mut self, slot: usize, fd: Option<OwnedFd>) {
        self.slots[slot] = fd;
    }

    /// Whether a file's time of change is one that it had not passed before.
    fn went_back(&mut self, stat: &Stat) -> bool {
        let now = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
        let before = self.changes.insert((stat.st_dev, stat.st_ino), now);
        before.is_some_and(|before| now < before)
    }
}

/// Where an object is: a path, from the current directory or from one that is open in a slot.
#[derive(Debug)]
pub(crate) struct Place {
    slot: Option<usize>,
    pub(crate) path: Vec<u8>,
}

impl Place {
    pub(crate) fn dir<'w>(&self, world: &'w World) -> BorrowedFd<'w> {
        self.slot.and_then(|slot| world.slot(slot)).unwrap_or(CWD)
    }

    pub(crate) fn text(&self) -> String {
        match self.slot {
            Some(slot) => format!("@{slot}:{}", quoted(&self.path)),
            None => quoted(&self.path),
        }
    }
}

/// One operation under way.
#[derive(Debug)]
pub(crate) struct Call<'w> {
    pub(crate) random: Random,
    pub(crate) world: &'w mut World,
    pub(crate) line: Line,
}

/// Begins an operation's text, and adds to it.
macro_rules! say {
    ($call:expr, $($text:tt)*) => { $call.line.add(format_args!($($text)*)) };
}
pub(crate) use say;

impl Call<'_> {
    /// Where to act.
    pub(crate) fn place(&mut self) -> Place {
        if self.random.one_in(10) {
            let slot = self.slot();
            let path = if self.random.one_in(3) { self.random.path() } else { self.random.name() };
            return Place { slot: Some(slot), path };
        }
        Place { slot: None, path: self.random.path() }
    }

    /// One of the slots, empty or not.
    pub(crate) fn slot(&mut self) -> usize {
        usize::try_from(self.random.below(SLOTS as u64)).unwrap_or(0)
    }

    pub(crate) fn stat_of(&mut self, place: &Place, flags: AtFlags) -> Result<Stat, Errno> {
        statat(place.dir(self.world), &place.path, flags)
    }

    /// Shows what is at a place now.
    pub(crate) fn show(&mut self, place: &Place) {
        let stat = self.stat_of(place, AtFlags::SYMLINK_NOFOLLOW);
        self.show_stat(stat);
    }

    /// Shows what is open in a slot now.
    pub(crate) fn show_slot(&mut self, slot: usize) {
        let stat = self.world.slot(slot).ok_or(Errno::BADF).and_then(rustix::fs::fstat);
        self.show_stat(stat);
    }

    pub(crate) fn show_stat(&mut self, stat: Result<Stat, Errno>) {
        self.line.attributes(stat);
        if stat.is_ok_and(|stat| self.world.went_back(&stat)) {
            say!(self, " ctime went back");
        }
    }

    /// Does something with a slot's descriptor; an empty slot gives EBADF.
    pub(crate) fn with_slot<T>(
        &self,
        slot: usize,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        act(self.world.slot(slot).ok_or(Errno::BADF)?)
    }
}
