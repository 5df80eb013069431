//! `linux.uidMappings` and `linux.gidMappings`: a container whose root is another user of the guest.
//!
//! All namespaces of such a container belong to its user namespace, as they do with runc, so its root may do in them
//! what root does. Two things that no container's root may do are left to the agent, right after the clone: to give
//! rights ([`grant`]), and to make mounts of what is the guest's ([`crate::sources`]).

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;

use drupe_protocol::{IdRange, Process, UserNamespace};
use rustix::fs::{Gid, Uid, fchown};
use rustix::process::Pid;
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::failure::{Named, Result, setup};
use crate::streams::Ends;
use crate::{ids, rlimits, scheduling, sys};

/// Writes the mappings of the namespace that `child` is the first process of.
pub(crate) fn map(user: &UserNamespace, child: Pid) -> Result<()> {
    for (field, file, ranges) in
        [("linux.uidMappings", "uid_map", &user.uids), ("linux.gidMappings", "gid_map", &user.gids)]
    {
        if ids::outside(ranges, 0).is_none() {
            return Err(setup(field, format_args!("{}: id 0 is not in it", text(ranges))));
        }
        write(child, file, &lines(ranges)).named(field, text(ranges))?;
    }
    Ok(())
}

/// Becomes the root of the user namespace that this process is in.
pub(crate) fn become_root() -> Result<()> {
    set_thread_groups(&[]).named("linux.gidMappings", "groups of root")?;
    let gid = Gid::ROOT;
    set_thread_res_gid(gid, gid, gid).named("linux.gidMappings", "group 0")?;
    let uid = Uid::ROOT;
    set_thread_res_uid(uid, uid, uid).named("linux.uidMappings", "user 0")
}

/// Gives a child in a user namespace what takes rights in the guest: priorities, limits, a score.
pub(crate) fn grant(process: &Process, child: Pid) -> Result<()> {
    let score = process.oom_score_adj.unwrap_or(0);
    write(child, "oom_score_adj", &score.to_string()).named("process.oomScoreAdj", score)?;
    scheduling::set_priorities(process, Some(child))?;
    rlimits::raise(&process.rlimits, Some(child))
}

/// Gives the streams to the process's user, so that it can open /dev/stdout again. What cannot be owned is left.
pub(crate) fn give_streams(user: &UserNamespace, process: &Process, ends: &Ends) {
    let (Some(uid), Some(gid)) =
        (ids::outside(&user.uids, process.user.uid), ids::outside(&user.gids, process.user.gid))
    else {
        return;
    };
    let ports = process.stdio;
    for (stream, port) in ends.standard().into_iter().zip([ports.stdin, ports.stdout, ports.stderr]) {
        if port.is_some() {
            let _ = fchown(stream.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
}

/// Lets `make` do something in the network of a process that is in a user namespace, with the rights of the guest's
/// root over it; brings its loopback interface up.
pub(crate) fn in_network_of<T>(first: &sys::Process, make: impl FnOnce() -> Result<T>) -> Result<T> {
    const FIELD: &str = "linux.namespaces";
    // Not by a pidfd: that stands for what the process is in when it is used.
    let own = fs::File::open("/proc/self/ns/net").named(FIELD, "network")?;
    move_into_thread_name_spaces(first.pidfd.as_fd(), ThreadNameSpaceType::NETWORK)
        .named(FIELD, "network: enter")?;
    if let Err(error) = sys::interface_up(c"lo") {
        crate::log::note(format_args!("interface lo: {error}"));
    }
    let made = make();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
        .named(FIELD, "network: leave")?;
    made
}

/// The kernel takes a map in one write.
fn write(child: Pid, file: &str, text: &str) -> io::Result<()> {
    let path = format!("/proc/{}/{file}", child.as_raw_pid());
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

fn text(ranges: &[IdRange]) -> String {
    format!("[{}]", lines(ranges).trim().replace('\n', ", "))
}
