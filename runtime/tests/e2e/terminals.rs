//! Terminals: the master goes to the socket of `--console-socket`, the other end is the process's streams.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::container::{Container, until};
use crate::receiver::Receiver;
use crate::running::Running;
use crate::stage::Stage;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("terminals::the_console_socket_gets_the_master", console_socket).cost(3),
        Case::new("terminals::of_an_exec", of_exec).cost(3),
        Case::new("terminals::in_the_foreground_it_is_the_callers", |stage| {
            let container =
                Container::new(with_terminal(stage.bundle(&["sh", "-c", "tty; stty size; exit 3"])));
            let mut run = on_a_terminal(&container.line("run -b BUNDLE ID"));
            let output = Running::start(&mut run).finish();
            let text = output.stdout_text();
            assert!(output.status == 3 && text.contains("/dev/") && text.contains("31 97"), "{output:?}");
        })
        .cost(2),
        Case::new("terminals::one_without_a_place_to_go_is_refused", |stage| {
            let container = Container::new(with_terminal(stage.bundle(&["true"])));
            let output = container.make("create -b BUNDLE ID");
            assert!(output.status == 1 && output.stderr_text().contains("console"), "{output:?}");
            let container = Container::new(stage.bundle(&["true"]));
            let output = container.make("create -b BUNDLE --console-socket /no/such/socket ID");
            assert!(output.status == 1 && output.stderr_text().contains("console"), "{output:?}");
            container.assert_status("none");
        }),
    ]
}

fn with_terminal(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.with(|config| config["process"]["terminal"] = json!(true))
}

/// The command on a terminal of 31 lines and 97 columns.
fn on_a_terminal(command: &Command) -> Command {
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().expect("UTF-8")).collect();
    let mut script = Command::new("script");
    let line = format!("stty rows 31 cols 97; {}", words.join(" "));
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    script
}

/// A master, and what came out of it.
struct Terminal {
    master: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn new(master: File) -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (master.try_clone().expect("a descriptor"), Arc::clone(&seen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the other side is an error (EIO).
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { master, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert!(until(|| self.seen().contains(text)), "no {text:?} in {:?}", self.seen());
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("a terminal");
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a terminal");
    }
}

fn make(container: &Container<'_>, words: &[&str], socket: &Path) {
    let socket = socket.to_str().expect("UTF-8");
    let words: Vec<_> = words.iter().map(|word| if *word == "SOCKET" { socket } else { word }).collect();
    let output = container.make_with(&mut container.words(&words));
    output.assert(0, "");
}

fn console_socket(stage: &Stage) {
    let script = "trap 'echo interrupted; exit 4' INT
        tty; stty size; read -r word; echo got $word
        while :; do stty size; sleep 0.2; done";
    let bundle = with_terminal(stage.bundle(&["sh", "-c", script]));
    let bundle =
        bundle.with(|config| config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 }));
    let container = Container::new(bundle);
    let console = Receiver::new(stage, "console");
    make(&container, &["create", "-b", "BUNDLE", "--console-socket", "SOCKET", "ID"], &console.path);
    let mut terminal = Terminal::new(File::from(console.descriptor()));
    container.assert_status("created");
    container.ok("start ID");
    terminal.says("33 77\r\n");
    assert!(terminal.seen().contains("/dev/"), "{}", terminal.seen());
    terminal.types("hello\n");
    // Its echo, then what the program makes of it.
    terminal.says("hello\r\n");
    terminal.says("got hello\r\n");
    terminal.resize(50, 132);
    terminal.says("50 132\r\n");
    terminal.types("\u{3}");
    terminal.says("interrupted\r\n");
    container.becomes("stopped");
    assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("", ""));
    container.ok("delete ID");
}

fn of_exec(stage: &Stage) {
    let container = Container::started(stage.bundle(&["sleep", "1000"]));
    let console = Receiver::new(stage, "console");
    let words = ["exec", "--detach", "--tty", "--console-socket", "SOCKET", "ID"];
    let script = "tty; test -t 2 && echo stderr too; read -r word; echo got $word";
    make(&container, &[&words[..], &["sh", "-c", script]].concat(), &console.path);
    let mut terminal = Terminal::new(File::from(console.descriptor()));
    terminal.says("/dev/pts/");
    terminal.says("stderr too\r\n");
    terminal.types("more\n");
    terminal.says("got more\r\n");
    let mut exec = on_a_terminal(&container.words(&["exec", "--tty", "ID", "stty", "size"]));
    let output = Running::start(&mut exec).finish();
    assert!(output.status == 0 && output.stdout_text().contains("31 97"), "{output:?}");
    container.end();
}
