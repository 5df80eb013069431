//! Cgroups in directories that look like a hierarchy, and in the real one where this host lets us.

use std::fs;

use serde_json::json;

use super::*;
use crate::text::chain;

pub(super) fn request(path: &str) -> Request<'_> {
    Request { path, id: "box", systemd: false, rootless: false }
}

fn limits(value: serde_json::Value) -> Resources {
    Resources::parse(&value, "linux.resources").unwrap()
}

/// A directory that looks like the hierarchy of version 2, of which this process is in `/own`.
pub(super) struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        Self { dir }
    }

    pub(super) fn v2(&self) -> Hierarchies {
        let mountinfo = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw", self.dir.path().display());
        Hierarchies::parse(&mountinfo, "0::/own")
    }

    fn v1(&self) -> Hierarchies {
        let line = |name: &str| {
            format!("1 1 0:1 / {}/{name} rw - cgroup cgroup rw,{name}\n", self.dir.path().display())
        };
        for name in ["cpuset", "pids"] {
            fs::create_dir_all(self.dir.path().join(name)).unwrap();
        }
        Hierarchies::parse(&(line("cpuset") + &line("pids")), "2:cpuset:/\n1:pids:/own\n")
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Where the kernel would make files.
    pub(super) fn files(&self, directory: &str, files: &[&str]) {
        fs::create_dir_all(self.path(directory)).unwrap();
        files.iter().for_each(|file| fs::write(self.path(directory).join(file), "").unwrap());
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

#[test]
fn a_cgroup_is_made_limited_entered_and_removed() {
    let fake = Fake::new();
    let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request("/a/b")).unwrap();
    assert!(!fake.path("a").exists());
    cgroup.create(&Resources::default(), "linux.resources").unwrap();
    assert_eq!(fake.read("cgroup.subtree_control"), "+cpu +memory +pids");
    fake.files("a/b", &["pids.max", "cgroup.procs", "memory.max"]);
    let limits = limits(json!({ "pids": { "limit": 7 }, "memory": { "limit": 4096, "swap": 4096 } }));
    cgroup.set(&limits, "linux.resources").unwrap();
    assert_eq!((fake.read("a/b/pids.max").as_str(), fake.read("a/b/memory.max").as_str()), ("7", "4096"));
    drop(cgroup.enter(4711, &limits, "linux.resources").unwrap());
    assert_eq!(fake.read("a/b/cgroup.procs"), "4711");
    let error = HostCgroup::plan_in(&fake.v2(), &request("/a")).unwrap_err().to_string();
    let path = fake.path("a");
    assert_eq!(error, format!("container's cgroup is not empty: {}: 1 process(es) found", path.display()));
    for file in ["pids.max", "cgroup.procs", "memory.max"] {
        fs::remove_file(fake.path("a/b").join(file)).unwrap();
    }
    let kept: HostCgroup = serde_json::from_str(&serde_json::to_string(&cgroup).unwrap()).unwrap();
    kept.remove().unwrap();
    assert!(!fake.path("a").exists());
    kept.remove().unwrap();
}

#[test]
fn what_was_there_before_stays() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("a/b")).unwrap();
    for (path, left) in [("/a/b", "a/b"), ("/a/b/c/d", "a/b")] {
        let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request(path)).unwrap();
        cgroup.create(&Resources::default(), "linux.resources").unwrap();
        assert!(fake.path(&path[1..]).exists());
        cgroup.remove().unwrap();
        assert!(fake.path(left).exists());
    }
    assert!(!fake.path("a/b/c").exists());
}

#[test]
fn a_cgroup_above_that_another_container_uses_stays() {
    let fake = Fake::new();
    let make = |path| {
        let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request(path)).unwrap();
        cgroup.create(&Resources::default(), "linux.resources").unwrap();
        cgroup
    };
    let (one, two) = (make("/a/one"), make("/a/two"));
    one.remove().unwrap();
    assert!(fake.path("a/two").exists() && !fake.path("a/one").exists());
    two.remove().unwrap();
}

#[test]
fn version_1_has_a_directory_in_each_hierarchy() {
    let fake = Fake::new();
    let hierarchies = fake.v1();
    fs::write(fake.path("cpuset/cpuset.cpus"), "0-3\n").unwrap();
    fake.files("cpuset/box", &["cpuset.cpus", "cpuset.mems", "cgroup.procs"]);
    fake.files("pids/own", &["cgroup.procs"]);
    let mut cgroup = HostCgroup::plan_in(&hierarchies, &request("")).unwrap();
    cgroup.create(&Resources::default(), "linux.resources").unwrap();
    assert_eq!(fake.read("cpuset/box/cpuset.cpus"), "0-3");
    fake.files("pids/own/box", &["pids.max", "cgroup.procs"]);
    cgroup
        .set(&limits(json!({ "pids": { "limit": 3 }, "cpu": { "cpus": "1" } })), "linux.resources")
        .unwrap();
    assert_eq!(
        (fake.read("pids/own/box/pids.max").as_str(), fake.read("cpuset/box/cpuset.cpus").as_str()),
        ("3", "1")
    );
    cgroup.enter(5, &Resources::default(), "linux.resources").unwrap();
    assert_eq!(
        (fake.read("pids/own/box/cgroup.procs"), fake.read("cpuset/box/cgroup.procs")),
        ("5".into(), "5".into())
    );
    let error =
        cgroup.set(&limits(json!({ "memory": { "limit": 1 << 30 } })), "linux.resources").unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.resources.memory.limit: cgroup controller memory: not available in a mounted hierarchy of cgroups"
    );
}

#[test]
fn a_limit_that_cannot_be_set_is_named() {
    let fake = Fake::new();
    let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request("/x")).unwrap();
    let error = cgroup.create(&limits(json!({ "cpu": { "idle": 1 } })), "linux.resources").unwrap_err();
    let file = fake.path("x/cpu.idle");
    let cause = "No such file or directory (os error 2)";
    assert_eq!(chain(&error), format!("linux.resources.cpu.idle: \"1\" to {}: {cause}", file.display()));
    fake.files("x", &["cgroup.controllers"]);
    let error = cgroup.create(&limits(json!({ "cpu": { "idle": 1 } })), "linux.resources").unwrap_err();
    let place = fake.path("x");
    let message =
        format!("linux.resources.cpu.idle: cgroup controller cpu: not available in {}", place.display());
    assert_eq!(chain(&error), message);
    // A kernel without swap sets no limit to it.
    let none = limits(json!({ "unified": { "memory.swap.max": "max" } }));
    cgroup.create(&none, "linux.resources").unwrap();
}

#[test]
fn cgroups_that_no_machine_can_be_in_are_refused() {
    let fake = Fake::new();
    fake.files("frozen", &[]);
    fs::write(fake.path("frozen/cgroup.freeze"), "1\n").unwrap();
    let error = HostCgroup::plan_in(&fake.v2(), &request("/frozen")).unwrap_err().to_string();
    assert!(error.starts_with("container's cgroup unexpectedly frozen: "), "{error}");
    fake.files("threads", &[]);
    fs::write(fake.path("threads/cgroup.type"), "threaded\n").unwrap();
    let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request("/threads")).unwrap();
    let error = cgroup.create(&Resources::default(), "linux.resources").unwrap_err().to_string();
    assert!(error.ends_with("cgroup is in mode \"threaded\", in which no machine can be"), "{error}");
}

#[test]
fn without_privileges_a_cgroup_that_nobody_asked_for_may_be_missing() {
    // sysfs has no mkdir(2), for root neither.
    let nowhere = Hierarchies::parse("1 1 0:1 / /sys/kernel rw - cgroup2 cgroup2 rw", "0::/own");
    let mut rootless = Request { rootless: true, ..request("") };
    let mut cgroup = HostCgroup::plan_in(&nowhere, &rootless).unwrap();
    cgroup.create(&limits(json!({ "pids": { "limit": 5 } })), "linux.resources").unwrap();
    assert_eq!(cgroup.members, []);
    cgroup.enter(1, &Resources::default(), "linux.resources").unwrap();
    // What no guest keeps is not left out in silence.
    let error =
        cgroup.update(&limits(json!({ "blockIO": { "weight": 10 } })), "linux.resources").unwrap_err();
    let start = "linux.resources.blockIO.weight: cgroup controller io: not available";
    assert!(error.to_string().starts_with(start), "{error}");
    rootless.path = "/asked-for";
    let mut cgroup = HostCgroup::plan_in(&nowhere, &rootless).unwrap();
    assert!(cgroup.create(&Resources::default(), "linux.resources").is_err());
    let mut none =
        HostCgroup::plan_in(&Hierarchies::None, &Request { rootless: true, ..request("") }).unwrap();
    none.enter(1, &Resources::default(), "r").unwrap();
    none.remove().unwrap();
    let error = HostCgroup::plan_in(&Hierarchies::None, &request("")).unwrap_err();
    assert_eq!(error.to_string(), "cgroups: no hierarchy is mounted on this host");
}

#[test]
fn the_kernel_takes_what_we_write() {
    let path = format!("/drupe-test-{}/box", std::process::id());
    let mut cgroup = HostCgroup::plan(&request(&path)).unwrap();
    let limits = limits(json!({
        "pids": { "limit": 50 }, "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
        "cpu": { "shares": 512, "quota": 150_000, "period": 100_000 },
    }));
    if let Err(error) = cgroup.create(&limits, "linux.resources") {
        eprintln!("skipped: {}", chain(&error));
        return cgroup.remove().unwrap();
    }
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let occupation = cgroup.enter(child.id(), &limits, "linux.resources").unwrap();
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(cgroups.contains(&path), "{cgroups}");
    assert!(matches!(HostCgroup::plan(&request(&path)), Err(CgroupError::Occupied { count: 1, .. })));
    cgroup.remove().unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the lock of its monitor says that it lives");
    drop(occupation);
    let killed = std::thread::spawn(move || child.wait().unwrap());
    cgroup.remove().unwrap();
    assert!(!killed.join().unwrap().success());
    assert!(cgroup.members.iter().all(|member| !member.path.parent().unwrap().exists()));
}

#[test]
fn systemd_makes_a_scope() {
    let name = format!("box{}", std::process::id());
    let path = format!("drupe-test.slice:drupe:{name}");
    let request = Request { path: &path, id: "box", systemd: true, rootless: false };
    let mut cgroup = match HostCgroup::plan(&request) {
        Ok(cgroup) => cgroup,
        Err(error) => return eprintln!("skipped: {}", chain(&error)),
    };
    let limits = limits(json!({
        "pids": { "limit": 50 }, "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
    }));
    match cgroup.create(&limits, "linux.resources") {
        Err(CgroupError::NoSystemd) => return eprintln!("skipped: no systemd"),
        result => result.unwrap(),
    }
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    drop(cgroup.enter(child.id(), &limits, "linux.resources").unwrap());
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(cgroups.contains(&format!("/drupe.slice/drupe-test.slice/drupe-{name}.scope")), "{cgroups}");
    let directory = cgroup.directory("memory").unwrap();
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    if cgroup.version == 2 {
        assert_eq!((read("memory.max").as_str(), read("pids.max").as_str()), ("67108864\n", "50\n"));
        assert_eq!((read("cpu.max").as_str(), read("cpu.weight").as_str()), ("50000 100000\n", "59\n"));
    }
    let less = self::limits(json!({ "pids": { "limit": 40 }, "memory": { "limit": 32 << 20 } }));
    cgroup.update(&less, "linux.resources").unwrap();
    // What systemd knows it sets again whenever it is reloaded.
    let unit = format!("drupe-{name}.scope");
    let shown =
        std::process::Command::new("systemctl").args(["show", "-p", "TasksMax", &unit]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "TasksMax=40\n");
    if cgroup.version == 2 {
        assert_eq!((read("memory.max").as_str(), read("pids.max").as_str()), ("33554432\n", "40\n"));
    }
    // The same name again is refused, and the one that there is stays.
    assert!(HostCgroup::plan(&request).is_err());
    let killed = std::thread::spawn(move || child.wait().unwrap());
    cgroup.remove().unwrap();
    assert!(!killed.join().unwrap().success());
    assert!(!directory.exists());
}
