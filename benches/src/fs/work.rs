//! What runs in the guest: the steps, in the current directory, each between two marks.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::FsError;
use crate::marks::Marks;
use crate::steps::{FILE, FILE_SIZE, STEPS, Step, Transfer, Work};

/// Where the times go: a line `NANOSECONDS NAME` for each step.
pub(crate) const TIMES: &str = "times";

/// Runs all steps.
pub(crate) fn all(marks: Marks) -> Result<(), FsError> {
    let mut times = OpenOptions::new().create(true).append(true).open(TIMES).map_err(FsError::io(TIMES))?;
    for (place, step) in STEPS.iter().enumerate() {
        if step.cold {
            forget()?;
        }
        marks.make(2 * place)?;
        let time = run(step)?;
        marks.make(2 * place + 1)?;
        writeln!(times, "{} {}", time.as_nanos(), step.name).map_err(FsError::io(TIMES))?;
    }
    Ok(())
}

/// Drops all that the guest's kernel has cached, and gives it a moment to say so to the server.
fn forget() -> Result<(), FsError> {
    const DROP: &str = "/proc/sys/vm/drop_caches";
    std::fs::write(DROP, "3").map_err(FsError::io(DROP))?;
    sleep(Duration::from_millis(100));
    Ok(())
}

fn run(step: &Step) -> Result<Duration, FsError> {
    match step.work {
        Work::Program(words) => {
            let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
            let start = Instant::now();
            let status = command.status().map_err(FsError::io(program))?;
            let time = start.elapsed();
            if status.success() { Ok(time) } else { Err(FsError::Program((*program).to_owned(), status)) }
        }
        Work::Transfer(transfer) => {
            let start = Instant::now();
            transfers(transfer).map_err(FsError::io(FILE))?;
            Ok(start.elapsed())
        }
    }
}

/// Opens the file and makes all transfers.
fn transfers(transfer: Transfer) -> std::io::Result<()> {
    let file: File = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(FILE)?;
    if transfer.random {
        // SAFETY: the descriptor is open, and the call reads no memory of this process.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    }
    let mut block = vec![0x5a; transfer.block];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..transfer.count {
        let place = if transfer.random {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % (FILE_SIZE / transfer.block) as u64
        } else {
            number as u64
        };
        let at = place * transfer.block as u64;
        if transfer.writes {
            file.write_all_at(&block, at)?;
        } else {
            file.read_exact_at(&mut block, at)?;
            black_box(&block);
        }
    }
    Ok(())
}
