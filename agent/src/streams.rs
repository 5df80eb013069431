//! The streams of a process that is about to be made: connections to the host, and the ends that it gets.

use std::os::fd::OwnedFd;

use drupe_protocol::Process;
use rustix::fs::{Mode, OFlags};

use crate::dial::Dial;
use crate::failure::{Named, Result};
use crate::stdio::{Direction, Relay};

/// Both sides of a process's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// What the agent keeps.
    pub(crate) relays: Vec<Relay>,
    /// Standard input, output and error of the process.
    pub(crate) standard: [OwnedFd; 3],
}

/// Starts to connect what the configuration names; other streams are the null device.
pub(crate) fn connect(process: &Process, dial: &dyn Dial) -> Result<Streams> {
    let ports = process.stdio;
    let mut relays = Vec::new();
    let mut stream = |name: &str, port: Option<u32>, direction| {
        let field = format!("process.stdio.{name}");
        let Some(port) = port else {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            return rustix::fs::open(c"/dev/null", flags, Mode::empty()).named(field, "\"/dev/null\"");
        };
        let socket = dial.dial(port).named(&field, format_args!("port {port}"))?;
        let (relay, theirs) = Relay::new(direction, socket).named(&field, format_args!("port {port}"))?;
        relays.push(relay);
        Ok(theirs)
    };
    let standard = [
        stream("stdin", ports.stdin, Direction::ToWorkload)?,
        stream("stdout", ports.stdout, Direction::ToHost)?,
        stream("stderr", ports.stderr, Direction::ToHost)?,
    ];
    Ok(Streams { relays, standard })
}
