//! Descriptors that a container's process gets beside its streams: `--preserve-fds` and `LISTEN_FDS`.
//!
//! Each becomes a connection into the guest, so it must be a stream of bytes: a pipe, a stream socket, a terminal,
//! a file. What is more than that (a listening socket, a directory) cannot be there what it is here, and is refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;

/// The first number behind the streams.
const FIRST: i32 = 3;

/// More would not fit what a frame and the guest's agent take.
const MOST: u32 = 128;

/// A descriptor for a process.
#[derive(Debug)]
pub(crate) struct PassedFd {
    /// Its number in the process.
    pub(crate) number: i32,
    pub(crate) fd: OwnedFd,
    /// It can be read.
    pub(crate) read: bool,
    /// It can be written.
    pub(crate) write: bool,
}

/// Why descriptors cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error("{asked_by}: {count}: at most {MOST} descriptors can be passed on")]
    TooMany { asked_by: &'static str, count: u32 },
    #[error("{asked_by}: descriptor {number}: not open")]
    Missing { asked_by: &'static str, number: i32 },
    #[error("{asked_by}: descriptor {number}")]
    Fd { asked_by: &'static str, number: i32, source: io::Error },
    #[error("{asked_by}: descriptor {number}: {what} cannot be passed into a virtual machine")]
    Kind { asked_by: &'static str, number: i32, what: &'static str },
}

/// Descriptors for a container's process, and how many of the first are `LISTEN_FDS`.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) fds: Vec<PassedFd>,
    pub(crate) listen_fds: u32,
}

impl Passed {
    /// The descriptors behind those of systemd's socket activation, if it is meant for this process, and
    /// `--preserve-fds` more.
    pub(crate) fn collect(preserve_fds: u32) -> Result<Self, DescriptorError> {
        let variable = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
        let is_ours = variable("LISTEN_PID") == Some(std::process::id());
        let listen_fds = variable("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
        Self::of(listen_fds, preserve_fds)
    }

    /// Those of `--preserve-fds` alone.
    pub(crate) fn preserved(count: u32) -> Result<Self, DescriptorError> {
        Self::of(0, count)
    }

    fn of(listen_fds: u32, preserve_fds: u32) -> Result<Self, DescriptorError> {
        let mut fds = Vec::new();
        for (asked_by, count) in [("LISTEN_FDS", listen_fds), ("--preserve-fds", preserve_fds)] {
            let taken = u32::try_from(fds.len()).unwrap_or(u32::MAX);
            if count > MOST.saturating_sub(taken) {
                return Err(DescriptorError::TooMany { asked_by, count });
            }
            for index in taken..taken + count {
                let number = FIRST.saturating_add_unsigned(index);
                if !crate::sys::is_inherited(number) {
                    return Err(DescriptorError::Missing { asked_by, number });
                }
                fds.push(take(asked_by, number)?);
            }
        }
        Ok(Self { fds, listen_fds })
    }

    /// What the process is told of its sockets, as runc tells it: it is process 1 of its container.
    pub(crate) fn environment(&self) -> Vec<String> {
        match self.listen_fds {
            0 => Vec::new(),
            count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
        }
    }
}

fn take(asked_by: &'static str, number: i32) -> Result<PassedFd, DescriptorError> {
    let error = |source| DescriptorError::Fd { asked_by, number, source };
    let fd = crate::sys::duplicate(number).map_err(error)?;
    let what = refuse(fd.as_fd()).map_err(|errno| error(errno.into()))?;
    if let Some(what) = what {
        return Err(DescriptorError::Kind { asked_by, number, what });
    }
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| error(errno.into()))?;
    let mode = flags & OFlags::RWMODE;
    Ok(PassedFd { number, fd, read: mode != OFlags::WRONLY, write: mode != OFlags::RDONLY })
}

/// What it is, when it is more than a stream of bytes.
fn refuse(fd: BorrowedFd<'_>) -> Result<Option<&'static str>, Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    if flags.contains(OFlags::PATH) {
        return Ok(Some("a path (O_PATH)"));
    }
    let what = match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
        FileType::Socket if rustix::net::sockopt::socket_acceptconn(fd)? => "a listening socket",
        FileType::Socket if rustix::net::sockopt::socket_type(fd)? != SocketType::STREAM => {
            "a socket that is no stream"
        }
        FileType::Directory => "a directory",
        FileType::BlockDevice => "a block device",
        FileType::Socket | FileType::Fifo | FileType::CharacterDevice | FileType::RegularFile => {
            return Ok(None);
        }
        _ => "a descriptor that is no stream",
    };
    Ok(Some(what))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn take_one(fd: impl Into<OwnedFd>) -> Result<(bool, bool), String> {
        let fd = fd.into();
        let taken = take("--preserve-fds", fd.as_raw_fd());
        taken.map(|taken| (taken.read, taken.write)).map_err(|error| {
            crate::text::chain(&error).replace(&format!("descriptor {}", fd.as_raw_fd()), "descriptor N")
        })
    }

    #[test]
    fn the_directions_are_those_that_it_is_open_for() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert_eq!(take_one(reader), Ok((true, false)));
        assert_eq!(take_one(writer), Ok((false, true)));
        assert_eq!(take_one(UnixStream::pair().unwrap().0), Ok((true, true)));
        assert_eq!(take_one(tempfile::tempfile().unwrap()), Ok((true, true)));
    }

    #[test]
    fn what_is_no_stream_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let refused = |what| {
            Err(format!("--preserve-fds: descriptor N: {what} cannot be passed into a virtual machine"))
        };
        assert_eq!(take_one(listener), refused("a listening socket"));
        assert_eq!(take_one(UnixDatagram::pair().unwrap().0), refused("a socket that is no stream"));
        assert_eq!(take_one(std::fs::File::open(dir.path()).unwrap()), refused("a directory"));
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        assert_eq!(take_one(eventfd), refused("a descriptor that is no stream"));
    }

    #[test]
    fn a_descriptor_that_is_not_there_is_named() {
        let line = |error| crate::text::chain(&error);
        // All that this test has opened is closed on exec, so it was not passed to us.
        let _opened = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
        let error = Passed::preserved(100).unwrap_err();
        assert!(line(error).ends_with(": not open"));
        let error = Passed::preserved(1000).unwrap_err();
        assert_eq!(line(error), "--preserve-fds: 1000: at most 128 descriptors can be passed on");
    }
}
