//! What the caller of `create`, `run` and `exec` hands over to a container's process: its streams or a terminal, and
//! descriptors besides.

use std::os::fd::OwnedFd;

use drupe_protocol::{Process, WindowSize};
use rustix::process::Pid;

use crate::cli::HandoverArgs;
use crate::console::{self, ConsoleError, ConsolePlan, RawTerminal};
use crate::descriptors::{DescriptorError, Passed};
use crate::monitor::{StreamFds, TerminalFds};
use crate::pid_file::{self, PidFileError};
use crate::pidfd::{self, PidfdError};

/// Why it cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    #[error("descriptors")]
    Duplicate(#[from] std::io::Error),
}

/// Why the caller cannot be told of the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    #[error(transparent)]
    Pidfd(#[from] PidfdError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
}

/// What is to be handed over: checked, and nothing done yet.
#[derive(Debug)]
pub(crate) struct Handover {
    console: ConsolePlan,
    size: Option<WindowSize>,
    passed: Passed,
}

/// What is handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The process's.
    pub(crate) streams: StreamFds,
    /// The slave of the terminal that was sent to `--console-socket`.
    pub(crate) slave: Option<OwnedFd>,
    /// The caller's own terminal, raw as long as this is there.
    pub(crate) own: Option<RawTerminal>,
    /// What the process's terminal is to be at first.
    pub(crate) size: Option<WindowSize>,
}

impl Handover {
    /// Checks what is asked for. `detached`: the caller does not wait for the process. `listens`: sockets of systemd are
    /// passed on as well.
    pub(crate) fn new(
        args: &HandoverArgs,
        process: &Process,
        detached: bool,
        listens: bool,
    ) -> Result<Self, HandoverError> {
        let terminal = process.terminal;
        let console = ConsolePlan::new(terminal.is_some(), detached, args.console_socket.clone())?;
        let passed =
            if listens { Passed::collect(args.preserve_fds)? } else { Passed::preserved(args.preserve_fds)? };
        Ok(Self { console, size: terminal.and_then(|terminal| terminal.size), passed })
    }

    /// Variables that tell the process of what it gets.
    pub(crate) fn environment(&self) -> Vec<String> {
        self.passed.environment()
    }

    /// Opens it all.
    pub(crate) fn open(self) -> Result<Handed, HandoverError> {
        let Self { console, size, passed } = self;
        let mut handed = match console {
            ConsolePlan::None => Handed { streams: StreamFds::inherited()?, slave: None, own: None, size },
            ConsolePlan::Socket(path) => {
                let slave = console::send_new(&path, size)?;
                let terminal = TerminalFds { input: slave.try_clone()?, output: slave.try_clone()? };
                let streams = StreamFds { terminal: Some(terminal), ..StreamFds::default() };
                Handed { streams, slave: Some(slave), own: None, size }
            }
            ConsolePlan::Own => {
                let own = RawTerminal::take()?;
                let size = size.or(own.size());
                Handed { streams: StreamFds::inherited_terminal()?, slave: None, own: Some(own), size }
            }
        };
        handed.streams.others = passed.fds;
        Ok(handed)
    }
}

impl Handed {
    /// Gives the process's terminal the size that it has on the host.
    pub(crate) fn set_size(&self, process: &mut Process) {
        if let Some(terminal) = process.terminal.as_mut() {
            terminal.size = self.size;
        }
    }
}

/// Tells the caller which process of the host stands for the container's: `--pidfd-socket`.
pub(crate) fn announce_pidfd(args: &HandoverArgs, process: Pid) -> Result<(), AnnounceError> {
    match &args.pidfd_socket {
        Some(socket) => Ok(pidfd::send(socket, process)?),
        None => Ok(()),
    }
}

/// The same, and `--pid-file`.
pub(crate) fn announce(args: &HandoverArgs, process: Pid) -> Result<(), AnnounceError> {
    announce_pidfd(args, process)?;
    match &args.pid_file {
        Some(path) => Ok(pid_file::write(path, process.as_raw_pid().unsigned_abs())?),
        None => Ok(()),
    }
}
