//! Hooks that run on the host: programs that the config names for moments in the life of a container.
//!
//! A hook reads the container's state from its stdin. What it writes goes to no stream of the workload: it is kept for the
//! message about its failure. It has the arguments and the environment of the config and nothing else; it starts in the
//! bundle's directory, as under runc, with the umask and the limits that drupe was started with.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::inherited;

/// How much of a hook's output is in the message about its failure.
const SHOWN: usize = 2048;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// During create (and deprecated).
    Prestart,
    /// During create, after `prestart`.
    CreateRuntime,
    /// During create, after `createRuntime`; beside the monitor, since there are no namespaces of the container on the host.
    CreateContainer,
    /// After the workload has been started.
    Poststart,
    /// After the container has been deleted.
    Poststop,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments with the name in front; empty: the path alone.
    pub args: Vec<String>,
    /// `KEY=value` strings: the whole environment.
    pub env: Vec<String>,
    /// Seconds until it is killed, which is a failure.
    pub timeout: Option<u32>,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {}: {problem}", path.display())]
pub struct HookError {
    /// The field of config.json (`hooks.createRuntime[0]`).
    pub field: String,
    /// The program.
    pub path: PathBuf,
    /// What went wrong.
    pub problem: HookProblem,
}

/// What went wrong with a hook.
#[derive(Debug)]
pub enum HookProblem {
    /// It could not be run.
    Run(io::Error),
    /// It ended otherwise than with 0; the text is the end of what it wrote.
    Status(ExitStatus, String),
    /// It was killed after so many seconds.
    Timeout(u32),
}

impl fmt::Display for HookProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "{error}"),
            Self::Timeout(seconds) => write!(f, "not finished after {seconds} s (timeout), killed"),
            Self::Status(status, output) => {
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "exit status {code}")?,
                    (None, signal) => write!(f, "killed by signal {}", signal.unwrap_or(0))?,
                }
                if output.is_empty() { Ok(()) } else { write!(f, ": {output}") }
            }
        }
    }
}

impl HookKind {
    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// Whether a failure ends the container, rather than being logged.
    fn failure_counts(self) -> bool {
        self != Self::Poststop
    }
}

/// Runs the hooks of one moment, in their order, in the directory of the bundle, or in / where it is gone. `state_json` is
/// the container's state.
///
/// # Errors
///
/// The first failure ends it, and is to end the container (runtime.md, "Lifecycle"). Failures of `poststop` are logged
/// instead, and the other hooks run.
pub fn run_all(kind: HookKind, hooks: &[Hook], bundle: &Path, state_json: &[u8]) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        let Err(problem) = run(hook, bundle, state_json) else { continue };
        let error =
            HookError { field: format!("hooks.{}[{index}]", kind.name()), path: hook.path.clone(), problem };
        if kind.failure_counts() {
            return Err(error);
        }
        log::warn!("{error}");
    }
    Ok(())
}

fn run(hook: &Hook, bundle: &Path, state_json: &[u8]) -> Result<(), HookProblem> {
    // Files in memory, not pipes: nobody waits for a hook that does not read, or for its children's last word.
    let mut state = memory_file("state").map_err(HookProblem::Run)?;
    let mut output = memory_file("output").map_err(HookProblem::Run)?;
    let started = state.write_all(state_json).and_then(|()| state.rewind()).and_then(|()| {
        let mut command = Command::new(&hook.path);
        if let Some((name, args)) = hook.args.split_first() {
            command.arg0(name).args(args);
        }
        command.env_clear().envs(hook.env.iter().map(|pair| pair.split_once('=').unwrap_or((pair, ""))));
        command.stdin(state).stdout(output.try_clone()?).stderr(output.try_clone()?);
        command.current_dir(if bundle.is_dir() { bundle } else { Path::new("/") });
        inherited::give_back(&mut command);
        // So that a hook's children are killed with it.
        command.process_group(0).spawn()
    });
    let mut child = started.map_err(HookProblem::Run)?;
    let limit = hook.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    match wait(&mut child, limit).map_err(HookProblem::Run)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(HookProblem::Status(status, end_of(&mut output))),
        None => Err(HookProblem::Timeout(hook.timeout.unwrap_or(0))),
    }
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// Waits for the child's end; kills it when it takes longer than `limit`, and answers `None`.
fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(limit) = limit else { return child.wait().map(Some) };
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => break,
            Ok(_) => return child.wait().map(Some),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The group is gone already when the hook ended just now, or never was when it has made another one.
    let _ = kill_process_group(pid, Signal::KILL);
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The end of what a hook wrote, on one line.
fn end_of(output: &mut File) -> String {
    let mut bytes = Vec::new();
    let from = output.metadata().map_or(0, |metadata| metadata.len().saturating_sub(SHOWN as u64));
    let read = output
        .seek(io::SeekFrom::Start(from))
        .and_then(|_| output.take(SHOWN as u64).read_to_end(&mut bytes));
    if let Err(error) = read {
        return format!("its output cannot be read: {error}");
    }
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "hooks/tests.rs"]
mod tests;
