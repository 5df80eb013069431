//! Results as they are kept: a JSON file for each machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::FsError;

/// What one machine did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Files in the tree that is unpacked, listed and removed.
    pub(crate) files: usize,
    /// The steps, in order.
    pub(crate) steps: Vec<StepResult>,
}

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepResult {
    /// Its name.
    pub(crate) name: String,
    /// Time in the guest; under `lab --icount`, instructions of guest and host together.
    pub(crate) nanoseconds: u64,
    /// FUSE requests by opcode; none where they were not counted.
    pub(crate) requests: BTreeMap<String, u64>,
}

impl StepResult {
    /// Requests that the guest gets an answer to: what it forgets, it only tells.
    pub(crate) fn answered(&self) -> u64 {
        self.requests.iter().filter(|(opcode, _)| !opcode.contains("FORGET")).map(|(_, count)| count).sum()
    }
}

impl Results {
    /// Reads a file that [`Results::write`] has written.
    pub(crate) fn read(path: &Path) -> Result<Self, FsError> {
        let text = fs::read(path).map_err(FsError::io(path))?;
        serde_json::from_slice(&text).map_err(|error| FsError::unexpected(path, error))
    }

    /// Writes them as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<(), FsError> {
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| FsError::unexpected(path, error))?;
        text.push('\n');
        fs::write(path, text).map_err(FsError::io(path))
    }
}
