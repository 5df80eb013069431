//! Turns the child that has entered the container's root into the container's process, up to exec.
//!
//! The order is runc's. What needs the agent's /proc has been done before: the container's is not trusted.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use drupe_protocol::Process;
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, major, minor};
use rustix::io::Errno;
use rustix::process::{chdir, getpid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::capabilities::Sets;
use crate::failure::{Named, Result, cause, setup};
use crate::seccomp::Filter;
use crate::{lookup, rlimits, scheduling, sys};

const DEFAULT_UMASK: u32 = 0o022;

/// Everything that exec needs.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    /// Still to be loaded.
    filter: Option<Filter>,
}

impl Program {
    /// The filter that is loaded right before exec.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }
}

/// Takes on the identity, limits and rights of the process, and finds its program.
///
/// What takes rights in the guest that its user namespace does not give was done before, by who has them.
pub(crate) fn become_process(config: &Process) -> Result<Program> {
    check_ids(config)?;
    let capabilities = Sets::parse(&config.capabilities)?;
    let env = environment(config);
    rlimits::apply(&config.rlimits)?;
    umask(Mode::from_raw_mode(config.user.umask.unwrap_or(DEFAULT_UMASK)));
    replace_null_streams(config);
    own_streams(config);
    scheduling::stay_on(&config.cpu_affinity)?;
    if let Some(persona) = config.personality {
        sys::set_personality(persona).named("linux.personality", format_args!("{persona:#x}"))?;
    }
    let entered = chdir(config.cwd.as_str());
    match entered {
        // The user may be allowed what root is not (a directory of a network filesystem): tried again below.
        Ok(()) | Err(Errno::ACCESS | Errno::PERM) => {}
        failed => failed.named("process.cwd", format_args!("{:?}: cannot be entered", config.cwd))?,
    }
    if config.no_new_privileges {
        set_no_new_privs(true).named("process.noNewPrivileges", "true")?;
    }
    let mut filter = config.seccomp.as_ref().map(Filter::new);
    if !config.no_new_privileges
        && let Some(filter) = filter.take()
    {
        // Only who has CAP_SYS_ADMIN may load it then: the last chance.
        filter.load()?;
    }
    capabilities.bound()?;
    set_keep_capabilities(true).named("process.capabilities", "cannot be kept")?;
    change_user(config)?;
    set_keep_capabilities(false).named("process.capabilities", "cannot be kept")?;
    capabilities.apply()?;
    if entered.is_err() {
        chdir(config.cwd.as_str())
            .named("process.cwd", format_args!("{:?}: cannot be entered", config.cwd))?;
    }
    program(config, &env, filter)
}

/// Replaces this process; returns why it could not.
pub(crate) fn execute(program: &Program) -> drupe_protocol::Failure {
    let error = match sys::reset_signals() {
        Ok(()) => {
            // As few calls as possible come after it: each would have to be allowed by it.
            if let Some(Err(failure)) = program.filter.as_ref().map(Filter::load) {
                return failure;
            }
            sys::execute(&program.path, &program.args, &program.env)
        }
        Err(error) => error,
    };
    match Errno::from_io_error(&error) {
        Some(errno) => lookup::refused(&program.name, errno),
        None => setup("process.args[0]", format_args!("{:?}: {}", program.name, cause(&error))),
    }
}

fn program(config: &Process, env: &[String], filter: Option<Filter>) -> Result<Program> {
    let Some(name) = config.args.first() else {
        return Err(setup("process.args", "[]: no program named"));
    };
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let found = lookup::program(name, path)?;
    let path = found.to_str().unwrap_or(name).to_owned();
    Ok(Program {
        name: name.clone(),
        path: c_string("process.args", 0, &path)?,
        args: c_strings("process.args", &config.args)?,
        env: c_strings("process.env", env)?,
        filter,
    })
}

fn c_strings(field: &str, strings: &[String]) -> Result<Vec<CString>> {
    strings.iter().enumerate().map(|(index, text)| c_string(field, index, text)).collect()
}

fn c_string(field: &str, index: usize, text: &str) -> Result<CString> {
    CString::new(text)
        .map_err(|_| setup(format!("{field}[{index}]"), format_args!("{text:?}: holds a zero byte")))
}

/// Refuses the id -1. To the kernel it means "leave as it is": a process that asked for it would stay root.
fn check_ids(config: &Process) -> Result<()> {
    let user = &config.user;
    let groups = user.additional_gids.iter().map(|gid| ("process.user.additionalGids", *gid));
    let ids = [("process.user.uid", user.uid), ("process.user.gid", user.gid)];
    match ids.into_iter().chain(groups).find(|(_, id)| *id == u32::MAX) {
        Some((field, id)) => Err(setup(field, format_args!("{id}: not a valid id"))),
        None => Ok(()),
    }
}

fn change_user(config: &Process) -> Result<()> {
    let user = &config.user;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)
        .named("process.user.additionalGids", format_args!("{:?}", user.additional_gids))?;
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).named("process.user.gid", user.gid)?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).named("process.user.uid", user.uid)
}

/// Lets a user other than root open /dev/stdout again. Fails for what cannot be owned: not an error.
fn own_streams(config: &Process) {
    let (uid, gid) = (Uid::from_raw(config.user.uid), Gid::from_raw(config.user.gid));
    let ports = config.stdio;
    let streams = [
        (ports.stdin, rustix::stdio::stdin()),
        (ports.stdout, rustix::stdio::stdout()),
        (ports.stderr, rustix::stdio::stderr()),
    ];
    for (_, stream) in streams.into_iter().filter(|(port, _)| port.is_some()) {
        let _ = fchown(stream, Some(uid), Some(gid));
    }
}

/// Streams that go nowhere use the container's null device, if it has a real one; until now it was the agent's.
fn replace_null_streams(config: &Process) {
    if config.terminal.is_some() {
        return;
    }
    let Some(null) = open_null() else { return };
    let ports = config.stdio;
    if ports.stdin.is_none() {
        let _ = dup2_stdin(&null);
    }
    if ports.stdout.is_none() {
        let _ = dup2_stdout(&null);
    }
    if ports.stderr.is_none() {
        let _ = dup2_stderr(&null);
    }
}

fn open_null() -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::open(c"/dev/null", flags, Mode::empty()).ok()?;
    let stat = fstat(&found).ok()?;
    let real = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if !real {
        return None;
    }
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The environment, with `HOME` from the container's /etc/passwd when it is not given.
///
/// Descriptors that are handed over by `LISTEN_FDS` are for the process that `LISTEN_PID` names (sd_listen_fds(3)).
fn environment(config: &Process) -> Vec<String> {
    let mut env = config.env.clone();
    if !config.descriptors.is_empty() && env.iter().any(|entry| entry.starts_with("LISTEN_FDS=")) {
        env.retain(|entry| !entry.starts_with("LISTEN_PID="));
        env.push(format!("LISTEN_PID={}", getpid().as_raw_pid()));
    }
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", home(Path::new("/etc/passwd"), config.user.uid)));
    }
    env
}

/// The home directory of a user; `/` when the file does not tell. The file is the image's: it may be anything.
fn home(passwd: &Path, uid: u32) -> String {
    const MOST_BYTES: u64 = 1 << 20;
    // A fifo must not stop us, nor a terminal become ours.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(passwd).ok();
    let regular = file.filter(|file| {
        fstat(file.as_fd()).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
    });
    let lines = regular.into_iter().flat_map(|file| BufReader::new(file.take(MOST_BYTES)).split(b'\n'));
    lines
        .map_while(std::io::Result::ok)
        .find_map(|line| {
            let line = String::from_utf8_lossy(&line);
            let mut fields = line.split(':');
            let is_user = fields.nth(2)?.parse() == Ok(uid);
            is_user.then(|| fields.nth(2).unwrap_or_default().to_owned())
        })
        .filter(|home| !home.is_empty())
        .unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_read_from_whatever_passwd_is() {
        let dir = tempfile::tempdir().unwrap();
        let passwd = dir.path().join("passwd");
        std::fs::write(
            &passwd,
            b"root:x:0:0:root:/root:/bin/sh\nbad line\nj:x:5:5:J\xf6rg:/home/j:/bin/sh\na:x:1000:1000::/home/a:/bin/sh\nb:x:7:7:b::\n",
        )
        .unwrap();
        assert_eq!(home(&passwd, 0), "/root");
        assert_eq!(home(&passwd, 1000), "/home/a");
        assert_eq!(home(&passwd, 7), "/");
        assert_eq!(home(&passwd, 42), "/");
        assert_eq!(home(&dir.path().join("missing"), 0), "/");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(home(&fifo, 0), "/");
        assert_eq!(home(dir.path(), 0), "/");
    }
}
