//! Containers that meet in a cgroup, in directories that look like a hierarchy.

use std::fs;
use std::process::{Child, Command};

use super::tests::{Fake, request};
use super::*;

/// A process that may be ended or not.
struct Process(Child);

impl Process {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn created(fake: &Fake, path: &str) -> HostCgroup {
    let mut cgroup = HostCgroup::plan_in(&fake.v2(), &request(path)).unwrap();
    cgroup.create(&Resources::default(), "r").unwrap();
    fake.files(&path[1..], &["cgroup.procs"]);
    cgroup
}

fn enter(cgroup: &mut HostCgroup, process: &Process) -> Result<Occupation, CgroupError> {
    cgroup.enter(process.0.id(), &Resources::default(), "r")
}

#[test]
fn of_two_containers_that_were_planned_for_a_cgroup_one_gets_it() {
    let fake = Fake::new();
    let plan = || HostCgroup::plan_in(&fake.v2(), &request("/pod")).unwrap();
    let (mut second, mut first) = (plan(), created(&fake, "/pod"));
    let mut monitor = Process::new();
    let occupation = enter(&mut first, &monitor).unwrap();
    second.create(&Resources::default(), "r").unwrap();
    let error = enter(&mut second, &Process::new()).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup is not empty: "), "{error}");
    second.remove().unwrap();
    assert!(monitor.runs(), "the first one's");
    drop(occupation);
    // Without the lock too it is not the second one's to empty, which has never been in it.
    second.remove().unwrap();
    assert!(monitor.runs());
    // A process that another test starts has the lock too, until it executes its program.
    while monitor.runs() {
        // The files of this hierarchy do not go away with their directory.
        let _ = first.remove();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn what_another_container_has_by_now_is_left_to_it() {
    let fake = Fake::new();
    let mut over = created(&fake, "/pod");
    drop(enter(&mut over, &Process::new()).unwrap());
    fs::write(fake.path("pod/cgroup.procs"), "").unwrap();
    let mut monitor = Process::new();
    let mut next = created(&fake, "/pod");
    let _occupation = enter(&mut next, &monitor).unwrap();
    over.remove().unwrap();
    assert!(monitor.runs() && fake.path("pod/cgroup.procs").exists());
}

#[test]
fn what_is_below_a_cgroup_is_nobody_s_to_end() {
    let fake = Fake::new();
    let mut above = created(&fake, "/pod");
    drop(enter(&mut above, &Process::new()).unwrap());
    fs::write(fake.path("pod/cgroup.procs"), "").unwrap();
    let mut monitor = Process::new();
    let mut below = created(&fake, "/pod/app");
    let _occupation = enter(&mut below, &monitor).unwrap();
    let error = above.remove().unwrap_err().to_string();
    assert_eq!(error, fake.path("pod/app").display().to_string());
    assert!(monitor.runs());
}
