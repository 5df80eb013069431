//! What a monitor tells the process that made it: that the container is created, or why not. Once, over a pipe.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use drupe_protocol::frame::{self, Decoder};
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Report {
    /// The container is created.
    Ready,
    /// It is not, and nothing of it runs.
    Failed {
        /// Why.
        message: String,
        /// The exit status that goes with it.
        status: u8,
    },
}

/// The monitor's end.
#[derive(Debug)]
pub(crate) struct Reporter(File);

/// The creator's end.
#[derive(Debug)]
pub(crate) struct Reports(File);

/// Makes both ends.
pub(crate) fn channel() -> io::Result<(Reporter, Reports)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Reporter(File::from(writer)), Reports(File::from(reader))))
}

impl Reporter {
    /// The container is created.
    pub(crate) fn ready(&mut self) -> io::Result<()> {
        self.tell(&Report::Ready)
    }

    /// A second end, for what goes wrong elsewhere.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Tells it. A creator that has ended is an error.
    pub(crate) fn tell(&mut self, report: &Report) -> io::Result<()> {
        self.0.write_all(&frame::encode(report).map_err(io::Error::other)?)
    }
}

impl Reports {
    /// Waits for the first report; `None` when the monitor ended without one.
    pub(crate) fn first(mut self) -> io::Result<Option<Report>> {
        let mut decoder = Decoder::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(report) = decoder.take().map_err(io::Error::other)? {
                return Ok(Some(report));
            }
            match self.0.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(length) => decoder.push(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_counts_and_none_is_told_from_one() {
        let (mut reporter, reports) = channel().unwrap();
        reporter.ready().unwrap();
        reporter.tell(&Report::Failed { message: "late".into(), status: 1 }).unwrap();
        assert_eq!(reports.first().unwrap(), Some(Report::Ready));
        assert!(reporter.ready().is_err(), "the creator has ended");
        let (reporter, reports) = channel().unwrap();
        drop(reporter);
        assert_eq!(reports.first().unwrap(), None);
    }
}
