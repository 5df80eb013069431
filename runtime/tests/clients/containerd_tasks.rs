//! `ctr`: tasks from their start to their end.

use crate::Case;
use crate::containerd::Containerd;
use crate::done::eventually;
use crate::subject::Subject;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("containerd::run", run),
        Case::new("containerd::exec", exec),
        Case::new("containerd::pause", pause),
        Case::new("containerd::kill", kill),
        Case::new("containerd::attach", attach),
    ]
}

/// A task that runs in the background, ended and deleted with its container at the end of its case.
struct Task<'a> {
    containerd: &'a Containerd,
    name: &'a str,
}

impl<'a> Task<'a> {
    fn start(containerd: &'a Containerd, name: &'a str, options: &[&str], args: &[&str]) -> Self {
        let task = Self { containerd, name };
        containerd.run(&[&["--detach"], options].concat(), name, args).ok();
        task
    }

    /// `RUNNING` and the like.
    fn status(&self) -> String {
        let done = self.containerd.ctr(&["task", "list"]);
        let line = done.ok().lines().find(|line| line.starts_with(self.name)).unwrap_or_default();
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.containerd.ctr(&["task", "kill", "--signal", "KILL", self.name]);
        eventually("the task ends", || !matches!(self.status().as_str(), "RUNNING" | "PAUSED"));
        self.containerd.ctr(&["task", "delete", self.name]);
        let done = self.containerd.ctr(&["container", "delete", self.name]);
        if !std::thread::panicking() {
            done.ok();
        }
    }
}

fn run(subject: &Subject) {
    let containerd = subject.containerd();
    let done = containerd.run(&["--rm"], "once", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.status(7), done.stderr.lines().next()), ("out", Some("err")));
    assert_eq!(containerd.ctr(&["container", "list", "--quiet"]).ok(), "");
    let done = containerd.run(&["--rm"], "missing", &["no-such-program"]);
    assert!(done.status != 0 && done.stderr.contains("no-such-program"), "{done:?}");
}

fn exec(subject: &Subject) {
    let containerd = subject.containerd();
    let task = Task::start(containerd, "exec", &["--memory-limit", "67108864"], &["sleep", "1000"]);
    assert_eq!(task.status(), "RUNNING");
    let args = ["task", "exec", "--exec-id", "one", "exec", "sh", "-c", "cat /proc/1/comm; exit 5"];
    assert_eq!(containerd.ctr(&args).status(5), "sleep");
    let args = ["task", "exec", "--exec-id", "two", "exec", "cat"];
    assert_eq!(containerd.ctr_with_input(&args, "through\n").ok(), "through");
    let metrics = containerd.ctr(&["task", "metrics", "exec"]);
    assert!(metrics.ok().contains("memory.usage"), "{metrics:?}");
}

fn pause(subject: &Subject) {
    let containerd = subject.containerd();
    let task = Task::start(containerd, "pause", &[], &["sleep", "1000"]);
    containerd.ctr(&["task", "pause", "pause"]).ok();
    assert_eq!(task.status(), "PAUSED");
    containerd.ctr(&["task", "resume", "pause"]).ok();
    assert_eq!(task.status(), "RUNNING");
}

fn kill(subject: &Subject) {
    let containerd = subject.containerd();
    let script = "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.2; done";
    let task = Task::start(containerd, "kill", &[], &["sh", "-c", script]);
    let ready = ["task", "exec", "--exec-id", "look", "kill", "ls", "/tmp/ready"];
    eventually("its trap is set", || containerd.ctr(&ready).status == 0);
    containerd.ctr(&["task", "kill", "kill"]).ok();
    eventually("it stops", || task.status() == "STOPPED");
    let done = containerd.ctr(&["task", "delete", "kill"]);
    assert!(done.stderr.contains("exit code 5"), "{done:?}");
}

/// `ctr task attach` gets the output that comes from then on, and the exit status.
fn attach(subject: &Subject) {
    let containerd = subject.containerd();
    let script = "while [ ! -e /tmp/go ]; do sleep 0.2; done; echo seen; exit 4";
    let _task = Task::start(containerd, "attach", &[], &["sh", "-c", script]);
    let command = containerd.command(&["task", "attach", "attach"]);
    let attached = std::thread::scope(|scope| {
        let attached = scope.spawn(|| crate::done::Done::of(&command, std::process::Stdio::null()));
        containerd.ctr(&["task", "exec", "--exec-id", "go", "attach", "touch", "/tmp/go"]).ok();
        attached.join().unwrap()
    });
    assert_eq!(attached.status(4), "seen");
}
