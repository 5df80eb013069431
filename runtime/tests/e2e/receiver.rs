//! A Unix socket on which a caller of the runtime waits for a descriptor.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::stage::Stage;

/// The socket.
pub(crate) struct Receiver {
    pub(crate) path: PathBuf,
    listener: UnixListener,
}

impl Receiver {
    pub(crate) fn new(stage: &Stage, name: &str) -> Self {
        let path = stage.path(name);
        let listener = UnixListener::bind(&path).expect("an own socket");
        Self { path, listener }
    }

    /// The descriptor that is on its way: the only one of the next caller's message.
    #[track_caller]
    pub(crate) fn descriptor(&self) -> OwnedFd {
        let (stream, _) = self.listener.accept().expect("a caller");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let mut buffers = [IoSliceMut::new(&mut name)];
        recvmsg(&stream, &mut buffers, &mut ancillary, RecvFlags::empty()).expect("a message");
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        assert_eq!(fds.len(), 1, "descriptors in the message");
        fds.remove(0)
    }
}
