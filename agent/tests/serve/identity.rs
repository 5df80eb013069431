//! Who the process is and what it may do: read back from the kernel, in the container.

use std::fs;

use drupe_protocol::{Capabilities, FailureKind, Rlimit};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("identity::user_and_groups", user_and_groups),
    ("identity::capabilities", capabilities),
    ("identity::umask", umask),
    ("identity::rlimits", rlimits),
    ("identity::environment", environment),
    ("identity::host_names_and_sysctls", host_names_and_sysctls),
    ("identity::session_and_dumpability", session_and_dumpability),
    ("identity::oom_score", oom_score),
];

fn status(host: &mut Host, config: drupe_protocol::GuestConfig, fields: &[&str]) -> Vec<String> {
    let text = host.output(config);
    let value = |field: &&str| {
        let prefix = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{field} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    fields.iter().map(value).collect()
}

fn own_status() -> drupe_protocol::GuestConfig {
    command(&["cat", "/proc/self/status"])
}

fn user_and_groups() {
    let mut host = Host::new();
    let mut config = own_status();
    config.process.user.uid = 4_294_967_294;
    config.process.user.gid = 7;
    config.process.user.additional_gids = vec![9, 4_294_967_294, 8];
    let lines = status(&mut host, config.clone(), &["Uid", "Gid", "Groups", "CapEff", "CapPrm"]);
    assert_eq!(lines[0], ["4294967294"; 4].join(" "));
    assert_eq!(lines[1], "7 7 7 7");
    assert_eq!(lines[2], "8 9 4294967294");
    assert_eq!(lines[3..], ["0000000000000000"; 2]);
    config.process.user.additional_gids.clear();
    assert_eq!(status(&mut host, config.clone(), &["Groups"]), [""]);
    // The kernel takes -1 for "unchanged": the process would be root.
    config.process.user.uid = u32::MAX;
    assert_eq!(host.try_run(config.clone()).unwrap_err().field, "process.user.uid");
    config.process.user.uid = 0;
    config.process.user.gid = u32::MAX;
    assert_eq!(host.try_run(config).unwrap_err().field, "process.user.gid");
}

fn capabilities() {
    let mut host = Host::new();
    let names = |names: &[&str]| names.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    let fields = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let mut sets = |uid: u32, nnp: bool, sets: Capabilities| {
        let mut config = own_status();
        config.process.user.uid = uid;
        config.process.no_new_privileges = nnp;
        config.process.capabilities = sets;
        let values = status(&mut host, config.clone(), &fields);
        assert_eq!(status(&mut host, config, &["NoNewPrivs"]), [u8::from(nnp).to_string()]);
        values.iter().map(|value| u64::from_str_radix(value, 16).unwrap()).collect::<Vec<_>>()
    };
    // Docker's default, root: exec gives root what is bounded.
    let few = Capabilities {
        bounding: names(&["CHOWN", "KILL", "NET_RAW"]),
        effective: names(&["CHOWN", "KILL", "NET_RAW"]),
        permitted: names(&["CHOWN", "KILL", "NET_RAW"]),
        ..Default::default()
    };
    let bits = 1 | 1 << 5 | 1 << 13;
    assert_eq!(sets(0, false, few.clone()), [0, bits, bits, bits, 0]);
    assert_eq!(sets(0, true, few.clone()), [0, bits, bits, bits, 0]);
    // Another user loses them by exec (CVE-2022-29162 was inheritable ones that were not asked for).
    assert_eq!(sets(1000, false, few.clone()), [0, 0, 0, bits, 0]);
    // Ambient ones are kept; those that are not permitted and inheritable cannot be had.
    let ambient = Capabilities {
        inheritable: names(&["KILL"]),
        ambient: names(&["KILL", "CHOWN", "SYS_ADMIN"]),
        ..few.clone()
    };
    assert_eq!(sets(1000, true, ambient.clone()), [1 << 5, 1 << 5, 1 << 5, bits, 1 << 5]);
    assert_eq!(sets(1000, false, ambient), [1 << 5, 1 << 5, 1 << 5, bits, 1 << 5]);
    assert_eq!(sets(0, false, Capabilities::default()), [0; 5]);
    let mut config = own_status();
    config.process.capabilities = Capabilities { effective: names(&["KILL", "FLY"]), ..few };
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(failure.message, "\"CAP_FLY\": unknown capability");
}

fn umask() {
    let mut host = Host::new();
    assert_eq!(host.output(script("umask")), "0022\n");
    let mut config = script("umask; touch /tmp/x; stat -c %a /tmp/x");
    config.process.user.umask = Some(0o077);
    assert_eq!(host.output(config), "0077\n600\n");
}

fn rlimits() {
    let mut host = Host::new();
    let mut config = command(&["cat", "/proc/self/limits"]);
    let limit = |name: &str, soft, hard| Rlimit { name: name.into(), soft, hard };
    config.process.rlimits = vec![
        limit("RLIMIT_NOFILE", 100, 200),
        limit("RLIMIT_CORE", 0, 0),
        limit("RLIMIT_AS", 1 << 30, u64::MAX),
    ];
    let text = host.output(config.clone());
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("Max open files"), ["100", "200", "files"]);
    assert_eq!(line("Max core file size"), ["0", "0", "bytes"]);
    assert_eq!(line("Max address space"), ["1073741824", "unlimited", "bytes"]);
    config.process.rlimits = vec![limit("RLIMIT_NOFILE", 2, 1)];
    let failure = host.try_run(config.clone()).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.rlimits[0]", "RLIMIT_NOFILE 2:1: invalid argument")
    );
    config.process.rlimits = vec![limit("nofile", 1, 1)];
    assert_eq!(host.try_run(config).unwrap_err().field, "process.rlimits[0].type");
}

fn environment() {
    let mut host = Host::new();
    let mut config = command(&["env"]);
    config.process.env.extend(["A=".into(), "B=x=y\nz".into(), "no equals sign".into()]);
    assert_eq!(host.output(config.clone()), "PATH=/usr/bin:/bin\nA=\nB=x=y\nz\nno equals sign\nHOME=/root\n");
    config.process.env.truncate(1);
    config.process.user.uid = 1000;
    assert_eq!(host.output(config.clone()), "PATH=/usr/bin:/bin\nHOME=/home/user\n");
    config.process.user.uid = 4;
    assert_eq!(host.output(config.clone()), "PATH=/usr/bin:/bin\nHOME=/\n");
    config.process.env = vec!["HOME=/h".into(), "PATH=/bin".into()];
    assert_eq!(host.output(config.clone()), "HOME=/h\nPATH=/bin\n");
    config.process.env = vec!["PATH=/absent".into()];
    assert_eq!(host.try_run(config.clone()).unwrap_err().kind, FailureKind::NotFound);
    config.process.env = vec![];
    assert_eq!(host.try_run(config.clone()).unwrap_err().kind, FailureKind::NotFound);
    config.process.env = vec!["PATH=/bin".into(), "A=\0".into()];
    assert_eq!(host.try_run(config).unwrap_err().field, "process.env[1]");
}

fn host_names_and_sysctls() {
    let mut host = Host::new();
    let mut config = script(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max \
                             /proc/sys/net/ipv4/ip_forward",
    );
    config.hostname = Some("drupe-test".into());
    config.domainname = Some("example".into());
    config.sysctl = [("kernel.shmmni", "77"), ("fs.mqueue.msg_max", "11"), ("net.ipv4.ip_forward", "1")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    assert_eq!(host.output(config.clone()), "drupe-test\nexample\n77\n11\n1\n");
    let real = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(real.trim(), "drupe-test");
    config.sysctl = [("kernel.absent".into(), "1".into())].into();
    let failure = host.try_run(config.clone()).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("linux.sysctl[\"kernel.absent\"]", "\"1\": no such file or directory")
    );
    config.sysctl = [("/../../etc/passwd".into(), "1".into())].into();
    assert!(host.try_run(config).unwrap_err().message.ends_with("not a name"));
}

fn session_and_dumpability() {
    let mut host = Host::new();
    // pid, session and process group are the same; the files of /proc are the user's, as for any program.
    let mut config = script(
        "read -r pid comm state ppid pgrp session rest </proc/self/stat; echo $pgrp $session; \
                             stat -c %u /proc/self/environ",
    );
    config.process.user.uid = 1000;
    assert_eq!(host.output(config), "1 1\n1000\n");
}

fn oom_score() {
    let mut host = Host::new();
    let mut config = command(&["cat", "/proc/self/oom_score_adj"]);
    assert_eq!(host.output(config.clone()), "0\n");
    config.process.oom_score_adj = Some(500);
    assert_eq!(host.output(config), "500\n");
}
