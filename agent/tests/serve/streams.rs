//! Standard streams: every byte once, in order, with ends and back-pressure passed on.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use drupe_protocol::{ExitStatus, GuestConfig};

use crate::host::{Host, LIMIT, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("streams::ten_mebibytes_both_ways", ten_mebibytes_both_ways),
    ("streams::output_after_the_end_of_input", output_after_the_end_of_input),
    ("streams::slow_reader", slow_reader),
    ("streams::last_bytes_before_exit", last_bytes_before_exit),
    ("streams::host_stops_to_read", host_stops_to_read),
    ("streams::host_shuts_its_sending_half", host_shuts_its_sending_half),
    ("streams::workload_closes_its_streams", workload_closes_its_streams),
    ("streams::none_is_the_null_device", none_is_the_null_device),
    ("streams::waiting_container_holds_nothing_open", waiting_container_holds_nothing_open),
    ("streams::no_descriptor_is_inherited", no_descriptor_is_inherited),
    ("streams::user_owns_its_streams", user_owns_its_streams),
];

const SIZE: usize = 10 << 20;

/// Configures and starts; returns the host's ends of stdin and stdout.
fn begin(host: &mut Host, mut config: GuestConfig) -> (UnixStream, UnixStream) {
    let (port, stdin) = host.listen();
    config.process.stdio.stdin = Some(port);
    let (port, stdout) = host.listen();
    config.process.stdio.stdout = Some(port);
    host.configure(&config).unwrap();
    let accept = |listener: std::os::unix::net::UnixListener| {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let streams = (accept(stdin), accept(stdout));
    host.start(&config.id).unwrap();
    streams
}

/// Bytes whose every position is different enough to notice loss, repetition and disorder.
fn pattern() -> Vec<u8> {
    (0..SIZE as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn ten_mebibytes_both_ways() {
    let mut host = Host::new();
    let (mut stdin, mut stdout) = begin(&mut host, script("exec cat"));
    let writer = thread::spawn(move || stdin.write_all(&pattern()).unwrap());
    let mut got = Vec::new();
    stdout.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == pattern(), "{} bytes came back", got.len());
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn output_after_the_end_of_input() {
    let mut host = Host::new();
    let (mut stdin, mut stdout) = begin(&mut host, script("cat >/dev/null; echo late; exit 4"));
    stdin.write_all(b"input").unwrap();
    stdin.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "late\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(4));
}

fn slow_reader() {
    let mut host = Host::new();
    let config = script(
        "n=0; while [ $n -lt 1024 ]; do dd if=/dev/zero bs=1024 count=10 2>/dev/null; n=$((n+1)); \
                         echo $n >/tmp/progress; done",
    );
    let progress = host.share("root").join("tmp/progress");
    let (_stdin, mut stdout) = begin(&mut host, config);
    thread::sleep(Duration::from_secs(2));
    // The pipe, the sockets and nothing else hold what is not read.
    let blocks: usize = std::fs::read_to_string(&progress).unwrap().trim().parse().unwrap();
    assert!(blocks * 10 < 1024, "{blocks} blocks of 10 KiB were written with nobody reading");
    let mut total = 0;
    let mut buffer = [0; 100_000];
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            length => total += length,
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(total, SIZE);
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn last_bytes_before_exit() {
    let mut host = Host::new();
    for _ in 0..50 {
        let outcome = host
            .try_run(script("dd if=/dev/zero bs=60000 count=1 2>/dev/null; echo end >&2; exit 9"))
            .unwrap();
        assert_eq!((outcome.stdout.len(), outcome.stderr.as_str()), (60000, "end\n"));
        assert_eq!(outcome.status, ExitStatus::Code(9));
    }
}

fn host_stops_to_read() {
    let mut host = Host::new();
    // A writer is ended by SIGPIPE, as `yes | head -1` is.
    let (_stdin, stdout) = begin(&mut host, script("(while :; do echo y; done); test $? = 141 && exit 6"));
    drop(stdout);
    assert_eq!(host.exited("c1"), ExitStatus::Code(6));
    // The same when nothing was written yet.
    let (_stdin, stdout) = begin(&mut host, script("sleep 1; (echo y); test $? = 141 && exit 6"));
    drop(stdout);
    assert_eq!(host.exited("c1"), ExitStatus::Code(6));
}

fn host_shuts_its_sending_half() {
    let mut host = Host::new();
    let (_stdin, mut stdout) = begin(&mut host, script("sleep 0.5; echo still read"));
    stdout.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still read\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn workload_closes_its_streams() {
    let mut host = Host::new();
    let (mut stdin, mut stdout) = begin(&mut host, script("exec <&- >&-; sleep 1000"));
    // The end of stdout is seen while the process lives.
    assert_eq!(stdout.read(&mut [0; 16]).unwrap(), 0);
    stdin.set_write_timeout(Some(LIMIT)).unwrap();
    let refused = (0..1000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        stdin.write_all(b"x").err()
    });
    assert_eq!(refused.map(|error| error.kind()), Some(std::io::ErrorKind::BrokenPipe));
    host.send(&drupe_protocol::HostMessage::Signal {
        container: "c1".into(),
        target: drupe_protocol::SignalTarget::Main,
        signal: 9,
    });
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn none_is_the_null_device() {
    let mut host = Host::new();
    let config =
        script("cat; for n in 0 1 2; do readlink /proc/self/fd/$n; done >/tmp/streams; echo x; echo y >&2");
    host.configure(&config).unwrap();
    host.start("c1").unwrap();
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
    let streams = std::fs::read_to_string(host.share("root").join("tmp/streams")).unwrap();
    assert_eq!(streams, "/dev/null\n/tmp/streams\n/dev/null\n");
}

fn waiting_container_holds_nothing_open() {
    let mut host = Host::new();
    let (stdin, mut stdout) = begin(&mut host, script("cat; echo end"));
    // Made while the first one runs, and never started.
    let mut waiting = script("true");
    waiting.id = "waiting".into();
    host.configure(&waiting).unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "end\n");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
    host.send(&drupe_protocol::HostMessage::Signal {
        container: "waiting".into(),
        target: drupe_protocol::SignalTarget::Main,
        signal: 9,
    });
    assert_eq!(host.exited("waiting"), ExitStatus::Signal(9));
}

fn no_descriptor_is_inherited() {
    let mut host = Host::new();
    // 3 is the directory that ls itself reads.
    assert_eq!(host.output(script("exec ls /proc/self/fd")), "0\n1\n2\n3\n");
}

fn user_owns_its_streams() {
    let mut host = Host::new();
    let mut config = script("echo again >/dev/stdout; echo error >/dev/stderr");
    config.process.user.uid = 1000;
    config.process.user.gid = 1000;
    let outcome = host.try_run(config).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("again\n", "error\n"));
}
