//! The run: two processes that take turns, trees that are begun, printed and taken away.

use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::actor::keep_capabilities;
use crate::calls::choose;
use crate::line::Line;
use crate::options::Options;
use crate::random::Random;
use crate::world::{Call, World};
use crate::{sys, tree};

/// Operations on one tree.
const EPISODE: u64 = 1000;

/// For what random numbers are drawn.
const ACTOR: u64 = 1;
const PROCESS: u64 = 2;
const OPERATION: u64 = 3;

/// What the other process is told: the number of an operation, or one of these.
const ENTER: u64 = u64::MAX;
const LEAVE: u64 = u64::MAX - 1;

/// Prints the tree that a run has left in a directory.
pub(crate) fn dump(directory: &Path) -> io::Result<()> {
    confine(directory)?;
    let mut out = BufWriter::new(io::stdout().lock());
    tree::dump(&mut |line| writeln!(out, "{}", line.into_text()))?;
    out.flush()
}

/// Makes the calls and prints what they give.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut out = BufWriter::new(io::stdout().lock());
    protections(&mut out)?;
    let mut world = World::new(proc.as_fd())?;
    confine(options.directory.as_path())?;
    keep_capabilities()?;
    let (mut ours, theirs) = UnixStream::pair()?;
    if sys::fork()? {
        drop(ours);
        // The parent's output and descriptors are its own.
        std::mem::forget(out);
        return serve(theirs, &mut World::new(proc.as_fd())?, options);
    }
    drop(theirs);
    let mut episode = None;
    for index in &options.operations {
        if episode != Some(index / EPISODE) {
            if episode.is_some() {
                leave(&mut world, &mut ours, &mut out)?;
            }
            enter(&mut world, &mut ours)?;
            episode = Some(index / EPISODE);
        }
        let text = if Random::new(options.seed, PROCESS, index / 4).one_in(4) {
            ask(&mut ours, *index)?
        } else {
            operation(&mut world, options, *index)?
        };
        if !text.is_empty() {
            writeln!(out, "{text}")?;
        }
    }
    if episode.is_some() {
        leave(&mut world, &mut ours, &mut out)?;
    }
    out.flush()
}

/// What the kernel forbids beyond permissions is not a file system's, but changes results.
fn protections(out: &mut impl Write) -> io::Result<()> {
    for name in ["hardlinks", "symlinks", "fifos", "regular"] {
        let value = std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}"))?;
        writeln!(out, "protected {name} {}", value.trim_end())?;
    }
    Ok(())
}

/// Makes a directory the root directory, so that no link leads out of it.
fn confine(directory: &Path) -> io::Result<()> {
    rustix::process::chroot(directory)?;
    Ok(rustix::process::chdir("/")?)
}

fn enter(world: &mut World, other: &mut UnixStream) -> io::Result<()> {
    tree::remove()?;
    tree::make()?;
    world.enter_tree()?;
    ask(other, ENTER).map(drop)
}

fn leave(world: &mut World, other: &mut UnixStream, out: &mut BufWriter<StdoutLock<'_>>) -> io::Result<()> {
    ask(other, LEAVE)?;
    world.leave_tree()?;
    tree::dump(&mut |line| writeln!(out, "{}", line.into_text()))
}

/// Makes one call. Nothing is printed for what is left out.
fn operation(world: &mut World, options: &Options, index: u64) -> io::Result<String> {
    let actor = options.cast.choose(&mut Random::new(options.seed, ACTOR, index / 8));
    let mut random = Random::new(options.seed, OPERATION, index);
    let (name, function) = choose(&mut random);
    if options.without.contains(name) {
        return Ok(String::new());
    }
    world.become_actor(actor)?;
    let mut line = Line::default();
    line.add(format_args!("{index} {} ", actor.name()));
    let mut call = Call { random, world, line };
    function(&mut call);
    Ok(call.line.into_text())
}

/// Has the other process do something, and gives what it says.
fn ask(other: &mut UnixStream, what: u64) -> io::Result<String> {
    other.write_all(&what.to_le_bytes())?;
    let mut length = [0; 8];
    other.read_exact(&mut length)?;
    let mut text = vec![0; usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?];
    other.read_exact(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// The other process: does what it is told, until nobody is there to tell it.
fn serve(mut asked: UnixStream, world: &mut World, options: &Options) -> io::Result<()> {
    let mut what = [0; 8];
    while asked.read_exact(&mut what).is_ok() {
        let text = match u64::from_le_bytes(what) {
            ENTER => world.enter_tree().map(|()| String::new())?,
            LEAVE => world.leave_tree().map(|()| String::new())?,
            index => operation(world, options, index)?.replacen(' ', "' ", 1),
        };
        asked.write_all(&(text.len() as u64).to_le_bytes())?;
        asked.write_all(text.as_bytes())?;
    }
    Ok(())
}
