//! `hooks.startContainer`: run in the container, as its process, between the start and the program.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use drupe_protocol::StartHook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, WaitStatus, waitpid};

use crate::failure::{Named, Result, cause, setup};
use crate::seccomp::Filter;
use crate::{clock, sys};

/// What is kept of a hook's output for the message about its failure.
const MAX_OUTPUT: usize = 512;
const CHUNK: usize = 4096;
/// What a pipe holds.
const PIPE: usize = 64 << 10;

/// Runs the hooks in their order; one that fails is the last. `filter` is the one that the process is still to load.
pub(crate) fn run(hooks: &[StartHook], state: &str, filter: Option<&Filter>) -> Result<()> {
    hooks.iter().try_for_each(|hook| run_one(hook, state, filter))
}

fn run_one(hook: &StartHook, state: &str, filter: Option<&Filter>) -> Result<()> {
    let what = |action: &str| format!("{:?}: {action}", hook.path);
    let command = Command::new(hook)?;
    let (stdin, input) = pipe_with(PipeFlags::CLOEXEC).named(&hook.field, what("state"))?;
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).named(&hook.field, what("output"))?;
    for ours in [&input, &output] {
        rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK).named(&hook.field, what("pipe"))?;
    }
    let child = sys::clone_process(0, None).named(&hook.field, what("clone"))?;
    let Some(child) = child else { command.execute(&stdin, &stdout, filter) };
    drop((stdin, stdout));
    let mut tail = Vec::new();
    let input = Some((input, state.as_bytes()));
    let ended = watch(&child, input, output.into(), hook.timeout, &mut tail);
    if !matches!(ended, Ok(true)) {
        sys::kill(&child);
    }
    let status = waitpid(Some(child.pid), WaitOptions::empty()).named(&hook.field, what("wait"))?;
    if !ended.named(&hook.field, what("wait"))? {
        let seconds = hook.timeout.unwrap_or_default();
        return Err(setup(&hook.field, what(&format!("killed after its timeout of {seconds} s"))));
    }
    match status.and_then(|(_, status)| complaint(status)) {
        Some(complaint) => Err(setup(&hook.field, what(&with_output(&complaint, &tail)))),
        None => Ok(()),
    }
}

/// A hook as exec takes it.
struct Command {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    fn new(hook: &StartHook) -> Result<Self> {
        let string = |text: &String| {
            CString::new(text.as_str())
                .map_err(|_| setup(&hook.field, format_args!("{text:?}: holds a zero byte")))
        };
        let path = string(&hook.path)?;
        let mut args = hook.args.iter().map(string).collect::<Result<Vec<_>>>()?;
        if args.is_empty() {
            args.push(path.clone());
        }
        Ok(Self { path, args, env: hook.env.iter().map(string).collect::<Result<_>>()? })
    }

    /// The hook's process. Why it could not be executed is in its output.
    fn execute(&self, stdin: &OwnedFd, output: &OwnedFd, filter: Option<&Filter>) -> ! {
        let streams = [stdin.as_fd(), output.as_fd(), output.as_fd()];
        let ready = sys::keep_only(streams, &[], []).and_then(|[]| sys::reset_signals());
        if ready.is_err() || filter.is_some_and(|filter| filter.load().is_err()) {
            sys::exit(126);
        }
        let error = sys::execute(&self.path, &self.args, &self.env);
        let _ = rustix::io::write(rustix::stdio::stderr(), cause(&error).as_bytes());
        sys::exit(127)
    }
}

/// Waits for the end of a hook, writes its input meanwhile, and keeps the end of its output. False when its time is
/// up.
fn watch(
    child: &sys::Process,
    mut input: Option<(OwnedFd, &[u8])>,
    output: File,
    timeout: Option<u32>,
    tail: &mut Vec<u8>,
) -> Result<bool, Errno> {
    let deadline = timeout.map(|seconds| clock::now_us().saturating_add(u64::from(seconds) * 1_000_000));
    let mut output = Some(output);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_sub(clock::now_us()));
        if left == Some(0) {
            return Ok(false);
        }
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(output.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        fds.extend(input.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::OUT)));
        let left = left.map(|us| Timespec {
            tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(us % 1_000_000 * 1_000).unwrap_or_default(),
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        if output.as_mut().is_some_and(|output| !read_some(output, tail)) {
            output = None;
        }
        input = input.and_then(write_some);
        if ended {
            // What it left in the pipe; what children of its own write later is not waited for.
            for _ in 0..PIPE / CHUNK {
                let _ = output.as_mut().map(|output| read_some(output, tail));
            }
            return Ok(true);
        }
    }
}

/// Writes what there is room for; returns what is left, which is nothing when nobody reads any more.
fn write_some((pipe, text): (OwnedFd, &[u8])) -> Option<(OwnedFd, &[u8])> {
    let left = match rustix::io::write(&pipe, text) {
        Ok(written) => text.get(written..).unwrap_or_default(),
        Err(Errno::AGAIN | Errno::INTR) => text,
        Err(_) => &[],
    };
    (!left.is_empty()).then_some((pipe, left))
}

/// Reads what there is. False at the end.
fn read_some(output: &mut File, tail: &mut Vec<u8>) -> bool {
    let mut bytes = [0; CHUNK];
    match output.read(&mut bytes) {
        Ok(0) => false,
        Ok(length) => {
            tail.extend(bytes.get(..length).unwrap_or_default());
            tail.drain(..tail.len().saturating_sub(MAX_OUTPUT));
            true
        }
        Err(error) => {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
        }
    }
}

fn complaint(status: WaitStatus) -> Option<String> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(signal)) => Some(format!("ended by signal {signal}")),
        (None, None) => Some("ended".to_owned()),
    }
}

fn with_output(complaint: &str, tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    match text.trim() {
        "" => complaint.to_owned(),
        text => format!("{complaint}: {text}"),
    }
}
