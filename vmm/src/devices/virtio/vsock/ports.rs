//! The ports of the host: what listens on each. They can be added and removed while the machine runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{HostPort, HostStream};

/// The ports of one vsock device. Clones are the same ports.
#[derive(Clone)]
pub struct HostPorts {
    ports: Arc<Mutex<Ports>>,
    /// Written when connections must end.
    changed: Arc<EventFd>,
}

#[derive(Default)]
struct Ports {
    listeners: BTreeMap<u32, Box<dyn HostPort>>,
    /// Ports whose connections must end.
    removed: Vec<u32>,
}

impl HostPorts {
    /// Ports to begin with.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(ports: Vec<(u32, Box<dyn HostPort>)>) -> io::Result<Self> {
        let ports = Ports { listeners: ports.into_iter().collect(), removed: Vec::new() };
        let changed = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self { ports: Arc::new(Mutex::new(ports)), changed: Arc::new(changed) })
    }

    /// Has `listener` listen on a port. What listened there before listens no more.
    pub fn add(&self, port: u32, listener: Box<dyn HostPort>) {
        self.lock().listeners.insert(port, listener);
    }

    /// Nobody listens on the port any more, and its connections end without another word to who listened: what the
    /// guest has sent and the host's reader has not taken is lost, and both descriptors are closed soon.
    pub fn remove(&self, port: u32) {
        let mut ports = self.lock();
        if ports.listeners.remove(&port).is_some() {
            ports.removed.push(port);
            drop(ports);
            // The counter cannot be full of as many removals as fit in 64 bits.
            let _ = self.changed.write(1);
        }
    }

    /// The guest connects. `None` refuses it.
    pub(super) fn connect(&self, port: u32, guest_port: u32) -> Option<HostStream> {
        self.lock().listeners.get_mut(&port)?.connect(guest_port)
    }

    /// A connection has ended.
    pub(super) fn closed(&self, port: u32, guest_port: u32) {
        if let Some(listener) = self.lock().listeners.get_mut(&port) {
            listener.closed(guest_port);
        }
    }

    /// The ports that were removed since this was asked.
    pub(super) fn take_removed(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().removed)
    }

    /// Readable, and once for each time, when ports were removed.
    pub(super) fn changed(&self) -> &EventFd {
        &self.changed
    }

    fn lock(&self) -> MutexGuard<'_, Ports> {
        // What it guards is whole at any time.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().listeners.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::super::testing::{Driver, Socket, TestPort};
    use super::*;

    fn offered() -> (TestPort, UnixStream) {
        let port = TestPort::default();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let output = Some(theirs.try_clone().unwrap().into());
        port.offer(HostStream { input: Some(theirs.into()), output });
        (port, ours)
    }

    #[test]
    fn a_port_can_be_added_while_the_device_runs() {
        let mut driver = Driver::new(Vec::new(), 64);
        assert!(Socket::connect(&mut driver, 1, 4096).is_reset);
        let (port, mut ours) = offered();
        driver.ports.add(1024, Box::new(port));
        let mut socket = Socket::connect(&mut driver, 1, 4096);
        assert_eq!(socket.write(&mut driver, b"hello"), 5);
        let mut got = [0; 5];
        ours.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn a_port_that_is_removed_takes_its_connections_along() {
        let (port, mut ours) = offered();
        let mut driver = Driver::with_port(&port, 64);
        let mut socket = Socket::connect(&mut driver, 1, 4096);
        assert!(socket.is_connected);
        driver.ports.remove(9);
        driver.ports.remove(1024);
        driver.run();
        socket.take(&mut driver);
        assert!(socket.is_reset);
        assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0, "the host's descriptors are closed");
        assert!(port.log().closed.is_empty());
        assert!(Socket::connect(&mut driver, 2, 4096).is_reset, "nobody listens any more");
    }

    #[test]
    fn a_removed_port_ends_a_connection_that_only_waits_for_its_reader() {
        let (port, ours) = offered();
        let mut driver = Driver::with_port(&port, 64);
        let mut socket = Socket::connect(&mut driver, 1, 4096);
        while socket.credit() > 0 {
            socket.write(&mut driver, &[1; 4096]);
        }
        socket.shut_down(&mut driver, 3);
        driver.ports.remove(1024);
        driver.run();
        ours.set_nonblocking(true).unwrap();
        let mut ours = ours;
        while ours.read(&mut [0; 4096]).unwrap() > 0 {}
    }
}
