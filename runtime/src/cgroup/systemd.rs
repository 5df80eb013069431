//! Scopes of systemd: with `--systemd-cgroup` it is systemd that owns the cgroups, and it must be asked for one.
//!
//! It is asked by `busctl`, which is part of every systemd: the one call that a start needs is no reason for a D-Bus
//! library in a program that never speaks D-Bus otherwise. That the scope is there is seen by the process being in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::CgroupError;
use crate::resources::{Resources, v2};

/// There is a directory of this name where systemd is the host's init (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Where busctl may be, whatever the caller's PATH is.
const PROGRAMS: &str = "/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin";

/// How long systemd may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scope, which is a unit of systemd around processes that it did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scope {
    unit: String,
    slice: String,
    cgroup: String,
    /// The one of the user's own systemd.
    user: bool,
}

/// Refuses a host without systemd.
pub(super) fn check_running() -> Result<(), CgroupError> {
    if Path::new(BOOTED).is_dir() { Ok(()) } else { Err(CgroupError::NoSystemd) }
}

impl Scope {
    /// From `SLICE:PREFIX:NAME`; without it a scope of drupe's own in the usual slice.
    pub(super) fn new(path: &str, id: &str) -> Result<Self, CgroupError> {
        let user = !rustix::process::geteuid().is_root();
        let error = |why| CgroupError::Path { path: path.into(), why };
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "drupe", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => return Err(error("expected the form slice:prefix:name for systemd")),
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let slices = expand(slice).ok_or_else(|| error("does not begin with the name of a slice"))?;
        // A slice for its name is meant as it is: the container then has no scope of its own.
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if name.is_empty() || unit.contains('/') {
            return Err(error("expected the form slice:prefix:name for systemd"));
        }
        let above = if user { user_manager_cgroup() } else { String::new() };
        Ok(Self { cgroup: format!("{above}{slices}/{unit}"), unit, slice: slice.to_owned(), user })
    }

    /// Its path in every hierarchy.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Makes the scope around a process, with what systemd itself must know of the limits, and waits for it.
    pub(super) fn start(&self, pid: u32, limits: &Resources, version: u8) -> Result<(), CgroupError> {
        let mut properties = vec![
            property("Description", "s", &format!("drupe container {}", self.unit)),
            property("Slice", "s", &self.slice),
            property("Delegate", "b", "true"),
            property("DefaultDependencies", "b", "false"),
            property("CollectMode", "s", "inactive-or-failed"),
            vec!["PIDs".into(), "au".into(), "1".into(), pid.to_string()],
        ];
        properties.push(property("TasksAccounting", "b", "true"));
        properties.push(property("MemoryAccounting", "b", "true"));
        properties.extend(limit_properties(limits, version));
        let mut arguments = vec!["ssa(sv)a(sa(sv))".to_owned(), self.unit.clone(), "fail".into()];
        arguments.push(properties.len().to_string());
        arguments.extend(properties.into_iter().flatten());
        arguments.push("0".into());
        self.call("StartTransientUnit", &arguments)?;
        self.wait_for(pid)
    }

    /// Tells systemd other limits, until the scope ends.
    pub(super) fn set(&self, limits: &Resources, version: u8) -> Result<(), CgroupError> {
        let properties = limit_properties(limits, version);
        if properties.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["sba(sv)".to_owned(), self.unit.clone(), "true".into()];
        arguments.push(properties.len().to_string());
        arguments.extend(properties.into_iter().flatten());
        self.call("SetUnitProperties", &arguments)
    }

    /// Lets systemd end the scope. One that is gone already is no failure.
    pub(super) fn stop(&self) {
        let arguments = ["ss".to_owned(), self.unit.clone(), "replace".into()];
        if let Err(error) = self.call("StopUnit", &arguments) {
            log::debug!("{}", crate::text::chain(&error));
        }
    }

    fn call(&self, method: &str, arguments: &[String]) -> Result<(), CgroupError> {
        check_running()?;
        let output = Command::new("busctl")
            .env("PATH", PROGRAMS)
            .args(if self.user { ["--user"].as_slice() } else { [].as_slice() })
            .args(["--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"])
            .args(["org.freedesktop.systemd1.Manager", method])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(CgroupError::Busctl)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CgroupError::Systemd { unit: self.unit.clone(), message })
    }

    /// The call is answered when the job is queued; the process is moved when it is done.
    fn wait_for(&self, pid: u32) -> Result<(), CgroupError> {
        let begin = Instant::now();
        let is_there = || {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            cgroups.lines().any(|line| line.ends_with(&format!("/{}", self.unit)))
        };
        while !is_there() {
            if begin.elapsed() > PATIENCE {
                let (unit, seconds) = (self.unit.clone(), PATIENCE.as_secs());
                return Err(CgroupError::NotMoved { unit, pid, seconds });
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// `a-b.slice` is in `a.slice`: the whole path (systemd.slice(5)). `None` for what is no slice.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty() && !name.contains('/'))?;
    // The root slice.
    if name == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        path.push_str(&format!("/{prefix}{part}.slice"));
        prefix.push_str(&format!("{part}-"));
    }
    Some(path)
}

/// The cgroup of the user's systemd, below which its units are.
fn user_manager_cgroup() -> String {
    let uid = rustix::process::getuid().as_raw();
    format!("/user.slice/user-{uid}.slice/user@{uid}.service")
}

/// Name, type and value of a property, as busctl takes a member of `a(sv)`.
fn property(name: &str, signature: &str, value: &str) -> Vec<String> {
    [name, signature, value].map(str::to_owned).to_vec()
}

/// The limits that systemd would set back when it reloads, if it did not know them. All limits are written to the
/// cgroup's files too.
fn limit_properties(limits: &Resources, version: u8) -> Vec<Vec<String>> {
    let mut properties = Vec::new();
    let mut number = |name: &str, text: &str| {
        let value = if text == "max" { u64::MAX.to_string() } else { text.to_owned() };
        properties.push(property(name, "t", &value));
    };
    for setting in v2::settings(limits, "", false) {
        match (setting.file.as_str(), version) {
            ("memory.max", 1) => number("MemoryLimit", &setting.value),
            ("cpu.weight", 1) => {
                number("CPUShares", &limits.cpu.shares.unwrap_or_default().to_string());
            }
            ("memory.max", _) => number("MemoryMax", &setting.value),
            ("memory.low", _) => number("MemoryLow", &setting.value),
            ("memory.swap.max", _) => number("MemorySwapMax", &setting.value),
            ("cpu.weight", _) => number("CPUWeight", &setting.value),
            _ => {}
        }
        match setting.file.as_str() {
            "pids.max" => number("TasksMax", &setting.value),
            "cpu.max" => {
                let (quota, period) = setting.value.split_once(' ').unwrap_or(("max", "100000"));
                number("CPUQuotaPerSecUSec", &per_second(quota, period));
            }
            _ => {}
        }
    }
    properties
}

/// A quota for each second, in whole hundredths of a processor, as systemd keeps it.
fn per_second(quota: &str, period: &str) -> String {
    let (Ok(quota), Ok(period)) = (quota.parse::<u64>(), period.parse::<u64>()) else { return "max".into() };
    (quota.saturating_mul(1_000_000) / period.max(1)).next_multiple_of(10_000).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slices_are_in_those_that_their_names_begin_with() {
        for (slice, path) in [
            ("system.slice", Some("/system.slice")),
            ("a-b-c.slice", Some("/a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a/b.slice", None),
            (".slice", None),
            ("a.scope", None),
        ] {
            assert_eq!(expand(slice).as_deref(), path, "{slice}");
        }
    }

    #[test]
    fn units_are_named_as_by_runc() {
        let scope = |path| Scope::new(path, "id").map(|scope| (scope.unit, scope.slice));
        let named = |unit: &str, slice: &str| (unit.to_owned(), slice.to_owned());
        assert_eq!(scope("a-b.slice:libpod:x").unwrap(), named("libpod-x.scope", "a-b.slice"));
        assert_eq!(scope("a.slice::x").unwrap(), named("x.scope", "a.slice"));
        assert_eq!(scope("").unwrap().0, "drupe-id.scope");
        for path in ["/a/b", "a.slice:b", "a.slice:b:c:d", "a:b:c", "a.slice:b:", "a.slice:b/c:d"] {
            let error = scope(path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: linux.cgroupsPath: {path:?}: ")), "{error}");
        }
    }

    #[test]
    fn systemd_knows_the_limits_that_it_could_set_back() {
        let limits = json!({
            "memory": { "limit": 1 << 20, "swap": 1 << 20 }, "pids": { "limit": -1 },
            "cpu": { "shares": 1024, "quota": 25_050, "period": 100_000 },
        });
        let limits = Resources::parse(&limits, "r").unwrap();
        let text: Vec<_> = limit_properties(&limits, 2).iter().map(|property| property.join(" ")).collect();
        assert_eq!(
            text,
            [
                "TasksMax t 18446744073709551615",
                "MemorySwapMax t 0",
                "MemoryMax t 1048576",
                "CPUWeight t 100",
                "CPUQuotaPerSecUSec t 260000",
            ]
        );
    }
}
