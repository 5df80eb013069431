//! Marks in the start-up of a container, in microseconds since this process began.

use std::fmt;
use std::time::Instant;

/// The marks so far.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    begin: Instant,
    marks: Vec<(&'static str, u64)>,
}

impl Stages {
    /// Starts the clock.
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), marks: Vec::with_capacity(16) }
    }

    /// The stage with this name has just ended.
    pub(crate) fn mark(&mut self, stage: &'static str) {
        let now = self.now_us();
        self.marks.push((stage, now));
    }

    /// Microseconds since the clock started.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A stage of the guest ended when its clock showed `guest_us`; the guest said so in a message that was
    /// written at `sent_us` of that clock and has just been read. A guest can lie: that only spoils its table.
    pub(crate) fn mark_guest(&mut self, stage: &'static str, guest_us: u64, sent_us: u64) {
        let at = self.now_us().saturating_sub(sent_us.saturating_sub(guest_us));
        self.marks.push((stage, at));
    }
}

/// One line per mark: when the stage ended, and how long that is after the mark before it.
impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10} {:>10}  stage (microseconds)", "at", "took")?;
        let mut before = 0;
        for &(stage, at) in &self.marks {
            writeln!(f, "{at:>10} {:>10}  {stage}", at.saturating_sub(before))?;
            before = at;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_takes_what_lies_between_two_marks() {
        let stages = Stages { begin: Instant::now(), marks: vec![("parse", 120), ("plan", 150)] };
        let lines: Vec<_> = stages.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[1], "       120        120  parse");
        assert_eq!(lines[2], "       150         30  plan");
    }

    #[test]
    fn a_guest_cannot_push_a_mark_before_the_beginning() {
        let mut stages = Stages::begin();
        stages.mark_guest("agent", 0, u64::MAX);
        stages.mark_guest("agent", u64::MAX, 0);
        assert_eq!(stages.marks[0].1, 0);
        assert!(stages.marks[1].1 < 60_000_000);
    }
}
