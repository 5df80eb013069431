//! Starts a machine over a fresh copy of the tree, and collects what it says.

mod drupe;
mod qemu;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::FsError;
use crate::results::{Results, StepResult};
use crate::steps::STEPS;
use crate::work::TIMES;

/// Memory of the machines, in MiB.
const MEMORY: u64 = 512;

/// A machine that ends no step for so long is stuck.
const STEP_LIMIT: Duration = Duration::from_secs(900);

/// Counters of requests by opcode, at one mark.
type Counters = BTreeMap<String, u64>;

/// A machine, and what it is made of.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// What is measured
    #[arg(value_enum)]
    subject: Subject,
    /// Directory with bin/drupe and lib/drupe/{vmlinux,initramfs}
    #[arg(long, value_name = "DIR")]
    dist: PathBuf,
    /// Archive of a directory `root`: a root filesystem with the files of the steps in /work
    #[arg(long, value_name = "FILE")]
    tree: PathBuf,
    /// How many files the tree has that is unpacked
    #[arg(long, value_name = "N")]
    files: usize,
    /// The library that counts the requests of virtiofsd
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Where the results go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// A container of drupe: times and requests at once.
    Drupe,
    /// QEMU's microvm with the C virtiofsd: its times.
    VirtiofsdTimes,
    /// The same while its requests are counted.
    VirtiofsdRequests,
}

/// Everything of one run, in memory, and gone with it.
struct Workspace(PathBuf);

impl Workspace {
    fn new() -> Result<Self, FsError> {
        let path = std::env::temp_dir().join(format!("drupe-bench-fs-{}", std::process::id()));
        fs::create_dir(&path).map_err(FsError::io(&path))?;
        let space = Self(path);
        run_program(
            Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755,size=3G", "tmpfs"]).arg(&space.0),
        )?;
        Ok(space)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Runs the steps on the machine that `arguments` name.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), FsError> {
    let space = Workspace::new()?;
    progress("unpacking the tree");
    run_program(Command::new("tar").arg("-C").arg(&space.0).arg("-xf").arg(&arguments.tree))?;
    let root = space.path("root");
    refresh_index(&root)?;
    copy(Path::new("/proc/self/exe"), &root.join("work/bench"))?;
    for name in ["bin/drupe", "lib/drupe/vmlinux", "lib/drupe/initramfs"] {
        copy(&arguments.dist.join(name), &space.path("dist").join(name))?;
    }
    let marks = match arguments.subject {
        Subject::Drupe => drupe::run(&space)?,
        Subject::VirtiofsdTimes => qemu::run(&space, None)?,
        Subject::VirtiofsdRequests => {
            let library =
                arguments.library.as_deref().ok_or_else(|| FsError::unexpected("--library", "not given"))?;
            qemu::run(&space, Some(library))?
        }
    };
    results(arguments.files, &root.join("work").join(TIMES), &marks)?.write(&arguments.out)
}

/// git keeps the times of the files in its index: those of the copy. Otherwise the first `git status` reads every file.
fn refresh_index(root: &Path) -> Result<(), FsError> {
    run_program(Command::new("chroot").arg(root).args([
        "git",
        "-C",
        "/work/repository",
        "update-index",
        "--refresh",
    ]))
}

/// Puts the times that the guest has written beside the differences of the counters.
fn results(files: usize, times: &Path, marks: &[Counters]) -> Result<Results, FsError> {
    let text = fs::read_to_string(times).map_err(FsError::io(times))?;
    let mut steps = Vec::new();
    for (place, (step, line)) in STEPS.iter().zip(text.lines()).enumerate() {
        let nanoseconds = line
            .split_once(' ')
            .filter(|(_, name)| *name == step.name)
            .and_then(|(number, _)| number.parse().ok())
            .ok_or_else(|| FsError::unexpected(times, format!("{line}: not the time of {}", step.name)))?;
        let requests = match marks.get(2 * place..2 * place + 2) {
            Some([before, after]) => difference(before, after),
            _ => Counters::new(),
        };
        steps.push(StepResult { name: step.name.to_owned(), nanoseconds, requests });
    }
    if steps.len() < STEPS.len() {
        return Err(FsError::unexpected(times, format!("{} of {} steps", steps.len(), STEPS.len())));
    }
    Ok(Results { files, steps })
}

fn difference(before: &Counters, after: &Counters) -> Counters {
    let grown = after.iter().map(|(opcode, count)| (opcode, count - before.get(opcode).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).map(|(opcode, count)| (opcode.clone(), count)).collect()
}

/// Waits for the end of a machine, and says which steps it has done.
fn wait(mut machine: Child, name: &str, times: &Path) -> Result<(), FsError> {
    let (mut done, start) = (0, Instant::now());
    let mut last = start;
    loop {
        let ended = machine.try_wait().map_err(FsError::io(name))?;
        let text = fs::read_to_string(times).unwrap_or_default();
        for line in text.lines().skip(done) {
            progress(&format!("{name}: {line}, after {} s", start.elapsed().as_secs()));
            done += 1;
            last = Instant::now();
        }
        match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(FsError::Program(name.to_owned(), status)),
            None if last.elapsed() > STEP_LIMIT => {
                let _ = machine.kill().and_then(|()| machine.wait());
                return Err(FsError::unexpected(
                    times,
                    format!("no step ended for {} s", STEP_LIMIT.as_secs()),
                ));
            }
            None => sleep(Duration::from_millis(500)),
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), FsError> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).map_err(FsError::io(directory))?;
    }
    fs::copy(from, to).map(|_| ()).map_err(FsError::io(from))
}

fn run_program(command: &mut Command) -> Result<(), FsError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(FsError::io(&name))?;
    if status.success() { Ok(()) } else { Err(FsError::Program(name, status)) }
}

fn progress(what: &str) {
    eprintln!("fs: {what}");
}
