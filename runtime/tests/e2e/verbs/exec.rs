//! `exec`: one more process in the container, with its own identity, streams and exit status.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::case::Case;
use crate::container::Container;
use crate::running::{Output, Running};
use crate::stage::Stage;

/// Status of a call that did not come as far as the program.
const FAILED: i32 = 255;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::exec::streams_and_exit_status_are_its_own", streams).cost(4),
        Case::new("verbs::exec::it_is_as_the_options_say", options).cost(5),
        Case::new("verbs::exec::a_process_from_a_file", from_file).cost(2),
        Case::new("verbs::exec::detached_it_has_a_pid_file", detached).cost(3),
        Case::new("verbs::exec::it_ends_with_the_container", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            let mut exec =
                Running::start(&mut container.words(&["exec", "ID", "sh", "-c", "echo up; sleep 1000"]));
            assert_eq!(exec.line(), "up");
            container.ok("kill ID KILL");
            assert_ne!(exec.finish().status, 0);
            container.becomes("stopped");
            let output = container.exec(&["true"]);
            assert_eq!((output.status, output.stdout.len()), (FAILED, 0), "{output:?}");
            container.ok("delete ID");
        })
        .cost(3),
        Case::new("verbs::exec::many_at_once", |stage| {
            let container = Container::started(stage.bundle(&["sleep", "1000"]));
            let start = |n: i32| {
                let script = format!("read -r x; echo {n}; exit {n}");
                let mut command = container.words(&["exec", "ID", "sh", "-c", &script]);
                Running::start(command.stdin(Stdio::piped()))
            };
            let all: Vec<_> = (0..6).map(start).collect();
            for (n, mut exec) in (0..).zip(all) {
                exec.send(b"go\n");
                exec.finish().assert(n, &format!("{n}\n"));
            }
            container.end();
        })
        .cost(5),
    ]
}

fn streams(stage: &Stage) {
    let container = Container::started(stage.bundle(&["sleep", "1000"]));
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let texts = (output.status, output.stdout_text(), output.stderr_text());
    assert_eq!(texts, (7, "out\n".to_owned(), "err\n".to_owned()));
    container.exec(&["sh", "-c", "kill -KILL $$"]).assert(137, "");
    let mut cat = Running::start(container.line("exec ID cat").stdin(Stdio::piped()));
    let text = vec![b'x'; 300_000];
    cat.send(&text);
    cat.close_stdin();
    let Output { status, stdout, .. } = cat.finish();
    assert!(status == 0 && stdout == text, "{} bytes came back", stdout.len());
    for program in ["no-such-program", "/no/such/program", "/etc"] {
        let output = container.exec(&[program]);
        assert!(output.status >= 126 && output.stdout.is_empty(), "{program}: {output:?}");
        assert!(output.stderr_text().contains(program), "{output:?}");
    }
    // The container's own streams have none of it.
    assert_eq!((container.stdout().as_str(), container.stderr().as_str()), ("", ""));
    container.assert_status("running");
    container.end();
}

fn options(stage: &Stage) {
    let bundle = stage.probe(&["sleep", "1000"]).with(|config| {
        config["process"]["env"].as_array_mut().expect("env").push(json!("FROM=config"));
    });
    let container = Container::started(bundle);
    let exec = |line: &str, program: &[&str]| {
        let mut words: Vec<&str> = vec!["exec"];
        words.extend(line.split_whitespace());
        words.push("ID");
        Running::start(&mut container.words(&[&words, program].concat())).finish()
    };
    let script = "echo $FROM $A $B; pwd; id -u; id -g";
    exec("", &["sh", "-c", script]).assert(0, "config\n/\n0\n0\n");
    exec("--env A=1 --env B=2 --cwd /etc --user 5:6", &["sh", "-c", script])
        .assert(0, "config 1 2\n/etc\n5\n6\n");
    exec("-e FROM=exec -u 7", &["sh", "-c", "echo $FROM; id -u"]).assert(0, "exec\n7\n");
    exec("-u 5:6 -g 8 -g 9", &["id", "-G"]).assert(0, "6 8 9\n");
    let bounding = |output: Output| {
        output.assert_status(0);
        let text = output.stdout_text();
        u64::from_str_radix(text.trim().trim_start_matches("CapBnd:").trim(), 16).expect("hexadecimal")
    };
    let grep = ["grep", "CapBnd", "/proc/self/status"];
    let before = bounding(exec("", &grep));
    // CAP_NET_ADMIN, which the sample does not have.
    assert_eq!(before | 1 << 12, bounding(exec("--cap CAP_NET_ADMIN", &grep)));
    assert_eq!(before & 1 << 12, 0);
    // What follows the id is the command's, options too.
    exec("", &["echo", "-t", "--env"]).assert(0, "-t --env\n");
    let output = exec("--cwd /no/such/dir", &["true"]);
    assert!(output.status != 0 && output.stderr_text().contains("/no/such/dir"), "{output:?}");
    container.end();
}

fn from_file(stage: &Stage) {
    let container = Container::started(stage.bundle(&["sleep", "1000"]));
    let process = json!({
        "args": ["sh", "-c", "echo $X; pwd; id -u; ulimit -n; exit 3"],
        "cwd": "/tmp",
        "env": ["PATH=/bin:/usr/bin", "X=file"],
        "user": { "uid": 11, "gid": 12 },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 77 }],
    });
    let file = stage.file("process.json", &process.to_string());
    let file = file.to_str().expect("UTF-8");
    Running::start(&mut container.words(&["exec", "--process", file, "ID"]))
        .finish()
        .assert(3, "file\n/tmp\n11\n77\n");
    for (text, name) in [("{", "process.json"), ("{\"args\": [], \"cwd\": \"/\"}", "args")] {
        fs::write(file, text).expect("own file");
        let output = Running::start(&mut container.words(&["exec", "-p", file, "ID"])).finish();
        assert!(output.status != 0 && output.stdout.is_empty(), "{name}: {output:?}");
    }
    container.end();
}

fn detached(stage: &Stage) {
    let data = stage.directory("data");
    let container = Container::started(stage.bundle(&["sleep", "1000"]).bind(&data, "/data", &["rbind"]));
    let pid_file = stage.path("pid");
    let mut exec = container.words(&["exec", "-d", "--pid-file", pid_file.to_str().expect("UTF-8"), "ID"]);
    exec.args(["sh", "-c", "echo mark >/data/mark; until [ -e /data/end ]; do sleep 0.1; done"]);
    assert_eq!(container.make_with(&mut exec).status, 0);
    let pid = fs::read_to_string(pid_file).expect("the pid file");
    assert!(fs::exists(format!("/proc/{pid}")).expect("/proc"), "{pid}");
    let marked = || fs::read_to_string(data.join("mark")).is_ok_and(|text| text == "mark\n");
    assert!(crate::container::until(marked));
    fs::write(data.join("end"), "").expect("own file");
    assert!(crate::container::until(|| ended(&pid)), "{pid} stays");
    container.assert_status("running");
    container.end();
}

/// Gone, or a zombie that waits for a parent which does not ask.
fn ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}
