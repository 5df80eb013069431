//! What clients ask about the workload while it runs: other processes, terminals, pausing, numbers.

use std::os::fd::OwnedFd;

use drupe_protocol::GuestMessage;
use event_manager::EventOps;

use super::MonitorError;
use super::supervisor::Supervisor;
use crate::control::{Reply, Request};

impl Supervisor {
    /// Carries out a request that is about neither start nor signals.
    pub(super) fn request_task(
        &mut self,
        client: u32,
        _request: Request,
        _descriptors: Vec<OwnedFd>,
        ops: &mut EventOps,
    ) -> Result<(), MonitorError> {
        self.reply(client, &Reply::failed("not available in this build"), ops)
    }

    /// Takes a message that is about an exec or answers a question. `false`: it is neither.
    pub(super) fn note_task(
        &mut self,
        _message: &GuestMessage,
        _ops: &mut EventOps,
    ) -> Result<bool, MonitorError> {
        Ok(false)
    }

    /// A client has ended its connection.
    pub(super) fn client_left(&mut self, _client: u32) {}
}
