//! User and time namespaces.

use std::fs;
use std::io::Read;
use std::process::Command;

use drupe_protocol::{
    DeviceNode, GuestConfig, HostMessage, IdMode, IdRange, Process, Rlimit, Scheduler, SignalTarget,
    TimeOffset, TimeOffsets, UserNamespace,
};

use crate::host::{Host, bind, command, filesystem, script};
use crate::policy::deny;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("namespaces::time", time),
    ("namespaces::time_that_fails", time_that_fails),
    ("namespaces::user", user),
    ("namespaces::user_files", user_files),
    ("namespaces::user_and_rights_of_the_guest", user_and_rights_of_the_guest),
    ("namespaces::user_settings", user_settings),
    ("namespaces::user_and_its_network", user_and_its_network),
    ("namespaces::init_is_nothing_to_take_over", init_is_nothing_to_take_over),
    ("namespaces::user_of_an_exec", user_of_an_exec),
    ("namespaces::user_that_fails", user_that_fails),
];

fn offsets(monotonic: i64, boottime: i64) -> TimeOffsets {
    let offset = |seconds| Some(TimeOffset { seconds, nanoseconds: 5 });
    TimeOffsets { monotonic: offset(monotonic), boottime: offset(boottime) }
}

/// Days that the system seems to be up, by the clock that counts also when it sleeps.
const DAYS_UP: &str = "read -r up idle </proc/uptime; echo $((${up%.*} / 86400))";

fn time() {
    let mut host = Host::new();
    let mut config = script(DAYS_UP);
    assert!(host.output(config.clone()).trim().parse::<u32>().unwrap() < 5000);
    for pid in [IdMode::Init, IdMode::BehindInit] {
        config.namespaces.pid = pid;
        config.namespaces.time = Some(offsets(1_000_000, 864_000_000));
        let days: u32 = host.output(config.clone()).trim().parse().unwrap();
        assert!((10_000..15_000).contains(&days), "{days}");
        // The times that are reported are the guest's (`Host::configure` compares them), and so are those of the next.
        config.namespaces.time = None;
        assert!(host.output(config.clone()).trim().parse::<u32>().unwrap() < 5000);
    }
    // So it is for an exec.
    let mut config = command(&["sleep", "1000"]);
    config.namespaces.time = Some(offsets(1_000_000, 864_000_000));
    host.configure(&config).unwrap();
    host.start("c1").unwrap();
    let process = Process { args: script(DAYS_UP).process.args, ..config.process.clone() };
    assert!(host.exec("c1", 1, process).unwrap().stdout.trim().parse::<u32>().unwrap() >= 10_000);
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 9 });
    host.exited("c1");
}

fn time_that_fails() {
    let mut host = Host::new();
    let mut config = script(DAYS_UP);
    config.namespaces.time = Some(offsets(0, i64::MIN));
    let failure = host.configure(&config).unwrap_err();
    assert_eq!(failure.field, "linux.timeOffsets.boottime");
    assert_eq!(failure.message, format!("{} s, 5 ns: numerical result out of range", i64::MIN));
    config.namespaces.time = None;
    assert!(host.output(config).trim().parse::<u32>().unwrap() < 5000);
}

/// Root is 100000 in the guest, users are from 101000 on.
fn mapped() -> UserNamespace {
    let ranges = vec![
        IdRange { inside: 0, outside: 100_000, count: 1000 },
        IdRange { inside: 1000, outside: 101_000, count: 5000 },
    ];
    UserNamespace { uids: ranges.clone(), gids: ranges }
}

/// A host whose image belongs to the container's root, as engines prepare it.
pub(crate) fn host() -> Host {
    let host = Host::new();
    let status = Command::new("chown").args(["-R", "-h", "100000:100000"]).arg(host.share("root")).status();
    assert!(status.unwrap().success());
    host
}

pub(crate) fn in_user_namespace(text: &str, pid: IdMode) -> GuestConfig {
    let mut config = script(text);
    config.namespaces.pid = pid;
    config.namespaces.user = Some(mapped());
    config
}

fn user() {
    let mut host = host();
    let text = "id -u; id -g; while read -r a b c; do echo $a $b $c; done </proc/self/uid_map
                read -r first rest </proc/self/gid_map; echo $first; id -G; touch /tmp/x; stat -c '%u:%g' /tmp/x /
                mkdir -p /tmp/t && mount -t tmpfs t /tmp/t && echo mounted; ls /proc/1/ns >/dev/null && echo seen
                echo hi >/dev/stdout; hostname new && hostname";
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut config = in_user_namespace(text, pid);
        let seen = host.output(config.clone());
        let expected = "0\n0\n0 100000 1000\n1000 101000 5000\n0\n0\n0:0\n0:0\nmounted\nseen\nhi\nnew\n";
        if pid == IdMode::Init {
            assert_eq!(seen, expected);
        } else {
            // Nobody looks into the agent's own init.
            assert_eq!(seen, expected.replace("seen\n", ""));
        }
        let file = fs::metadata(host.share("root").join("tmp/x")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 100_000);
        config.process.args = script("id -u; id -G; echo hi >/dev/stdout").process.args;
        config.process.user.uid = 1000;
        config.process.user.gid = 1001;
        config.process.user.additional_gids = vec![5];
        assert_eq!(host.output(config), "1000\n1001 5\nhi\n");
        fs::remove_file(host.share("root").join("tmp/x")).unwrap();
    }
}

fn user_files() {
    let mut host = host();
    fs::create_dir(host.share("data")).unwrap();
    fs::write(host.share("data").join("file"), "content").unwrap();
    fs::write(host.share("one"), "one").unwrap();
    let text = "cat /data/file /one; touch /data/x 2>&1; touch /t/x /dev/shm/x && echo wrote; cat /sys/class/net/lo/type
                echo x >/dev/null && head -c 1 /dev/zero | wc -c; stat -c '%F %u:%g %a' /dev/null /dev/own /dev/pts/ptmx
                ls /sys/fs/cgroup/cgroup.procs; grep ' /data ' /proc/self/mounts; touch /etc/passwd 2>&1; cat /masked; ls -A /dir";
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut config = in_user_namespace(text, pid);
        config.mounts.extend([
            filesystem("tmpfs", "/dev", "mode=755"),
            filesystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
            filesystem("tmpfs", "/dev/shm", "mode=1777"),
            filesystem("mqueue", "/dev/mqueue", ""),
            filesystem("sysfs", "/sys", ""),
            filesystem("cgroup", "/sys/fs/cgroup", ""),
            bind("data", "/data", false),
            bind("one", "/one", true),
            filesystem("tmpfs", "/t", ""),
        ]);
        config.mounts[7].flags = libc::MS_RDONLY | libc::MS_NOATIME;
        config.devices =
            vec![DeviceNode { uid: 1000, gid: 5, ..crate::devices::node("/dev/own", libc::S_IFCHR, 1, 5) }];
        config.readonly_paths = vec!["/etc".into()];
        config.masked_paths = vec!["/masked".into(), "/dir".into()];
        fs::write(host.share("root").join("masked"), "secret").unwrap();
        fs::create_dir_all(host.share("root").join("dir/below")).unwrap();
        let output = host.output(config);
        let expected = "contentonetouch: /data/x: Read-only file system\nwrote\n772\n1\n\
                        character special file 0:0 666\ncharacter special file 1000:5 640\n\
                        character special file 0:0 666\n/sys/fs/cgroup/cgroup.procs\n";
        let rest = output.strip_prefix(expected).unwrap_or_else(|| panic!("{output}"));
        assert!(rest.contains(" /data ") && rest.contains(" ro,noatime"), "{rest}");
        assert!(rest.ends_with("touch: /etc/passwd: Read-only file system\n"), "{rest}");
    }
    // A root that is read-only, with mount points to be made in it.
    host.protect("root");
    let mut config = in_user_namespace("cat /new/one; touch /x 2>&1 || true", IdMode::Init);
    config.root.readonly = true;
    config.mounts.push(bind("one", "/new/one", true));
    assert_eq!(host.output(config), "onetouch: /x: Read-only file system\n");
}

fn user_and_rights_of_the_guest() {
    let mut host = host();
    let text = "read -r line </proc/self/stat; set -- $line; echo ${40} ${41}; ionice; cat /proc/self/oom_score_adj
                grep -E 'Max open files' /proc/self/limits | while read -r _ _ _ soft hard _; do echo $soft $hard; done";
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut config = in_user_namespace(text, pid);
        config.process.scheduler = Some(Scheduler { policy: 1, priority: 3, ..Scheduler::default() });
        config.process.io_priority = Some(1 << 13 | 2);
        config.process.oom_score_adj = Some(300);
        config.process.rlimits = vec![Rlimit { name: "RLIMIT_NOFILE".into(), soft: 20, hard: 25 }];
        assert_eq!(host.output(config.clone()), "3 1\nrealtime: prio 2\n300\n20 25\n");
        // What is a right of the guest alone is not the container's.
        config.process.args = script("echo 0 >/proc/self/oom_score_adj").process.args;
        config.process.oom_score_adj = Some(-300);
        let outcome = host.try_run(config).map_err(|failure| failure.field);
        // Where the tests lack CAP_SYS_RESOURCE the score cannot be that of a container.
        assert!(outcome.is_ok() || outcome.unwrap_err() == "process.oomScoreAdj");
    }
}

fn user_settings() {
    let mut host = host();
    let mut config = in_user_namespace(
        "hostname; cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_forward; hostname x 2>/dev/null || echo denied",
        IdMode::Init,
    );
    config.hostname = Some("inside".into());
    config.sysctl =
        [("kernel.shmmni", "77"), ("net.ipv4.ip_forward", "1")].map(|(k, v)| (k.into(), v.into())).into();
    config.namespaces.time = Some(offsets(1000, 1000));
    for nnp in [false, true] {
        config.process.no_new_privileges = nnp;
        config.process.seccomp = Some(deny(&[libc::SYS_sethostname]));
        assert_eq!(host.output(config.clone()), "inside\n77\n1\ndenied\n");
    }
}

/// Its root has the rights over the network that a container's root has.
fn user_and_its_network() {
    let mut host = host();
    let text = "ifconfig lo mtu 1400 && cat /sys/class/net/lo/mtu; ifconfig lo | grep -c 'UP LOOPBACK'
                echo 1 >/proc/sys/net/ipv4/ip_forward && echo set; exec sleep 1000";
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut config = in_user_namespace(text, pid);
        config.mounts.push(filesystem("sysfs", "/sys", ""));
        let (port, listener) = host.listen();
        config.process.stdio.stdout = Some(port);
        host.run(&config);
        let mut stream = listener.accept().unwrap().0;
        let mut output = [0; 11];
        stream.read_exact(&mut output).unwrap();
        assert_eq!(str::from_utf8(&output).unwrap(), "1400\n1\nset\n");
        let process =
            Process { args: script("ifconfig lo | grep -o 'MTU:[0-9]*'").process.args, ..config.process };
        assert_eq!(host.exec("c1", 1, process).unwrap().stdout, "MTU:1400\n");
        host.signal("c1", SignalTarget::Main, 9);
        drop(stream);
        host.exited("c1");
    }
    // The guest's is another one.
    assert_eq!(host.output(script("ifconfig -a lo | grep -c MTU:1400 || true")), "0\n");
}

/// Who may trace the agent's own init gets nothing by it.
fn init_is_nothing_to_take_over() {
    let mut host = Host::new();
    let mut config = script("grep -E '^(Cap|NoNewPrivs)' /proc/1/status");
    config.namespaces.pid = IdMode::BehindInit;
    let none = |name: &str| format!("{name}:\t0000000000000000\n");
    let sets: String = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(none).concat();
    assert_eq!(host.output(config), format!("{sets}NoNewPrivs:\t1\n"));
}

fn user_of_an_exec() {
    let mut host = host();
    let config =
        GuestConfig { process: command(&["sleep", "1000"]).process, ..in_user_namespace("", IdMode::Init) };
    host.configure(&config).unwrap();
    host.start("c1").unwrap();
    let text = "id -u; touch /tmp/made; stat -c %u /tmp/made; echo hi >/dev/stdout; ls /proc/1/root >/dev/null && echo seen";
    let mut process = Process { args: script(text).process.args, ..config.process.clone() };
    assert_eq!(host.exec("c1", 1, process.clone()).unwrap().stdout, "0\n0\nhi\nseen\n");
    process.user.uid = 1000;
    process.args = script("id -u; echo hi >/dev/stdout").process.args;
    assert_eq!(host.exec("c1", 2, process).unwrap().stdout, "1000\nhi\n");
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 9 });
    host.exited("c1");
}

fn user_that_fails() {
    let mut host = host();
    let range = |inside, outside, count| IdRange { inside, outside, count };
    for pid in [IdMode::Init, IdMode::BehindInit] {
        let mut config = in_user_namespace("true", pid);
        let mut fails = |uids: Vec<IdRange>, gids: Vec<IdRange>| {
            config.namespaces.user = Some(UserNamespace { uids, gids });
            let failure = host.configure(&config).unwrap_err();
            assert!(!host.cgroup.join("drupe/c1").exists(), "the cgroup is left");
            (failure.field, failure.message)
        };
        let good = || vec![range(0, 100_000, 10)];
        let text = |field: &str, message: &str| (field.to_owned(), message.to_owned());
        assert_eq!(fails(vec![], good()), text("linux.uidMappings", "[]: id 0 is not in it"));
        assert_eq!(
            fails(good(), vec![range(1, 1, 5)]),
            text("linux.gidMappings", "[1 1 5]: id 0 is not in it")
        );
        assert_eq!(
            fails(vec![range(0, 1, 5), range(3, 100, 5)], good()),
            text("linux.uidMappings", "[0 1 5, 3 100 5]: invalid argument")
        );
        config = in_user_namespace("true", pid);
        config.process.user.uid = 9000;
        let failure = host.configure(&config).unwrap_err();
        assert_eq!(
            (failure.field.as_str(), failure.message.as_str()),
            ("process.user.uid", "9000: invalid argument")
        );
        config = in_user_namespace("true", pid);
        config.mounts.push(bind("absent", "/t", false));
        assert_eq!(host.configure(&config).unwrap_err().field, "mounts[0].source");
    }
}
