//! A device's own thread, and the event loop on it.

use std::io;
use std::thread::{Builder, JoinHandle};

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};

/// Serves a device on a thread of its own.
pub(super) trait Worker: MutEventSubscriber {
    /// What it serves, for messages.
    const WHAT: &'static str;

    /// Whether the device is gone, and with it the thread's work.
    fn has_ended(&self) -> bool;
}

/// The running thread of a device.
#[derive(Debug)]
pub struct DeviceThread(JoinHandle<()>);

impl DeviceThread {
    /// Starts a thread with this name.
    pub(super) fn start(name: &str, serve: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        Builder::new().name(name.to_owned()).spawn(serve).map(Self)
    }

    /// Waits for the thread's end.
    pub fn join(self) {
        let _ = self.0.join();
    }
}

/// An event loop without anybody to serve yet.
pub(super) fn events<W: Worker>() -> io::Result<EventManager<W>> {
    EventManager::new().map_err(io::Error::other)
}

/// Has `worker` serve its device until that is gone.
pub(super) fn run<W: Worker>(mut events: EventManager<W>, worker: W) {
    let id = events.add_subscriber(worker);
    while events.subscriber_mut(id).is_ok_and(|worker| !worker.has_ended()) {
        match events.run() {
            Ok(_) => {}
            Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
            Err(error) => return log::error!("{}: {error}", W::WHAT),
        }
    }
}
