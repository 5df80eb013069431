//! A runtime at work: its streams, its end, its memory, signals to it.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// After this long a run counts as hung and is killed. A guard, not a measure: nothing takes a tenth of it.
const HANG: Duration = Duration::from_secs(300);

/// What a finished run left: exit status and output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails unless the run ended with this status.
    #[track_caller]
    pub(crate) fn assert_status(&self, status: i32) {
        assert!(self.status == status, "status {status} expected, got {self:?}");
    }

    /// Fails unless status and stdout are these and stderr is empty.
    #[track_caller]
    pub(crate) fn assert(&self, status: i32, stdout: &str) {
        let right = self.status == status && self.stdout_text() == stdout && self.stderr.is_empty();
        assert!(right, "status {status}, stdout {stdout:?} and no stderr expected, got {self:?}");
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: String| match text.char_indices().nth(2000) {
            Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
            None => text,
        };
        let (stdout, stderr) = (cut(self.stdout_text()), cut(self.stderr_text()));
        write!(f, "status {}, stdout {stdout:?}, stderr {stderr:?}", self.status)
    }
}

/// A started run. Dropped before its end, it is killed; also after [`HANG`], so that all that waits for it ends.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Calls the watchdog off when it is dropped.
    _watched: Sender<()>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Running {
    /// Starts a command whose stdin is already set; stdout and stderr become pipes.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let _watched = watch(&child);
        Self { child, _watched, stdin, stdout, stderr }
    }

    /// Waits for a command whose streams are all set, and gives its status; [`HANG`] holds here too.
    #[track_caller]
    pub(crate) fn completed(command: &mut Command) -> i32 {
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let _watched = watch(&child);
        let status = child.wait().expect("own child");
        status.code().unwrap_or_else(|| panic!("the runtime itself was ended: {status}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the container's stdin.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(bytes).expect("the container reads its stdin");
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Reads stdout up to the end of a line; panics with what stderr has when stdout ends before.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        let stdout = self.stdout.as_mut().expect("stdout is a pipe");
        while line.last() != Some(&b'\n') {
            if stdout.read(&mut byte).expect("a pipe can be read") == 0 {
                let mut complaint = String::new();
                let _ = self.stderr.as_mut().map(|stderr| stderr.read_to_string(&mut complaint));
                panic!("stdout ended inside {:?}; stderr: {complaint:?}", String::from_utf8_lossy(&line));
            }
            line.extend(byte);
        }
        line.pop();
        String::from_utf8(line).expect("text")
    }

    /// Sends a signal to the runtime.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Anonymous memory of a process in KiB (guest memory included, which is anonymous too).
    pub(crate) fn anonymous_kib(pid: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_some()
    }

    /// Reads what is left of the streams and waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Output {
        let stdout = collect(self.stdout.take());
        let stderr = collect(self.stderr.take());
        let deadline = Instant::now() + HANG;
        let status = self.child.wait().expect("own child");
        let take = |stream: Receiver<Vec<u8>>, name: &str| {
            let left = deadline.saturating_duration_since(Instant::now());
            stream.recv_timeout(left).unwrap_or_else(|_| panic!("{name} stays open though the run has ended"))
        };
        let (stdout, stderr) = (take(stdout, "stdout"), take(stderr, "stderr"));
        let status = status.code().unwrap_or_else(|| {
            panic!("the runtime itself was ended: {status}, {}", status.signal().unwrap_or(0))
        });
        Output { status, stdout, stderr }
    }

    /// Waits for a runtime that a signal has ended, and gives that signal.
    pub(crate) fn finish_by_signal(mut self) -> Option<i32> {
        self.child.wait().expect("own child").signal()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a run that has not ended after [`HANG`], unless the result is dropped before.
pub(crate) fn watch(child: &Child) -> Sender<()> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("own child");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        if receiver.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("still running after {} s: killed", HANG.as_secs());
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    });
    sender
}

/// Reads a stream to its end on a thread, so that one full pipe cannot stop the other.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// Undoes what a shell does to a command in the background (SIGINT and SIGQUIT ignored): containers inherit it
/// from this process by way of some runtimes.
pub(crate) fn default_signals() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        // SAFETY: SIG_DFL installs no handler; no other thread is there yet.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
