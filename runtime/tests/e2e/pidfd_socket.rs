//! `--pidfd-socket`: who listens there gets a descriptor of the process that the pid file names.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::case::Case;
use crate::container::{Container, until};
use crate::receiver::Receiver;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    let cases = [
        Case::new("pidfd_socket::of_create", of_create),
        Case::new("pidfd_socket::of_run", of_run).cost(2),
        Case::new("pidfd_socket::of_exec", of_exec).cost(2),
        Case::new("pidfd_socket::nobody_listens", nobody_listens).cost(2),
    ];
    cases.into_iter().map(|case| case.drupe_only("runc has the option since 1.2")).collect()
}

/// The process of which this is a descriptor.
#[track_caller]
fn process_of(pidfd: &OwnedFd) -> String {
    let info =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("an open descriptor");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap_or_else(|| panic!("not a pidfd: {info:?}")).trim().to_owned()
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("an open descriptor") > 0
}

/// A container whose process waits for its end, the socket, and the words that name the socket and the pid file.
fn setting(stage: &Stage) -> (Container<'_>, Receiver, [String; 4]) {
    let container = Container::new(stage.bundle(&["sleep", "1000"]));
    let socket = Receiver::new(stage, "pidfd");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let words =
        ["--pidfd-socket".to_owned(), path(&socket.path), "--pid-file".to_owned(), path(&stage.path("pid"))];
    (container, socket, words)
}

#[track_caller]
fn assert_of_pid_file(stage: &Stage, pidfd: &OwnedFd) {
    assert_eq!(fs::read_to_string(stage.path("pid")).expect("the pid file"), process_of(pidfd));
    assert!(!has_ended(pidfd));
}

fn of_create(stage: &Stage) {
    let (container, socket, [a, b, c, d]) = setting(stage);
    let words = ["create", "-b", "BUNDLE", &a, &b, &c, &d, "ID"];
    container.make_with(&mut container.words(&words)).assert(0, "");
    let pidfd = socket.descriptor();
    assert_of_pid_file(stage, &pidfd);
    assert_eq!(container.state()["pid"].to_string(), process_of(&pidfd));
    container.ok("start ID");
    assert!(!has_ended(&pidfd));
    container.end();
    assert!(until(|| has_ended(&pidfd)), "the process has ended, and its descriptor does not tell");
}

fn of_run(stage: &Stage) {
    let (container, socket, [a, b, c, d]) = setting(stage);
    let words = ["run", "--detach", "-b", "BUNDLE", &a, &b, &c, &d, "ID"];
    container.make_with(&mut container.words(&words)).assert(0, "");
    assert_of_pid_file(stage, &socket.descriptor());
    container.end();
    // In the foreground the process is the command itself.
    let words = ["run", "-b", "BUNDLE", &a, &b, &c, &d, "ID"];
    let run = Running::start(container.words(&words).stdin(Stdio::null()));
    let pidfd = socket.descriptor();
    assert_eq!(process_of(&pidfd), run.pid().to_string());
    container.becomes("running");
    assert_of_pid_file(stage, &pidfd);
    container.ok("kill ID KILL");
    run.finish().assert_status(137);
    assert!(has_ended(&pidfd));
}

fn of_exec(stage: &Stage) {
    let (container, socket, [a, b, c, d]) = setting(stage);
    container.make("create -b BUNDLE ID").assert(0, "");
    container.ok("start ID");
    let words = ["exec", "--detach", &a, &b, &c, &d, "ID", "sleep", "1000"];
    container.make_with(&mut container.words(&words)).assert(0, "");
    let pidfd = socket.descriptor();
    assert_of_pid_file(stage, &pidfd);
    assert_ne!(container.state()["pid"].to_string(), process_of(&pidfd));
    container.end();
    assert!(until(|| has_ended(&pidfd)), "the process has ended, and its descriptor does not tell");
}

/// The container does not come to be without the descriptor that somebody counts on.
fn nobody_listens(stage: &Stage) {
    let container = Container::new(stage.bundle(&["sleep", "1000"]));
    let output = container.make("create -b BUNDLE --pidfd-socket /no/such/socket ID");
    let complaint = output.stderr_text();
    assert!(output.status == 1 && complaint.contains("--pidfd-socket: /no/such/socket"), "{output:?}");
    container.assert_status("none");
    container.make("create -b BUNDLE ID").assert_status(0);
    container.ok("start ID");
    let output = container.call("exec --pidfd-socket /no/such/socket ID true");
    assert!(output.status != 0 && output.stderr_text().contains("--pidfd-socket"), "{output:?}");
    container.assert_status("running");
    container.end();
}
