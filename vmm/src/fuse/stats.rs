//! Counters of the file server, readable from any thread while it serves.

use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::Opcode;

/// What a file server has done, and holds.
#[derive(Debug, Default)]
pub(crate) struct FsStats {
    requests: ByOpcode,
    unknown: AtomicU64,
    errors: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    nodes: AtomicU64,
    cached_fds: AtomicU64,
    pinned_fds: AtomicU64,
    open_files: AtomicU64,
}

/// A counter for each opcode, in the order of [`Opcode::ALL`].
#[derive(Debug)]
struct ByOpcode([AtomicU64; Opcode::ALL.len()]);

impl Default for ByOpcode {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Opcode::ALL.len()])
    }
}

/// [`FsStats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsCounts {
    /// Requests by the names of their opcodes; those that never came are left out.
    pub requests: Vec<(&'static str, u64)>,
    /// Requests with an opcode that is not served.
    pub unknown: u64,
    /// Requests that were answered with an error.
    pub errors: u64,
    /// Bytes of files that the guest has read.
    pub read_bytes: u64,
    /// Bytes of files that the guest has written.
    pub written_bytes: u64,
    /// Files that the guest knows of.
    pub nodes: u64,
    /// Descriptors kept for files that can be found again.
    pub cached_fds: u64,
    /// Descriptors kept for files without a name, and for the shares.
    pub pinned_fds: u64,
    /// Files and directories that the guest has open.
    pub open_files: u64,
}

impl FsStats {
    /// The counters now.
    pub(crate) fn counts(&self) -> FsCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests =
            Opcode::ALL.iter().zip(&self.requests.0).map(|(opcode, count)| (opcode.name(), get(count)));
        FsCounts {
            requests: requests.filter(|(_, count)| *count > 0).collect(),
            unknown: get(&self.unknown),
            errors: get(&self.errors),
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
            nodes: get(&self.nodes),
            cached_fds: get(&self.cached_fds),
            pinned_fds: get(&self.pinned_fds),
            open_files: get(&self.open_files),
        }
    }

    pub(super) fn request(&self, opcode: Option<Opcode>) {
        let place = opcode.and_then(|opcode| Opcode::ALL.iter().position(|other| *other == opcode));
        let counter = place.and_then(|place| self.requests.0.get(place)).unwrap_or(&self.unknown);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, nodes: usize, (cached, pinned): (usize, usize), open: usize) {
        self.nodes.store(nodes as u64, Ordering::Relaxed);
        self.cached_fds.store(cached as u64, Ordering::Relaxed);
        self.pinned_fds.store(pinned as u64, Ordering::Relaxed);
        self.open_files.store(open as u64, Ordering::Relaxed);
    }
}
