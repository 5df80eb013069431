//! A container of drupe. At each mark its counters are asked for, and only then does it go on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use super::{Counters, MEMORY, Workspace, wait};
use crate::error::FsError;
use crate::work::TIMES;

const ID: &str = "bench";

/// Runs the steps; returns the counters at each mark.
pub(super) fn run(space: &Workspace) -> Result<Vec<Counters>, FsError> {
    let config = space.path("config.json");
    fs::write(&config, config_json().to_string()).map_err(FsError::io(&config))?;
    let (drupe, state) = (space.path("dist/bin/drupe"), space.path("state"));
    let mut command = Command::new(&drupe);
    command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(&space.0).arg(ID);
    let mut container =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(FsError::io(&drupe))?;
    let (stdin, stdout) = (container.stdin.take(), container.stdout.take());
    let asker = thread::spawn(move || -> Result<Vec<Counters>, FsError> {
        let mut marks = Vec::new();
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Ok(marks) };
        for _ in BufReader::new(stdout).lines() {
            marks.push(counters(&drupe, &state)?);
            stdin.write_all(b"\n").map_err(FsError::io("standard input of the container"))?;
        }
        Ok(marks)
    });
    wait(container, "drupe", &space.path("root/work").join(TIMES))?;
    asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What `drupe events --stats` says now.
fn counters(drupe: &Path, state: &Path) -> Result<Counters, FsError> {
    let mut command = Command::new(drupe);
    command.arg("--root").arg(state).args(["events", "--stats", ID]).stdin(Stdio::null());
    let output = command.output().map_err(FsError::io(drupe))?;
    let event: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| FsError::unexpected("drupe events", error))?;
    serde_json::from_value(event["data"]["filesystem"]["requests"].clone())
        .map_err(|error| FsError::unexpected("drupe events", error))
}

/// A container with a root's rights in its machine, and no limits but the machine's memory.
fn config_json() -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_MKNOD",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SYS_ADMIN",
    ];
    let mount =
        |destination: &str, kind: &str| json!({ "destination": destination, "type": kind, "source": kind });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/work/bench", "work", "--marks", "stdio"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/work",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "root" },
        "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/sys", "sysfs")],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "resources": { "memory": { "limit": MEMORY << 20 } },
        },
    })
}
