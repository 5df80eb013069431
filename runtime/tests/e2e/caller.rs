//! A caller such as conmon: it makes a container, and the process of its pid file becomes its child, whose end it
//! sees. It is this test program once more, since being told of others' children is a process's own affair.

use std::env;
use std::fs;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use crate::container::Container;

/// Says that this process is to be the caller; its arguments are the runtime's.
const CALLER: &str = "DRUPE_E2E_CALLER";

/// Creates and starts the container as a child of a caller; how the process of its pid file ends: its status as a
/// shell tells it.
#[track_caller]
pub(crate) fn waits(container: &Container<'_>) -> i32 {
    let pid_file = container.bundle.dir.with_extension("pid");
    let runtime = &container.bundle.stage.subject.program;
    let mut caller = Command::new(env::current_exe().expect("own path"));
    caller.env(CALLER, &pid_file).stdin(Stdio::null());
    caller
        .arg(runtime)
        .arg(container.bundle.stage.state())
        .arg(&container.bundle.dir)
        .arg(&container.bundle.id);
    let output = caller.output().expect("own program");
    let answer = String::from_utf8_lossy(&output.stdout).trim_end().parse();
    answer.unwrap_or_else(|_| panic!("no answer: {output:?}"))
}

/// What this process does when it is the caller; `None` when it is not.
pub(crate) fn act() -> Option<ExitCode> {
    let pid_file = env::var_os(CALLER)?;
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [runtime, root, bundle, id] = args.as_slice() else { return Some(ExitCode::FAILURE) };
    set_child_subreaper(Some(getpid())).expect("PR_SET_CHILD_SUBREAPER");
    let call = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new(runtime);
        command.env_remove(CALLER).arg("--root").arg(root).args(words);
        // The container's streams are not the pipe on which the answer goes.
        command.stdout(Stdio::null()).status().expect("the runtime").success()
    };
    let made = call(&["create".as_ref(), "-b".as_ref(), bundle, "--pid-file".as_ref(), &pid_file, id]);
    assert!(made && call(&["start".as_ref(), id]), "the container is not made");
    let pid: i32 = fs::read_to_string(&pid_file).expect("the pid file").parse().expect("a pid");
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).expect("own child").expect("ended");
    let status = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    #[allow(clippy::print_stdout, reason = "the answer to the test that started this process")]
    {
        println!("{}", status.expect("it has ended"));
    }
    Some(ExitCode::SUCCESS)
}
