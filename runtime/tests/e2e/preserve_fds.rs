//! Descriptors beside the streams: `--preserve-fds`, and those of socket activation.

use std::fs;
use std::process::{Command, Stdio};

use crate::case::Case;
use crate::container::Container;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("preserve_fds::what_is_asked_for_is_there_and_nothing_else", |stage| {
            let input = stage.file("input", "from the host\n");
            let output = stage.path("output");
            let script = "cat <&3 >&4; (echo x >&5) 2>/dev/null || echo no 5";
            let container = Container::new(stage.bundle(&["sh", "-c", script]));
            let redirects =
                format!("3<{} 4>{} 5>{}", input.display(), output.display(), stage.path("five").display());
            let mut run = redirected(&container.line("run --preserve-fds 2 -b BUNDLE ID"), &redirects);
            Running::start(&mut run).finish().assert(0, "no 5\n");
            assert_eq!(fs::read_to_string(output).expect("written"), "from the host\n");
        }),
        Case::new("preserve_fds::nothing_is_without_being_asked_for", |stage| {
            let container =
                Container::new(stage.bundle(&["sh", "-c", "(echo x >&3) 2>/dev/null || echo no 3"]));
            let redirects = format!("3>{}", stage.path("three").display());
            let mut run = redirected(&container.line("run -b BUNDLE ID"), &redirects);
            Running::start(&mut run).finish().assert(0, "no 3\n");
        }),
        Case::new("preserve_fds::sockets_of_a_service_manager", |stage| {
            let output = stage.path("output");
            let script = "echo $LISTEN_FDS $LISTEN_PID; echo activated >&3; echo more >&4";
            let container = Container::new(stage.bundle(&["sh", "-c", script]));
            let more = stage.path("more");
            let redirects = format!("3>{} 4>{}", output.display(), more.display());
            let mut run = redirected(&container.line("run --preserve-fds 1 -b BUNDLE ID"), &redirects);
            // One of the manager's, and one more behind it.
            Running::start(run.env("LISTEN_FDS", "1")).finish().assert(0, "1 1\n");
            assert_eq!(fs::read_to_string(output).expect("written"), "activated\n");
            assert_eq!(fs::read_to_string(more).expect("written"), "more\n");
        }),
        Case::new("preserve_fds::those_of_an_exec", of_exec).cost(2),
    ]
}

fn of_exec(stage: &Stage) {
    let container = Container::started(stage.bundle(&["sleep", "1000"]));
    let input = stage.file("input", "given\n");
    let exec = container.words(&["exec", "--preserve-fds", "1", "ID", "sh", "-c", "cat <&3"]);
    let mut exec = redirected(&exec, &format!("3<{}", input.display()));
    Running::start(&mut exec).finish().assert(0, "given\n");
    container.end();
}

/// The command with descriptors that a shell opens for it.
fn redirected(command: &Command, redirects: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" {redirects}")).stdin(Stdio::null());
    shell.arg(command.get_program()).args(command.get_args());
    shell
}
