//! What a new process of the agent does before it is a container: namespaces, kernel settings, root, identity.
//!
//! Runs in a child that shares nothing with the agent but one socket, its [`Report`].

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use drupe_protocol::GuestConfig;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{setsid, umask};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::failure::{Named, Result, setup};
use crate::process::{self, Program};
use crate::report::Report;
use crate::sources::Sources;
use crate::streams::Ends;
use crate::sysctls::{self, Part};
use crate::{
    Places, capabilities, clock, hooks, mounts, root, scheduling, sys, time_namespace, user_namespace,
};

/// A child that is to become a container's process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child<'a> {
    pub(crate) config: &'a GuestConfig,
    pub(crate) places: &'a Places,
    /// Its streams.
    pub(crate) ends: &'a Ends,
    pub(crate) report: BorrowedFd<'a>,
    /// When the configuration had arrived.
    pub(crate) configured_us: u64,
    /// The process whose user namespace it joins, when it was not born in it.
    pub(crate) init: Option<BorrowedFd<'a>>,
}

impl Child<'_> {
    /// The child's life: prepares the container, reports, waits for the start, executes the program.
    pub(crate) fn run(self) -> ! {
        time_namespace::correct_clock(self.config.namespaces.time.as_ref());
        let joined = self.init.map_or(Ok(()), join_user_namespace);
        let Ok([report]) = sys::keep_only(self.ends.standard(), &self.ends.others(), [self.report]) else {
            sys::exit(1)
        };
        let mut report = Report::new(report, &self.config.id);
        let prepared = joined.and_then(|()| prepare(self.config, self.places, &mut report));
        let failure = match prepared {
            Ok(Prepared { program, mounted_us }) => {
                let state = report.ready(self.configured_us, mounted_us);
                match hooks::run(&self.config.start_hooks, &state, program.filter()) {
                    Ok(()) => process::execute(&program),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        report.failed(failure)
    }
}

/// The first process of a pid namespace whose workload is not the first: reaps, and does nothing else.
///
/// The workload can see it. It therefore keeps no descriptor, capability, or view of the agent's files; closing
/// the descriptors tells the agent that this is done.
pub(crate) fn run_init(places: &Places, in_user_namespace: bool) -> ! {
    let ready = if in_user_namespace { user_namespace::become_root() } else { Ok(()) };
    if ready.and_then(|()| isolate_init(places)).is_err() || sys::close_from(0).is_err() {
        sys::exit(1);
    }
    sys::ignore_children();
    loop {
        rustix::event::pause();
    }
}

fn isolate_init(places: &Places) -> Result<()> {
    const FIELD: &str = "linux.namespaces";
    setsid().named(FIELD, "init")?;
    rustix::thread::set_name(c"init").named(FIELD, "init")?;
    root::make_private().named(FIELD, "init")?;
    let empty = mounts::filesystem("tmpfs", "tmpfs", ["size=4k"].into_iter(), 0, mounts::RDONLY)
        .map_err(|(_, text)| setup(FIELD, text))?;
    let stage =
        openat(CWD, &places.stage, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).named(FIELD, "init")?;
    mounts::attach(empty.as_fd(), stage.as_fd()).named(FIELD, "init")?;
    root::enter(&empty).named(FIELD, "init")?;
    capabilities::give_up().named(FIELD, "init")
}

/// A child that is one exec away from the program.
struct Prepared {
    program: Program,
    mounted_us: u64,
}

/// Joins the user namespace of a process and its network, and makes other namespaces that belong to it.
fn join_user_namespace(init: BorrowedFd<'_>) -> Result<()> {
    const FIELD: &str = "linux.namespaces";
    let namespaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
    move_into_thread_name_spaces(init, namespaces).named(FIELD, "user: enter")?;
    sys::unshare_namespaces().named(FIELD, "unshare")
}

fn prepare(config: &GuestConfig, places: &Places, report: &mut Report) -> Result<Prepared> {
    let sources = if config.namespaces.user.is_some() {
        // They come when the mappings are written.
        let sources = Sources::received(report.descriptors(Sources::count(config)));
        user_namespace::become_root()?;
        Some(sources)
    } else {
        None
    };
    let in_user_namespace = sources.is_some();
    setsid().named("process", "new session")?;
    umask(Mode::empty());
    sys::unshare_cgroup().named("linux.namespaces", "cgroup")?;
    name_host(config)?;
    sysctls::write(config, if in_user_namespace { Part::Container } else { Part::All })?;
    if !in_user_namespace {
        // Without a value of its own the process must not have the agent's, which is never killed.
        let score = config.process.oom_score_adj.unwrap_or(0);
        fs::write("/proc/self/oom_score_adj", score.to_string()).named("process.oomScoreAdj", score)?;
    }
    let (new_root, terminal) = root::assemble(config, places, sources)?;
    let mounted_us = clock::now_us();
    root::enter(&new_root)
        .named("root.path", format_args!("share {:?}: cannot become /", config.root.share))?;
    if let Some(flags) = config.rootfs_propagation {
        // Not before: the mount below it, which is the agent's, must stay private.
        mounts::propagate(new_root.as_fd(), flags)
            .named("linux.rootfsPropagation", format_args!("{flags:#x}"))?;
    }
    drop(new_root);
    if !in_user_namespace {
        scheduling::set_priorities(&config.process, None)?;
    }
    if let Some(terminal) = terminal {
        report.hand_over(&terminal.take(config.process.user.uid)?);
    }
    Ok(Prepared { program: process::become_process(&config.process)?, mounted_us })
}

fn name_host(config: &GuestConfig) -> Result<()> {
    if let Some(name) = &config.hostname {
        sethostname(name.as_bytes()).named("hostname", format_args!("{name:?}"))?;
    }
    if let Some(name) = &config.domainname {
        setdomainname(name.as_bytes()).named("domainname", format_args!("{name:?}"))?;
    }
    Ok(())
}
