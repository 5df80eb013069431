//! Terminals of the host: the pair that `--console-socket` asks for, and the caller's own.
//!
//! The guest has the terminal that the process sees, with its line discipline. What the host has only carries its
//! bytes, so it is raw: no echo, no signals, no translation.

use std::io::{self, IoSlice, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use drupe_protocol::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    #[error("process.terminal: a terminal cannot be detached from without --console-socket")]
    NoSocket,
    #[error("--console-socket: {}: the process has no terminal (process.terminal)", .0.display())]
    NoTerminal(PathBuf),
    #[error("--console-socket: {}: the terminal is the caller's own without --detach", .0.display())]
    NotDetached(PathBuf),
    #[error("--console-socket: {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("process.terminal: none of stdin, stdout and stderr is a terminal, and there is no /dev/tty")]
    NoHostTerminal(#[source] io::Error),
    #[error("terminal")]
    Terminal(#[from] io::Error),
}

/// Where a process's terminal is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConsolePlan {
    /// It has none.
    None,
    /// A pair, whose master is sent to this socket.
    Socket(PathBuf),
    /// The caller's own.
    Own,
}

impl ConsolePlan {
    /// Checks what is asked for against each other.
    pub(crate) fn new(terminal: bool, detached: bool, socket: Option<PathBuf>) -> Result<Self, ConsoleError> {
        match (terminal, socket) {
            (false, Some(path)) => Err(ConsoleError::NoTerminal(path)),
            (false, None) => Ok(Self::None),
            (true, Some(path)) if detached => Ok(Self::Socket(path)),
            (true, Some(path)) => Err(ConsoleError::NotDetached(path)),
            (true, None) if detached => Err(ConsoleError::NoSocket),
            (true, None) => Ok(Self::Own),
        }
    }
}

/// Makes a pair, sends its master to who listens on `socket`, and gives the slave: raw, and of this size.
pub(crate) fn send_new(socket: &Path, size: Option<WindowSize>) -> Result<OwnedFd, ConsoleError> {
    let (master, name, slave) = open_pair(size)?;
    // The message is the terminal's name, as runc sends it; who receives it needs the descriptor.
    send_descriptor(socket, master.as_fd(), &name)
        .map_err(|source| ConsoleError::Socket { path: socket.to_owned(), source })?;
    Ok(slave)
}

fn open_pair(size: Option<WindowSize>) -> io::Result<(OwnedFd, Vec<u8>, OwnedFd)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    let mut termios = rustix::termios::tcgetattr(&slave)?;
    termios.make_raw();
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &termios)?;
    if let Some(WindowSize { rows, columns }) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    Ok((master, name.into_bytes(), slave))
}

/// Sends one descriptor to who listens on a Unix socket.
pub(crate) fn send_descriptor(socket: &Path, descriptor: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    rustix::net::sendmsg(&stream, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The size of a terminal; `None` for what is none.
pub(crate) fn window_size(fd: impl AsFd) -> Option<WindowSize> {
    let Winsize { ws_row: rows, ws_col: columns, .. } = rustix::termios::tcgetwinsize(fd).ok()?;
    Some(WindowSize { rows, columns })
}

/// The caller's terminal in raw mode, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    fd: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Takes the terminal that stderr, stdout or stdin is, or that this process is controlled by.
    pub(crate) fn take() -> Result<Self, ConsoleError> {
        let (stderr, stdout, stdin) = (io::stderr(), io::stdout(), io::stdin());
        let streams = [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()];
        let fd = match streams.into_iter().find(IsTerminal::is_terminal) {
            Some(fd) => fd.try_clone_to_owned()?,
            None => std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/tty")
                .map_err(ConsoleError::NoHostTerminal)?
                .into(),
        };
        let before = rustix::termios::tcgetattr(&fd).map_err(io::Error::from)?;
        let mut raw = before.clone();
        // Output too: what the guest's terminal makes of a line feed is not done twice.
        raw.make_raw();
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &raw).map_err(io::Error::from)?;
        Ok(Self { fd, before })
    }

    /// Its size now.
    pub(crate) fn size(&self) -> Option<WindowSize> {
        window_size(&self.fd)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no modes.
        let _ = rustix::termios::tcsetattr(&self.fd, OptionalActions::Now, &self.before);
    }
}

/// Makes this process the leader of a session that the terminal controls, so that its new sizes are announced by
/// SIGWINCH. It must not be the leader of a process group.
pub(crate) fn control_session(slave: &OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(slave)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    #[test]
    fn a_terminal_and_the_socket_for_it_are_asked_for_together() {
        let socket = Path::new("/s");
        let line = |terminal, detached, socket: Option<&Path>| {
            ConsolePlan::new(terminal, detached, socket.map(Into::into)).map_err(|error| error.to_string())
        };
        assert_eq!(line(false, true, None), Ok(ConsolePlan::None));
        assert_eq!(line(true, true, Some(socket)), Ok(ConsolePlan::Socket(socket.into())));
        assert!(line(true, false, Some(socket)).unwrap_err().contains("--detach"));
        assert_eq!(line(true, false, None), Ok(ConsolePlan::Own));
        let error = line(true, true, None).unwrap_err();
        assert!(error.contains("process.terminal") && error.contains("--console-socket"), "{error}");
        let error = line(false, false, Some(socket)).unwrap_err();
        assert!(error.starts_with("--console-socket: /s: ") && error.contains("process.terminal"), "{error}");
    }

    #[test]
    fn the_master_comes_through_the_socket_and_carries_bytes_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let slave = send_new(&path, Some(WindowSize { rows: 24, columns: 81 })).unwrap();

        let (connection, _) = listener.accept().unwrap();
        let mut name = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [io::IoSliceMut::new(&mut name)];
        let received =
            rustix::net::recvmsg(&connection, &mut buffers, &mut control, RecvFlags::empty()).unwrap();
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        });
        let master = fds.next().unwrap().pop().unwrap();
        assert!(name[..received.bytes].starts_with(b"/dev/pts/"));
        assert_eq!(window_size(&master), Some(WindowSize { rows: 24, columns: 81 }));

        let (mut master, mut slave) = (File::from(master), File::from(slave));
        let mut got = [0; 3];
        master.write_all(b"a\x03\r").unwrap();
        slave.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"a\x03\r");
        slave.write_all(b"x\ny").unwrap();
        master.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"x\ny", "no echo before it, no carriage return in it");
        drop(slave);
        assert!(master.read(&mut got).is_err(), "the reader learns of the end");
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_named() {
        let error = send_new(Path::new("/nonexistent/s"), None).unwrap_err();
        assert!(crate::text::chain(&error).starts_with("--console-socket: /nonexistent/s: No such file"));
    }
}
