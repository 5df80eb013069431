//! A pseudo-terminal of the container's own devpts, for a process that is about to be executed.
//!
//! Whatever is mounted or linked below the container's /dev, only a pty multiplexer of the kernel is opened: its
//! directory must be a devpts, and it is not looked up across another mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use drupe_protocol::{Process, TerminalConfig, WindowSize};
use rustix::fs::{
    FileType, FsWord, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, major, minor, openat2,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::failure::{Named, Result, setup};
use crate::mounts;
use crate::resolve::{self, Leaf};

const FIELD: &str = "process.terminal";
const DEVPTS_MAGIC: FsWord = 0x1cd1;

/// Both ends, before the one is given to the agent and the other becomes the streams of the process.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Makes the terminal that a process asks for, in a container whose root is given.
    pub(crate) fn for_process(root: BorrowedFd<'_>, process: &Process) -> Result<Option<Self>> {
        process.terminal.map(|config| Self::open(root, config)).transpose()
    }

    fn open(root: BorrowedFd<'_>, config: TerminalConfig) -> Result<Self> {
        let pts = resolve::open(root, Path::new("/dev/pts")).named(FIELD, "\"/dev/pts\"")?;
        if !is_devpts(pts.as_fd()) {
            return Err(setup(FIELD, "\"/dev/pts\": no devpts is mounted there"));
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let master =
            openat2(&pts, c"ptmx", flags, Mode::empty(), resolve).named(FIELD, "\"/dev/pts/ptmx\"")?;
        if !is_multiplexer(master.as_fd()) {
            return Err(setup(FIELD, "\"/dev/pts/ptmx\": not the multiplexer of a devpts"));
        }
        unlockpt(&master).named(FIELD, "unlock")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).named(FIELD, "its other end")?;
        if let Some(size) = config.size {
            resize(master.as_fd(), size).named("process.consoleSize", format_args!("{size:?}"))?;
        }
        Ok(Self { master, slave })
    }

    /// Shows the terminal as /dev/console.
    pub(crate) fn bind_console(&self, root: BorrowedFd<'_>) -> Result<()> {
        const WHAT: &str = "\"/dev/console\": cannot be made";
        let (target, _) =
            resolve::open_or_make(root, Path::new("/dev/console"), Leaf::File).named(FIELD, WHAT)?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&self.slave, c"", flags).named(FIELD, WHAT)?;
        mounts::attach(tree.as_fd(), target.as_fd()).named(FIELD, WHAT)
    }

    /// Makes it the streams and the controlling terminal of this process, the first of its session.
    pub(crate) fn take(self, uid: u32) -> Result<OwnedFd> {
        const WHAT: &str = "cannot be taken";
        fchown(&self.slave, Some(Uid::from_raw(uid)), None).named(FIELD, "its owner")?;
        ioctl_tiocsctty(&self.slave).named(FIELD, "as the controlling terminal")?;
        dup2_stdin(&self.slave).named(FIELD, WHAT)?;
        dup2_stdout(&self.slave).named(FIELD, WHAT)?;
        dup2_stderr(&self.slave).named(FIELD, WHAT)?;
        Ok(self.master)
    }
}

/// Changes the size; the terminal's foreground processes are told by SIGWINCH.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> Result<(), Errno> {
    tcsetwinsize(terminal, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })
}

fn is_devpts(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).is_ok_and(|stat| stat.f_type == DEVPTS_MAGIC)
}

fn is_multiplexer(fd: BorrowedFd<'_>) -> bool {
    is_devpts(fd)
        && fstat(fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
        })
}
