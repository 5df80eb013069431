//! The runtime under test: drupe, or another OCI runtime that proves that the cases are right.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::stage::Stage;

/// Which runtime it is; cases about what only a virtual machine does are for drupe alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Drupe,
    Other,
}

/// The program that every case runs.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) program: PathBuf,
    pub(crate) kind: Kind,
    machine: OnceLock<Result<(), String>>,
}

impl Subject {
    /// `DRUPE_TEST_RUNTIME`, or the drupe of this build.
    pub(crate) fn from_env() -> Self {
        let program = env::var_os("DRUPE_TEST_RUNTIME")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_drupe")), PathBuf::from);
        Self::of(program)
    }

    /// What is not called drupe is another runtime.
    pub(crate) fn of(program: PathBuf) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let kind = if name.starts_with("drupe") { Kind::Drupe } else { Kind::Other };
        Self { program, kind, machine: OnceLock::new() }
    }

    /// `<program> --root STATE run --bundle BUNDLE ID`.
    pub(crate) fn run(&self, state: &Path, bundle: &Path, id: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state).arg("run").arg("--bundle").arg(bundle).arg(id);
        command
    }

    /// Whether the subject can run anything here: tried once. The error is the subject's own line, given only
    /// when that line is about /dev/kvm; every other trouble is for the cases to find.
    pub(crate) fn machine(&'static self) -> Result<(), String> {
        let try_once = || {
            if self.kind == Kind::Other {
                return Ok(());
            }
            let stage = Stage::new(self);
            let output = stage.bundle(&["true"]).run();
            let complaint = output.stderr_text();
            let about_kvm = complaint.lines().count() == 1 && complaint.contains("/dev/kvm");
            if output.status != 0 && about_kvm { Err(complaint.trim_end().to_owned()) } else { Ok(()) }
        };
        self.machine.get_or_init(try_once).clone()
    }
}
