//! A machine for tests that only knows its ports, and whether it stands still.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use drupe_vmm::{FsCounts, HostPort, HostStream};

use super::stdio;
use super::tasks::Controls;

/// Clones are the same machine.
#[derive(Clone, Default)]
pub(super) struct FakeMachine {
    is_paused: Rc<Cell<bool>>,
    ports: Rc<RefCell<BTreeMap<u32, Box<dyn HostPort>>>>,
}

impl FakeMachine {
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    /// The guest connects.
    pub(super) fn connect(&self, port: u32) -> Option<HostStream> {
        self.ports.borrow_mut().get_mut(&port)?.connect(1)
    }

    /// The guest's connection has ended.
    pub(super) fn close(&self, port: u32) {
        self.ports.borrow_mut().get_mut(&port).unwrap().closed(1);
    }
}

impl Controls for FakeMachine {
    fn pause(&self) {
        self.is_paused.set(true);
    }

    fn resume(&self) {
        self.is_paused.set(false);
    }

    fn listen(&self, (port, listener): stdio::Port) {
        self.ports.borrow_mut().insert(port, listener);
    }

    fn forget(&self, port: u32) {
        self.ports.borrow_mut().remove(&port);
    }

    fn filesystem(&self) -> FsCounts {
        FsCounts { requests: vec![("LOOKUP", 1)], ..FsCounts::default() }
    }
}
