//! Descriptors beside the streams, as `--preserve-fds` and socket activation hand them over.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use drupe_protocol::{Descriptor, ExitStatus, Process, SignalTarget};

use crate::host::{Host, LIMIT, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("descriptors::each_way", each_way),
    ("descriptors::numbers", numbers),
    ("descriptors::of_execs", of_execs),
    ("descriptors::socket_activation", socket_activation),
    ("descriptors::process_closes_its_end", process_closes_its_end),
    ("descriptors::that_are_refused", that_are_refused),
];

fn give(host: &mut Host, process: &mut Process, fd: i32, read: bool, write: bool) -> UnixListener {
    let (port, listener) = host.listen();
    process.descriptors.push(Descriptor { fd, port, read, write });
    listener
}

fn accept(listener: &UnixListener) -> UnixStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn rest(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn each_way() {
    let mut host = Host::new();
    let mut config = script("cat <&3 >&4; echo out; cat <&5 >&5");
    let [to, from, both] = [(3, true, false), (4, false, true), (5, true, true)]
        .map(|(fd, read, write)| give(&mut host, &mut config.process, fd, read, write));
    host.run(&config);
    let (mut to, from, mut both) = (accept(&to), accept(&from), accept(&both));
    to.write_all(b"through both").unwrap();
    drop(to);
    let writer = {
        let mut both = both.try_clone().unwrap();
        std::thread::spawn(move || {
            both.write_all(&vec![b'x'; 3 << 20]).unwrap();
            both.shutdown(Shutdown::Write).unwrap();
        })
    };
    let mut bytes = Vec::new();
    both.read_to_end(&mut bytes).unwrap();
    writer.join().unwrap();
    assert!(bytes == vec![b'x'; 3 << 20], "{} bytes came back", bytes.len());
    assert_eq!(rest(from), "through both");
    assert_eq!(host.exited("c1"), ExitStatus::Code(0));
}

fn numbers() {
    let mut host = Host::new();
    let mut config = script("exec ls /proc/self/fd");
    let listeners = [3, 7, 200].map(|fd| give(&mut host, &mut config.process, fd, true, true));
    // 4 is the directory that ls itself reads.
    assert_eq!(host.output(config), "0\n1\n2\n200\n3\n4\n7\n");
    drop(listeners);
}

fn of_execs() {
    let mut host = Host::new();
    host.run(&command(&["sleep", "1000"]));
    let mut process = script("echo word >&6; exit 3").process;
    let listener = give(&mut host, &mut process, 6, false, true);
    let outcome = host.exec("c1", 1, process).unwrap();
    assert_eq!(outcome.status, ExitStatus::Code(3));
    assert_eq!(rest(accept(&listener)), "word\n");
    // A child that it leaves behind does not hold its end up.
    let mut process = script("(while :; do echo more >&6; : >/tmp/going; done) & until test -e /tmp/going; do sleep 0.01; done; exit 5").process;
    let listener = give(&mut host, &mut process, 6, true, true);
    let reader = std::thread::spawn(move || rest(accept(&listener)));
    assert_eq!(host.exec("c1", 2, process).unwrap().status, ExitStatus::Code(5));
    assert!(reader.join().unwrap().starts_with("more\n"));
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn socket_activation() {
    let mut host = Host::new();
    let mut config = script("echo $LISTEN_FDS $LISTEN_PID $$; sleep 0.01");
    config.process.env.extend(["LISTEN_FDS=1".into(), "LISTEN_PID=4711".into()]);
    // Nothing was handed over: the environment is the user's.
    assert_eq!(host.output(config.clone()), "1 4711 1\n");
    let listener = give(&mut host, &mut config.process, 3, true, true);
    assert_eq!(host.output(config.clone()), "1 1 1\n");
    drop(listener);
    let mut process = config.process;
    process.descriptors.clear();
    let listener = give(&mut host, &mut process, 3, true, true);
    host.run(&command(&["sleep", "1000"]));
    let outcome = host.exec("c1", 1, process).unwrap();
    let [_, for_whom, own] = outcome.stdout.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(for_whom, own);
    drop(listener);
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn process_closes_its_end() {
    let mut host = Host::new();
    let mut config = script("exec 3<&-; sleep 1000");
    let listener = give(&mut host, &mut config.process, 3, true, true);
    host.run(&config);
    let mut stream = accept(&listener);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let refused = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        stream.write_all(b"x").err()
    });
    assert_eq!(refused.map(|error| error.kind()), Some(std::io::ErrorKind::BrokenPipe));
    host.signal("c1", SignalTarget::Main, 9);
    assert_eq!(host.exited("c1"), ExitStatus::Signal(9));
}

fn that_are_refused() {
    let mut host = Host::new();
    for (fds, field) in [
        (vec![2], "process.descriptors[0]"),
        (vec![-1], "process.descriptors[0]"),
        (vec![256], "process.descriptors[0]"),
        (vec![3, 3], "process.descriptors[1]"),
        ((3..100).collect(), "process.descriptors"),
    ] {
        let mut config = script("true");
        let listeners: Vec<_> =
            fds.iter().map(|fd| give(&mut host, &mut config.process, *fd, true, true)).collect();
        assert_eq!(host.configure(&config).unwrap_err().field, field, "{fds:?}");
        drop(listeners);
    }
    assert_eq!(host.output(script("echo alive")), "alive\n");
}
