//! The container's files: root, mounts, /dev, masks; and that no image leads the agent out of it.

use std::fs;
use std::os::unix::fs::symlink;

use drupe_protocol::ExitStatus;

use crate::host::{Host, bind, command, filesystem, is_empty, script};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("files::symlink_traps", symlink_traps),
    ("files::only_the_container_is_seen", only_the_container_is_seen),
    ("files::default_dev", default_dev),
    ("files::dev_of_the_configuration", dev_of_the_configuration),
    ("files::missing_mount_points_are_made", missing_mount_points_are_made),
    ("files::read_only_root", read_only_root),
    ("files::read_only_root_without_mount_points", read_only_root_without_mount_points),
    ("files::mount_flags", mount_flags),
    ("files::kernel_filesystems", kernel_filesystems),
    ("files::masked_paths", masked_paths),
    ("files::readonly_paths", readonly_paths),
    ("files::mounts_that_fail", mounts_that_fail),
    ("files::working_directory", working_directory),
];

fn symlink_traps() {
    let mut host = Host::new();
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap();
    let root = host.share("root");
    fs::remove_dir(root.join("dev")).unwrap();
    fs::create_dir(root.join("tmp/deep")).unwrap();
    symlink(outside, root.join("dev")).unwrap();
    symlink(outside, root.join("absolute")).unwrap();
    symlink(format!("../../../../../../../..{outside}"), root.join("tmp/deep/up")).unwrap();
    symlink("deep/up", root.join("tmp/second")).unwrap();
    symlink("/proc/1/root", root.join("magic")).unwrap();
    symlink(format!("{outside}/masked"), root.join("masked")).unwrap();
    let mut config = script("true");
    for (n, destination) in
        ["/absolute/a", "/tmp/deep/up/b", "/tmp/second/c", "/../../../tmp/x", "/tmp/deep/../../../../y"]
            .into_iter()
            .enumerate()
    {
        config.mounts.push(if n % 2 == 0 {
            filesystem("tmpfs", destination, "")
        } else {
            bind("data", destination, false)
        });
    }
    config.mounts.push(bind("file", "/absolute/file", true));
    config.masked_paths = vec!["/masked".into(), "/absolute/a".into()];
    config.readonly_paths = vec!["/tmp/second".into()];
    config.process.cwd = "/absolute/cwd".into();
    fs::create_dir(host.share("data")).unwrap();
    fs::write(host.share("file"), "").unwrap();
    let before = entries(&root);
    host.output(config.clone());
    assert!(is_empty(canary.path()), "the canary was touched");
    assert!(!std::path::Path::new("/y").exists());
    // It all went to the directory of that name inside the root, on which the tmpfs for /dev was mounted.
    assert!(root.join(outside.trim_start_matches('/')).is_dir());
    assert!(before.iter().all(|name| entries(&root).contains(name)));
    // Links of the kernel lead to what other processes see: never followed.
    config.mounts = vec![config.mounts[0].clone(), filesystem("tmpfs", "/magic/tmp", "")];
    let failure = host.try_run(config).unwrap_err();
    assert_eq!(failure.field, "mounts[0].destination");
    // Its own /proc must be at /proc.
    let mut config = script("true");
    fs::remove_dir(root.join("proc")).unwrap();
    symlink("tmp", root.join("proc")).unwrap();
    config.mounts.truncate(1);
    let failure = host.try_run(config).unwrap_err();
    assert!(failure.message.starts_with("\"/proc\": not an ordinary directory"), "{failure:?}");
}

fn entries(dir: &std::path::Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn only_the_container_is_seen() {
    let mut host = Host::new();
    let mounts = host.output(script("cat /proc/self/mountinfo"));
    let points: Vec<&str> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(points, ["/", "/dev", "/proc"], "{mounts}");
    // Nor by way of its first process, its root, or a working directory that was left behind.
    let text = host.output(script(
        "ls -a /..; ls /proc/1/cwd/..; readlink /proc/self/exe; readlink /proc/self/root; set -- /proc/[0-9]*; echo $#",
    ));
    assert!(!text.contains("home"), "{text}");
    assert!(text.ends_with("/bin/busybox\n/\n1\n"), "{text}");
    let cgroup = host.output(script("cat /proc/self/cgroup"));
    assert!(cgroup.lines().any(|line| line == "0::/"), "{cgroup}");
}

const LIST: &str = "ls -lan /dev | while read mode n u g rest; do echo $mode $u:$g $rest; done";

fn default_dev() {
    let mut host = Host::new();
    let text = host.output(script(
        "umask; ls -ln /dev; stat -c '%a %u:%g' /dev; echo x >/dev/null; \
                                   head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c",
    ));
    for node in ["1,   3", "1,   5", "1,   7", "1,   8", "1,   9", "5,   0"] {
        assert!(text.contains(node), "{node} in {text}");
    }
    assert_eq!(text.matches("crw-rw-rw-    1 0        0").count(), 6, "{text}");
    for link in [
        "fd -> /proc/self/fd",
        "stdin -> /proc/self/fd/0",
        "stdout -> /proc/self/fd/1",
        "stderr -> /proc/self/fd/2",
        "ptmx -> pts/ptmx",
    ] {
        assert!(text.contains(link), "{link} in {text}");
    }
    assert!(text.ends_with("755 0:0\n3\n5\n"), "{text}");
    // None of it is in the image.
    assert!(is_empty(&host.share("root").join("dev")));
}

fn dev_of_the_configuration() {
    let mut host = Host::new();
    let mut config = script(LIST);
    config.mounts.push(filesystem("tmpfs", "/dev/", "mode=751,size=1m"));
    config.mounts[1].flags = libc::MS_RDONLY | libc::MS_NOSUID;
    config.mounts.push(filesystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620"));
    config.mounts.push(filesystem("tmpfs", "/dev/shm", "mode=1777"));
    config.mounts.push(filesystem("mqueue", "/dev/mqueue", ""));
    let text = host.output(config.clone());
    assert!(text.contains("drwxr-x--x 0:0"), "{text}");
    assert!(text.contains("crw-rw-rw- 0:0 1, 3"), "{text}");
    assert!(text.contains("drwxrwxrwt 0:0 40") && text.contains("lrwxrwxrwx 0:0"), "{text}");
    config.process.args =
        command(&["sh", "-c", "touch /dev/x 2>&1; touch /dev/shm/x && exec 3<>/dev/ptmx && ls /dev/pts"])
            .process
            .args;
    assert_eq!(host.output(config), "touch: /dev/x: Read-only file system\n0\nptmx\n");
    // A bind mount is the user's own: nothing is put into it.
    fs::create_dir(host.share("devices")).unwrap();
    let mut config = script("ls -a /dev");
    config.mounts.push(bind("devices", "/dev", false));
    assert_eq!(host.output(config), ".\n..\n");
    assert!(is_empty(&host.share("devices")));
}

fn missing_mount_points_are_made() {
    let mut host = Host::new();
    fs::write(host.share("token"), "secret").unwrap();
    let mut config = script("cat /run/secrets/token; stat -c '%a %u' /run/secrets /run /new/dir");
    config.mounts.push(bind("token", "/run/secrets/token", true));
    config.mounts.push(filesystem("tmpfs", "/new/dir", ""));
    assert_eq!(host.output(config), "secret755 0\n755 0\n1777 0\n");
    assert!(host.share("root").join("run/secrets/token").is_file());
}

fn read_only_root() {
    let mut host = Host::new();
    host.protect("root");
    let mut config =
        script("touch /x; touch /tmp/x && echo wrote; grep -c upperdir=/proc/self/fd /proc/self/mounts");
    config.root.readonly = true;
    config.mounts.push(filesystem("tmpfs", "/tmp", ""));
    let outcome = host.try_run(config).unwrap();
    assert_eq!(outcome.stdout, "wrote\n0\n");
    assert_eq!(outcome.stderr, "touch: /x: Read-only file system\n");
    assert!(is_empty(&host.share("root").join("tmp")));
}

fn read_only_root_without_mount_points() {
    let mut host = Host::new();
    host.protect("root");
    fs::write(host.share("file"), "content").unwrap();
    let mut config = script("touch /x; touch /a/b/x && cat /etc/config /c/d && pwd && ls /");
    config.root.readonly = true;
    config.mounts.push(filesystem("tmpfs", "/a/b", ""));
    config.mounts.push(bind("file", "/etc/config", true));
    config.mounts.push(bind("file", "/c/d", true));
    config.process.cwd = "/made/too".into();
    let outcome = host.try_run(config).unwrap();
    assert_eq!(outcome.stderr, "touch: /x: Read-only file system\n");
    assert_eq!(outcome.stdout, "contentcontent/made/too\na\nbin\nc\ndev\netc\nmade\nproc\nsys\ntmp\n");
    // A device is as good as a mount.
    let mut config = script("head -c 2 /etc/zero | wc -c");
    config.root.readonly = true;
    config.devices = vec![crate::devices::node("/etc/zero", libc::S_IFCHR, 1, 5)];
    assert_eq!(host.output(config), "2\n");
    assert_eq!(outcome.status, ExitStatus::Code(0));
    assert!(!host.share("root").join("a").exists());
}

fn mount_flags() {
    let mut host = Host::new();
    fs::create_dir(host.share("data")).unwrap();
    let mut config = script(
        "while read -r _ point _ options _; do echo $point $options; done </proc/self/mounts; touch /data/x",
    );
    config.mounts.push(bind("data", "/data", false));
    config.mounts.push(bind("data", "/quiet", false));
    config.mounts.push(filesystem("tmpfs", "/t", "size=64k,nr_inodes=100"));
    config.mounts[1].flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    config.mounts[2].flags = libc::MS_NOATIME;
    config.mounts[3].flags = libc::MS_RDONLY | libc::MS_SYNCHRONOUS | libc::MS_STRICTATIME;
    config.mounts[1].propagation = vec![libc::MS_SHARED, libc::MS_PRIVATE | libc::MS_REC];
    let outcome = host.try_run(config).unwrap();
    assert!(outcome.stdout.contains("/data ro,nosuid,nodev,noexec,relatime"), "{outcome:?}");
    assert!(outcome.stdout.contains("/quiet rw,noatime"), "{outcome:?}");
    assert!(outcome.stdout.contains("/t ro,sync,size=64k,nr_inodes=100"), "{outcome:?}");
    assert_eq!(outcome.stderr, "touch: /data/x: Read-only file system\n");
}

fn kernel_filesystems() {
    let mut host = Host::new();
    let mut config = script(
        "grep -E ' /(sys|proc|dev)' /proc/self/mounts; ls /sys/fs/cgroup/cgroup.procs && \
                             cat /sys/fs/cgroup/cgroup.procs; ls /sys/class/net",
    );
    config.mounts.push(filesystem("sysfs", "/sys", ""));
    config.mounts.push(filesystem("cgroup", "/sys/fs/cgroup", ""));
    config.mounts[1].flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    config.mounts[2].flags = config.mounts[1].flags;
    let text = host.output(config);
    assert!(text.contains("sysfs /sys sysfs ro,nosuid,nodev,noexec"), "{text}");
    assert!(text.contains(" /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec"), "{text}");
    // It sees its own cgroup, with itself and cat in it, and the guest's interfaces.
    assert!(text.contains("\n/sys/fs/cgroup/cgroup.procs\n1\n") && text.ends_with("\nlo\n"), "{text}");
}

fn masked_paths() {
    let mut host = Host::new();
    let root = host.share("root");
    fs::create_dir(root.join("secret")).unwrap();
    fs::write(root.join("secret/key"), "key").unwrap();
    fs::write(root.join("tmp/null"), "not a device").unwrap();
    let mut config = script(
        "ls -a /secret /etc; cat /etc/passwd /proc/timer_list; stat -c %t:%T /etc/passwd; touch /etc/x",
    );
    config.masked_paths =
        ["/secret", "/absent", "/etc/passwd/below", "/proc/timer_list", "/etc/passwd", "/etc"]
            .map(String::from)
            .to_vec();
    // The last one hides the file that was masked before; leave it out for the first run.
    let all = config.clone();
    config.masked_paths.pop();
    let outcome = host.try_run(config).unwrap();
    assert_eq!(outcome.stdout, "/etc:\n.\n..\npasswd\n\n/secret:\n.\n..\n1:3\n", "{outcome:?}");
    let outcome = host.try_run(all).unwrap();
    assert!(outcome.stdout.starts_with("/etc:\n.\n..\n\n/secret:\n.\n..\n"), "{outcome:?}");
    assert!(outcome.stderr.ends_with("touch: /etc/x: Read-only file system\n"), "{outcome:?}");
    assert!(!root.join("absent").exists());
}

fn readonly_paths() {
    let mut host = Host::new();
    let mut config = script("echo 1 >/proc/sys/vm/overcommit_memory; touch /etc/x /tmp/x; ls /tmp");
    config.readonly_paths = ["/proc/sys", "/etc", "/absent"].map(String::from).to_vec();
    let outcome = host.try_run(config).unwrap();
    assert_eq!(
        outcome.stderr,
        "sh: can't create /proc/sys/vm/overcommit_memory: Read-only file system\ntouch: /etc/x: Read-only file system\n"
    );
    assert_eq!(outcome.stdout, "x\n");
}

fn mounts_that_fail() {
    let mut host = Host::new();
    fs::create_dir(host.share("data")).unwrap();
    fs::write(host.share("root").join("plain"), "").unwrap();
    let mut fails = |mount| {
        let mut config = script("true");
        config.mounts = vec![mount];
        let failure = host.try_run(config).unwrap_err();
        (failure.field, failure.message)
    };
    let text = |field: &str, message: &str| (field.to_owned(), message.to_owned());
    assert_eq!(fails(filesystem("nofs", "/t", "")), text("mounts[0].type", "\"nofs\": no such device"));
    let (field, message) = fails(filesystem("tmpfs", "/t", "size=huge"));
    assert_eq!(field, "mounts[0].options");
    assert!(message.starts_with("\"size=huge\": tmpfs: Bad value for 'size'"), "{message}");
    assert_eq!(
        fails(bind("absent", "/t", false)),
        text("mounts[0].source", "share \"absent\" for \"/t\": no such file or directory")
    );
    assert_eq!(
        fails(bind("../root", "/t", false)),
        text("mounts[0].source", "share \"../root\" for \"/t\": invalid argument")
    );
    assert_eq!(
        fails(bind("data", "/plain", false)),
        text("mounts[0].destination", "\"/plain\": not a directory")
    );
    assert_eq!(
        fails(bind("data", "/plain/below", false)),
        text("mounts[0].destination", "\"/plain/below\": not a directory")
    );
    assert_eq!(
        fails(bind("data", "/tmp/..", false)),
        text("mounts[0].destination", "\"/tmp/..\": is the container's root")
    );
    let mut config = script("true");
    config.root.share = "absent".into();
    assert_eq!(host.try_run(config).unwrap_err().field, "root.path");
}

fn working_directory() {
    let mut host = Host::new();
    let mut config = command(&["pwd"]);
    config.process.cwd = "/work/here".into();
    assert_eq!(host.output(config.clone()), "/work/here\n");
    // Made by root, entered by the user.
    config.process.user.uid = 1000;
    assert_eq!(host.output(config.clone()), "/work/here\n");
    fs::set_permissions(host.share("root").join("work"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    assert_eq!(host.output(config.clone()), "/work/here\n", "entered before the user changes, as runc does");
    config.process.cwd = "/etc/passwd".into();
    let failure = host.try_run(config.clone()).unwrap_err();
    assert_eq!(
        (failure.field.as_str(), failure.message.as_str()),
        ("process.cwd", "\"/etc/passwd\": cannot be entered: not a directory")
    );
    config.process.cwd = "relative".into();
    assert_eq!(host.try_run(config).unwrap_err().field, "process.cwd");
}
