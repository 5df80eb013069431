//! Terminals of the main process and of execs.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use drupe_protocol::{
    Answer, ExitStatus, GuestConfig, GuestMessage, HostMessage, IdMode, Process, Question, SignalTarget,
    TerminalConfig, WindowSize,
};

use crate::host::{Host, LIMIT, bind, command, filesystem, script};
use crate::namespaces;
use crate::policy::deny;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("terminals::are_the_three_streams", are_the_three_streams),
    ("terminals::size", size),
    ("terminals::console", console),
    ("terminals::controlling_terminal", controlling_terminal),
    ("terminals::owner", owner),
    ("terminals::of_execs", of_execs),
    ("terminals::under_a_filter", under_a_filter),
    ("terminals::in_a_user_namespace", in_a_user_namespace),
    ("terminals::host_hangs_up", host_hangs_up),
    ("terminals::host_hangs_up_while_input_waits", host_hangs_up_while_input_waits),
    ("terminals::host_shuts_its_sending_half", host_shuts_its_sending_half),
    ("terminals::every_byte_of_output", every_byte_of_output),
    ("terminals::every_byte_of_input", every_byte_of_input),
    ("terminals::slow_reader", slow_reader),
    ("terminals::closed_and_opened_again", closed_and_opened_again),
    ("terminals::background_children_do_not_hold_the_end_up", background_children),
    ("terminals::an_idle_one_costs_nothing", an_idle_one_costs_nothing),
    ("terminals::only_of_a_real_devpts", only_of_a_real_devpts),
];

fn with_devpts(mut config: GuestConfig) -> GuestConfig {
    config.mounts.push(filesystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620"));
    config
}

/// Gives a process a terminal of 24 lines.
fn on_terminal(host: &mut Host, process: &mut Process) -> std::os::unix::net::UnixListener {
    let (port, listener) = host.listen();
    process.stdio.terminal = Some(port);
    process.terminal = Some(TerminalConfig { size: Some(WindowSize { rows: 24, columns: 80 }) });
    listener
}

fn accept(listener: &std::os::unix::net::UnixListener) -> UnixStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Starts a container with a terminal; returns the host's end.
fn begin(host: &mut Host, config: GuestConfig) -> UnixStream {
    let mut config = with_devpts(config);
    let listener = on_terminal(host, &mut config.process);
    host.run(&config);
    accept(&listener)
}

/// Starts an exec with a terminal in the container `c1`; returns the host's end.
fn begin_exec(host: &mut Host, exec: u32, mut process: Process) -> UnixStream {
    let listener = on_terminal(host, &mut process);
    host.exec_start("c1", exec, process).unwrap();
    accept(&listener)
}

fn sleeper(host: &mut Host) {
    host.run(&with_devpts(command(&["sleep", "1000"])));
}

fn rest(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended after {text:?}");
        text.push(char::from(byte[0]));
    }
    text
}

fn kill(host: &mut Host) {
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn are_the_three_streams() {
    let mut host = Host::new();
    let text =
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo error >&2; ls /proc/self/fd; exit 3";
    let mut terminal = begin(&mut host, script(text));
    assert_eq!(rest(&mut terminal), "/dev/pts/0\r\nall\r\nerror\r\n0  1  2  3\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(3));
}

fn size() {
    let mut host = Host::new();
    let text = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut terminal = begin(&mut host, script(text));
    assert_eq!(read_until(&mut terminal, "ready\r\n"), "24 80\r\nready\r\n");
    let size = WindowSize { rows: 40, columns: 132 };
    host.send(&HostMessage::Resize { container: "c1".into(), exec: None, size });
    assert_eq!(rest(&mut terminal), "40 132\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
    // Of nobody, and of one that has no terminal.
    host.run(&command(&["sleep", "1000"]));
    for (container, exec) in [("nobody", None), ("c1", None), ("c1", Some(4))] {
        host.send(&HostMessage::Resize { container: container.into(), exec, size });
    }
    kill(&mut host);
}

fn console() {
    let mut host = Host::new();
    let text =
        "echo here >/dev/console; test $(stat -c %t:%T /dev/console) = $(stat -Lc %t:%T $(tty)) && echo same";
    let mut config = script(text);
    config.root.readonly = true;
    let mut terminal = begin(&mut host, config);
    assert_eq!(rest(&mut terminal), "here\r\nsame\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn controlling_terminal() {
    let mut host = Host::new();
    let mut config = command(&["sh", "-c", "echo to tty >/dev/tty; exec sleep 1000"]);
    config.namespaces.pid = IdMode::BehindInit;
    let mut terminal = begin(&mut host, config);
    assert_eq!(read_until(&mut terminal, "\n"), "to tty\r\n");
    terminal.write_all(b"\x03").unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Signal(2));
    assert_eq!(rest(&mut terminal), "^C");
}

fn owner() {
    let mut host = Host::new();
    let mut config = script("stat -c '%u %a' $(tty); echo again >/dev/stdout; echo tty >/dev/tty");
    config.process.user.uid = 1000;
    config.process.user.gid = 1000;
    config.process.capabilities = drupe_protocol::Capabilities::default();
    let mut terminal = begin(&mut host, config);
    assert_eq!(rest(&mut terminal), "1000 620\r\nagain\r\ntty\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn of_execs() {
    let mut host = Host::new();
    let mut main = begin(&mut host, command(&["sleep", "1000"]));
    let text = "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut execs: Vec<UnixStream> = (1..4).map(|n| begin_exec(&mut host, n, script(text).process)).collect();
    for (number, terminal) in (1..).zip(&mut execs) {
        assert_eq!(read_until(terminal, "ready\r\n"), format!("/dev/pts/{number}\r\n24 80\r\nready\r\n"));
    }
    host.send(&HostMessage::Ask { container: "c1".into(), number: 1, question: Question::Processes });
    let GuestMessage::Answer { answer: Answer::Processes(found), .. } = host.receive() else {
        panic!("no list")
    };
    let mut terminals: Vec<_> = found.into_iter().filter_map(|process| process.tty).collect();
    terminals.sort();
    terminals.dedup();
    assert_eq!(terminals, ["pts/0", "pts/1", "pts/2", "pts/3"]);
    for (number, terminal) in (1..).zip(&mut execs) {
        let size = WindowSize { rows: 10, columns: 20 };
        host.send(&HostMessage::Resize { container: "c1".into(), exec: Some(number), size });
        assert_eq!(rest(terminal), "10 20\r\n");
        assert_eq!(host.exec_exited("c1", number), ExitStatus::Code(4));
    }
    kill(&mut host);
    assert_eq!(rest(&mut main), "");
}

/// The agent has its end before a filter could be against it.
fn under_a_filter() {
    let mut host = Host::new();
    let filter = Some(deny(&[libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendto, libc::SYS_recvfrom]));
    let mut config = script("tty; sleep 1000");
    config.process.seccomp = filter.clone();
    let mut terminal = begin(&mut host, config);
    assert_eq!(read_until(&mut terminal, "\n"), "/dev/pts/0\r\n");
    let process = Process { seccomp: filter, ..script("tty").process };
    assert_eq!(rest(&mut begin_exec(&mut host, 1, process)), "/dev/pts/1\r\n");
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(0));
    kill(&mut host);
}

fn in_a_user_namespace() {
    let mut host = namespaces::host();
    let text =
        "stat -c %u $(tty); echo tty >/dev/tty; echo console >/dev/console; test -t 2 && exec sleep 1000";
    let mut terminal = begin(&mut host, namespaces::in_user_namespace(text, IdMode::Init));
    assert_eq!(read_until(&mut terminal, "console\r\n"), "0\r\ntty\r\nconsole\r\n");
    let mut process = script("stat -c %u $(tty); echo tty >/dev/tty; exit 3").process;
    process.user.uid = 1000;
    process.capabilities = drupe_protocol::Capabilities::default();
    let mut terminal = begin_exec(&mut host, 1, process);
    assert_eq!(rest(&mut terminal), "1000\r\ntty\r\n");
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(3));
    kill(&mut host);
}

fn host_hangs_up() {
    let mut host = Host::new();
    sleeper(&mut host);
    let text = "trap 'exit 5' HUP; echo ready; while :; do sleep 0.01; done";
    let mut terminal = begin_exec(&mut host, 1, script(text).process);
    read_until(&mut terminal, "ready\r\n");
    drop(terminal);
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(5));
    // The default is to end.
    drop(begin_exec(&mut host, 2, command(&["sleep", "1000"]).process));
    assert_eq!(host.exec_exited("c1", 2), ExitStatus::Signal(1));
    kill(&mut host);
}

fn host_hangs_up_while_input_waits() {
    let mut host = Host::new();
    sleeper(&mut host);
    let mut terminal =
        begin_exec(&mut host, 1, script("stty raw -echo; echo ready; exec sleep 1000").process);
    read_until(&mut terminal, "ready\n");
    terminal.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // More than anything between here and there holds.
    let taken: usize = (0..1000).map_while(|_| terminal.write(&[b'x'; 4096]).ok()).sum();
    assert!(taken < 1000 * 4096, "nobody reads, and all is taken");
    drop(terminal);
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Signal(1));
    kill(&mut host);
}

fn host_shuts_its_sending_half() {
    let mut host = Host::new();
    let mut terminal = begin(&mut host, script("read line; sleep 0.3; echo got $line"));
    terminal.write_all(b"word\n").unwrap();
    terminal.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut terminal), "word\r\ngot word\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn every_byte_of_output() {
    let mut host = Host::new();
    sleeper(&mut host);
    for number in 0..20 {
        let text = "stty -opost; dd if=/dev/zero bs=50000 count=20 2>/dev/null; echo end; exit 7";
        let mut terminal = begin_exec(&mut host, number, script(text).process);
        let mut bytes = Vec::new();
        terminal.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 1_000_004);
        assert!(bytes.ends_with(b"\0end\n"));
        assert_eq!(host.exec_exited("c1", number), ExitStatus::Code(7));
    }
    kill(&mut host);
}

fn every_byte_of_input() {
    const SIZE: usize = 1 << 20;
    let mut host = Host::new();
    let mut terminal =
        begin(&mut host, script("stty raw -echo; echo ready; head -c 1048576 | md5sum; exit 2"));
    read_until(&mut terminal, "ready\n");
    let mut writer = terminal.try_clone().unwrap();
    let thread = thread::spawn(move || writer.write_all(&vec![b'a'; SIZE]).unwrap());
    assert_eq!(rest(&mut terminal), "7202826a7791073fe2787f0c94603278  -\n");
    thread.join().unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Code(2));
}

fn slow_reader() {
    let mut host = Host::new();
    let text = "stty -opost; n=0; while [ $n -lt 1000 ]; do dd if=/dev/zero bs=1024 count=10 2>/dev/null; \
                n=$((n+1)); echo $n >/tmp/progress; done";
    let mut terminal = begin(&mut host, script(text));
    thread::sleep(Duration::from_secs(2));
    let progress = std::fs::read_to_string(host.share("root").join("tmp/progress")).unwrap();
    let blocks: usize = progress.trim().parse().unwrap();
    assert!(blocks < 500, "{blocks} blocks of 10 KiB were written with nobody reading");
    assert_eq!(rest(&mut terminal).len(), 10 * 1024 * 1000);
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn closed_and_opened_again() {
    let mut host = Host::new();
    let text =
        "echo first; exec 0<&- 1>&- 2>&-; for n in 1 2 3; do sleep 0.2; echo $n >/dev/tty; done; exit 6";
    let mut terminal = begin(&mut host, script(text));
    assert_eq!(rest(&mut terminal), "first\r\n1\r\n2\r\n3\r\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(6));
}

fn background_children() {
    let mut host = Host::new();
    sleeper(&mut host);
    let text = "(trap '' HUP; sleep 1000) & echo started; exit 3";
    let mut terminal = begin_exec(&mut host, 1, script(text).process);
    assert_eq!(rest(&mut terminal), "started\r\n");
    assert_eq!(host.exec_exited("c1", 1), ExitStatus::Code(3));
    let text = "(trap '' HUP; while :; do echo more; : >/tmp/going; done) & until test -e /tmp/going; do sleep 0.01; done; exit 5";
    let mut terminal = begin_exec(&mut host, 2, script(text).process);
    assert!(rest(&mut terminal).starts_with("more\r\n"));
    assert_eq!(host.exec_exited("c1", 2), ExitStatus::Code(5));
    kill(&mut host);
}

fn an_idle_one_costs_nothing() {
    let mut host = Host::new();
    // One that nobody has open, one that is open, and one whose host only listens.
    let _closed = begin(&mut host, script("exec 0<&- 1>&- 2>&-; sleep 1000"));
    let _open = begin_exec(&mut host, 1, command(&["sleep", "1000"]).process);
    let listens = begin_exec(&mut host, 2, command(&["sleep", "1000"]).process);
    listens.shutdown(Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(500));
    let ticks = |host: &Host| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.agent_pid())).unwrap();
        stat.split_whitespace().skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
    };
    let before = ticks(&host);
    thread::sleep(Duration::from_secs(1));
    let used = ticks(&host) - before;
    assert!(used < 5, "{used} ticks in a second of nothing");
    host.signal("c1", SignalTarget::Main, 9);
    (0..2).for_each(|_| assert!(matches!(host.receive(), GuestMessage::ExecExited { .. })));
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn only_of_a_real_devpts() {
    let mut host = Host::new();
    let root = host.share("root");
    std::fs::create_dir(root.join("fake")).unwrap();
    std::fs::write(root.join("fake/ptmx"), "").unwrap();
    std::fs::write(host.share("file"), "").unwrap();
    let mut refuse = |config: &mut GuestConfig, message: &str| {
        let listener = on_terminal(&mut host, &mut config.process);
        let failure = host.configure(config).unwrap_err();
        assert_eq!(failure.field, "process.terminal");
        assert!(failure.message.contains(message), "{failure:?}");
        drop(listener);
    };
    refuse(&mut script("true"), "\"/dev/pts\": no such file");
    let mut config = script("true");
    config.mounts.push(filesystem("tmpfs", "/dev/pts", ""));
    refuse(&mut config, "no devpts is mounted there");
    // A devpts with something else over its multiplexer.
    let mut config = with_devpts(script("true"));
    config.mounts.push(bind("file", "/dev/pts/ptmx", true));
    refuse(&mut config, "\"/dev/pts/ptmx\": ");
    // Without a port.
    let mut config = with_devpts(script("true"));
    config.process.terminal = Some(TerminalConfig::default());
    assert_eq!(host.configure(&config).unwrap_err().field, "process.terminal");
    // A container that has moved its own out of the way gets none for an exec.
    let mut config =
        script("mount -t tmpfs none /dev/pts && ln -s /fake/ptmx /dev/pts/ptmx; echo >/tmp/done; sleep 1000");
    config.mounts.push(filesystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666"));
    host.run(&config);
    while !root.join("tmp/done").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let mut process = script("true").process;
    let _listener = on_terminal(&mut host, &mut process);
    let failure = host.exec_start("c1", 1, process).unwrap_err();
    assert_eq!(failure.message, "\"/dev/pts\": no devpts is mounted there");
    kill(&mut host);
}
