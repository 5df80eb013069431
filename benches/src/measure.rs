//! One run of one runtime, and the order in which runs are made.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// An OCI runtime with runc's command line.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// Path or name of its binary.
    pub(crate) command: String,
}

impl FromStr for Runtime {
    type Err = std::convert::Infallible;

    fn from_str(command: &str) -> Result<Self, Self::Err> {
        Ok(Self { command: command.to_owned() })
    }
}

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// From exec of the runtime to its exit.
    pub(crate) wall: Duration,
    /// User and system time of the runtime and all that it waited for.
    pub(crate) cpu: Duration,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    /// The runtime could not be started.
    #[error("{command}: {source}")]
    Spawn { command: String, source: io::Error },
    /// The container failed, so its time means nothing.
    #[error("{command} run: {status}")]
    Failed { command: String, status: std::process::ExitStatus },
}

impl Runtime {
    /// Runs `bundle` once, with the runtime's state below `state`.
    pub(crate) fn run(&self, bundle: &Path, state: &Path) -> Result<Measurement, MeasureError> {
        let mut command = Command::new(&self.command);
        command.arg("--root").arg(state).args(["run", "--bundle"]).arg(bundle).arg("drupe-benches");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let cpu_before = children_cpu();
        let start = Instant::now();
        let status = command
            .status()
            .map_err(|source| MeasureError::Spawn { command: self.command.clone(), source })?;
        let wall = start.elapsed();
        if !status.success() {
            return Err(MeasureError::Failed { command: self.command.clone(), status });
        }
        Ok(Measurement { wall, cpu: children_cpu().saturating_sub(cpu_before) })
    }
}

/// User and system time of all children that have been waited for.
fn children_cpu() -> Duration {
    // SAFETY: an all-zero rusage is a valid value of that plain C structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage, which the call fills in.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime))
}

/// Random orders, the same for the same seed (xorshift64).
#[derive(Debug)]
pub(crate) struct Shuffle(u64);

impl Shuffle {
    /// Orders that follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The numbers below `count` in random order (Fisher and Yates).
    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let pick = usize::try_from(self.0 % (last as u64 + 1)).unwrap_or(0);
            order.swap(last, pick);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_up() {
        let mut shuffle = Shuffle::new(30);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let order = shuffle.order(3);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn a_failing_container_is_not_measured() {
        let runtime: Runtime = "false".parse().unwrap();
        let error = runtime.run(Path::new("/"), Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "false run: exit status: 1");
        let runtime: Runtime = "/nonexistent".parse().unwrap();
        assert!(matches!(runtime.run(Path::new("/"), Path::new("/")), Err(MeasureError::Spawn { .. })));
    }
}
