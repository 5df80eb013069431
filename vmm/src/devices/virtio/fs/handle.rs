//! The running device from outside: shares that come and go, and its counters.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::config::ShareFile;
use crate::fuse::{FsCounts, FsStats};

/// A change of the shares, and where its result goes.
pub(super) enum Change {
    Add(ShareFile, SyncSender<io::Result<()>>),
    Remove(String, SyncSender<io::Result<()>>),
}

/// Changes the shares of a machine while it runs, and tells what its file server does.
#[derive(Clone, Debug)]
pub struct FsHandle {
    changes: Sender<Change>,
    wake: Arc<EventFd>,
    stats: Arc<FsStats>,
}

/// The serving thread's end: readable when there are changes.
pub(super) struct Changes {
    receiver: Receiver<Change>,
    wake: Arc<EventFd>,
}

pub(super) fn handle(stats: Arc<FsStats>) -> io::Result<(FsHandle, Changes)> {
    let wake = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
    let (changes, receiver) = channel();
    Ok((FsHandle { changes, wake: Arc::clone(&wake), stats }, Changes { receiver, wake }))
}

impl FsHandle {
    /// Adds a share. The guest sees it in the root of the device from now on, or within a second if it has looked for
    /// that name before.
    ///
    /// # Errors
    /// For a name that is there already or is no name, for a single file that is not there, and when the machine does
    /// not run.
    pub fn add(&self, share: ShareFile) -> io::Result<()> {
        self.change(|done| Change::Add(share, done))
    }

    /// Removes a share. What the guest has open of it is closed, and gives it `EBADF` or `ESTALE`.
    ///
    /// # Errors
    /// When there is no share of that name, or the machine does not run.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|done| Change::Remove(name.to_owned(), done))
    }

    /// What the file server has done so far, and holds now.
    #[must_use]
    pub fn counts(&self) -> FsCounts {
        self.stats.counts()
    }

    fn change(&self, change: impl FnOnce(SyncSender<io::Result<()>>) -> Change) -> io::Result<()> {
        let stopped = || io::Error::new(io::ErrorKind::NotConnected, "the machine does not run");
        let (done, result) = sync_channel(1);
        self.changes.send(change(done)).map_err(|_| stopped())?;
        self.wake.write(1)?;
        result.recv().map_err(|_| stopped())?
    }
}

impl Changes {
    /// The next change. Call it until it gives `None`: only then is another wake-up certain to come.
    pub(super) fn receive(&self) -> Option<Change> {
        let _ = self.wake.read();
        self.receiver.try_recv().ok()
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
