//! Commands that are run to their end, and what they left.

use std::fmt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// After this long a command counts as hung. A guard, not a measure.
const HANG: Duration = Duration::from_secs(300);

/// What a command left.
pub(crate) struct Done {
    command: String,
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Runs it to its end; `timeout` kills it, and all that it has started, when it hangs.
    pub(crate) fn of(command: &Command, input: Stdio) -> Self {
        let mut guarded = Command::new("timeout");
        guarded.args(["--kill-after=5", &HANG.as_secs().to_string()]);
        guarded.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        let Output { status, stdout, stderr } =
            guarded.stdin(input).output().expect("timeout is in coreutils");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            command: format!("{command:?}"),
            status: status.code().unwrap_or(-1),
            stdout: text(&stdout),
            stderr: text(&stderr),
        }
    }

    /// Fails unless it ended with this status; answers stdout without the last newline.
    #[track_caller]
    pub(crate) fn status(&self, status: i32) -> &str {
        assert!(self.status == status, "status {status} expected: {self:?}");
        self.stdout.trim_end_matches(['\n', '\r'])
    }

    /// Fails unless it succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        self.status(0)
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "{command}\nstatus {status}\nstdout {stdout:?}\nstderr {stderr:?}")
    }
}

/// Waits until something holds, which is asked again and again.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + HANG;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not after {HANG:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
