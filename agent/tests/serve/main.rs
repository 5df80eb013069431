//! The agent, served by a test as its host: the real supervise, spawn and reap paths, with Unix sockets for vsock
//! and a directory for virtio-fs.
//!
//! Needs root and a static busybox; a test that lacks what it needs says so and counts as ignored. This executable
//! is both sides: called with `--agent` it is the agent, as PID 1 of its own namespaces.

mod confinement;
mod descriptors;
mod devices;
mod execs;
mod files;
mod freezing;
mod hooks;
mod host;
mod identity;
mod layers;
mod mounts;
mod namespaces;
mod policy;
mod questions;
mod status;
mod streams;
mod terminals;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use drupe_agent::{Agent, Dial, Places, clock};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "--agent") {
        return agent(Path::new(&args[2]), Path::new(&args[3]));
    }
    let mut trials = Vec::new();
    let missing = host::missing();
    if let Some(reason) = &missing {
        eprintln!("skipped, all tests of agent/tests/serve: {reason}");
    }
    let tests = [
        descriptors::TESTS,
        devices::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        confinement::TESTS,
        hooks::TESTS,
        layers::TESTS,
        execs::TESTS,
        files::TESTS,
        freezing::TESTS,
        identity::TESTS,
        policy::TESTS,
        questions::TESTS,
        status::TESTS,
        streams::TESTS,
        terminals::TESTS,
    ]
    .concat();
    for (name, test) in tests {
        let test = move || -> Result<(), Failed> {
            test();
            Ok(())
        };
        trials.push(Trial::test(name, test).with_ignored_flag(missing.is_some()));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Ports of the host are sockets in a directory.
struct Sockets {
    directory: PathBuf,
}

impl Dial for Sockets {
    fn dial(&self, port: u32) -> io::Result<OwnedFd> {
        let stream = UnixStream::connect(self.directory.join(port.to_string()))?;
        stream.set_nonblocking(true)?;
        Ok(stream.into())
    }
}

fn agent(directory: &Path, cgroup: &Path) -> ExitCode {
    let pid1_us = clock::now_us();
    let control = UnixStream::connect(directory.join("control")).unwrap();
    let places = Places {
        shares: directory.join("shares"),
        stage: directory.join("stage"),
        cgroup: cgroup.to_owned(),
    };
    let mut agent =
        Agent::new(control.into(), Sockets { directory: directory.join("ports") }, places).unwrap();
    agent.hello(pid1_us).unwrap();
    agent.prepare_cgroups();
    match agent.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error:?}");
            ExitCode::FAILURE
        }
    }
}
