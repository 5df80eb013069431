//! A container over several calls of the runtime. Its streams are files, since it outlives the call that makes it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bundle::Bundle;
use crate::running::{Output, Running};

/// Until then something must have come that is to come. A guard, not a measure.
const PATIENCE: Duration = Duration::from_secs(200);

/// A bundle on disk, and the container that it becomes. Dropped, the container is deleted.
#[derive(Debug)]
pub(crate) struct Container<'stage> {
    pub(crate) bundle: Bundle<'stage>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl<'stage> Container<'stage> {
    pub(crate) fn new(bundle: Bundle<'stage>) -> Self {
        bundle.write();
        let file = |name: &str| bundle.dir.with_extension(name);
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        Self { bundle, stdout, stderr }
    }

    /// A container that was created.
    #[track_caller]
    pub(crate) fn created(bundle: Bundle<'stage>) -> Self {
        let container = Self::new(bundle);
        container.make("create -b BUNDLE ID").assert(0, "");
        container
    }

    /// A container that runs.
    #[track_caller]
    pub(crate) fn started(bundle: Bundle<'stage>) -> Self {
        let container = Self::created(bundle);
        container.ok("start ID");
        container
    }

    /// The runtime with these words. `ID` and `BUNDLE` stand for the container's own.
    pub(crate) fn words(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.bundle.stage.subject.program);
        command.arg("--root").arg(self.bundle.stage.state()).stdin(Stdio::null());
        for word in words {
            match *word {
                "ID" => command.arg(&self.bundle.id),
                "BUNDLE" => command.arg(&self.bundle.dir),
                other => command.arg(other),
            };
        }
        command
    }

    /// The runtime with this line, which has no word with a space in it.
    pub(crate) fn line(&self, line: &str) -> Command {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Calls the runtime and waits for its end and that of its streams.
    #[track_caller]
    pub(crate) fn call(&self, line: &str) -> Output {
        Running::start(&mut self.line(line)).finish()
    }

    /// The same, and it must succeed; what it prints.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.call(line);
        assert!(output.status == 0, "{line}: {output:?}");
        output.stdout_text()
    }

    /// The same, and it must fail with status 1, nothing on stdout and this on stderr.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, text: &str) {
        let output = self.call(line);
        let right = output.status == 1 && output.stdout.is_empty() && output.stderr_text().contains(text);
        assert!(right, "{line}: status 1 and {text:?} expected, got {output:?}");
    }

    /// Calls the runtime for a container that stays: its streams are the container's files.
    pub(crate) fn make(&self, line: &str) -> Output {
        self.make_with(&mut self.line(line))
    }

    pub(crate) fn make_with(&self, command: &mut Command) -> Output {
        let file = |path| File::options().create(true).append(true).open(path).expect("an own file");
        let status = Running::completed(command.stdout(file(&self.stdout)).stderr(file(&self.stderr)));
        Output { status, stdout: self.bytes(&self.stdout), stderr: self.bytes(&self.stderr) }
    }

    /// Runs a program in the container.
    pub(crate) fn exec(&self, program: &[&str]) -> Output {
        Running::start(&mut self.words(&[&["exec", "ID"], program].concat())).finish()
    }

    fn bytes(&self, path: &PathBuf) -> Vec<u8> {
        fs::read(path).unwrap_or_default()
    }

    /// What the container has written to stdout.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes(&self.stdout)).into_owned()
    }

    /// What the container and the runtime that made it have written to stderr.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.bytes(&self.stderr)).into_owned()
    }

    /// Waits until the container has written this line.
    #[track_caller]
    pub(crate) fn says(&self, line: &str) {
        let said = || self.stdout().lines().any(|said| said == line);
        assert!(until(said), "no {line:?} in {:?}; stderr: {:?}", self.stdout(), self.stderr());
    }

    /// What `state` prints.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok("state ID")).expect("state prints JSON")
    }

    /// The status that `state` tells; `none` when there is no such container.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        let output = self.call("state ID");
        if output.status == 0 {
            let state: Value = serde_json::from_slice(&output.stdout).expect("state prints JSON");
            return state["status"].as_str().expect("a status").to_owned();
        }
        assert!(output.stderr_text().contains("does not exist"), "{output:?}");
        "none".to_owned()
    }

    #[track_caller]
    pub(crate) fn assert_status(&self, status: &str) {
        assert_eq!(self.status(), status);
    }

    /// Waits until `state` tells this status.
    #[track_caller]
    pub(crate) fn becomes(&self, status: &str) {
        assert!(until(|| self.status() == status), "{status} expected, still {}", self.status());
    }

    /// Ends it and removes it.
    #[track_caller]
    pub(crate) fn end(&self) {
        self.ok("kill ID KILL");
        self.becomes("stopped");
        self.ok("delete ID");
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.line("delete --force ID").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Looks until it is so; the answer is whether it came to be.
pub(crate) fn until(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}
