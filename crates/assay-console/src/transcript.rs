//! The finished lines that are kept: those not yet taken, and the last ones for looking back.

use std::collections::VecDeque;

use crate::line::Line;

/// How many finished lines are kept after they were taken, for [`Console::tail`](crate::Console::tail) and
/// [`Console::arm_since`](crate::Console::arm_since).
pub const TAIL: usize = 512;

/// What a line costs besides its text, about.
const OVERHEAD: usize = 64;

pub(crate) struct Transcript {
    lines: VecDeque<Line>,
    /// How many at the back were not taken.
    untaken: usize,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl Transcript {
    pub(crate) fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), untaken: 0, bytes: 0, limit, dropped: 0 }
    }

    pub(crate) fn push(&mut self, line: Line) {
        self.bytes += line.text.len() + OVERHEAD;
        self.lines.push_back(line);
        self.untaken += 1;
        while self.lines.len() > 1
            && (self.bytes > self.limit || (self.lines.len() > TAIL && self.untaken < self.lines.len()))
        {
            if let Some(line) = self.lines.pop_front() {
                self.bytes -= line.text.len() + OVERHEAD;
            }
            if self.untaken > self.lines.len() {
                self.untaken = self.lines.len();
                self.dropped += 1;
            }
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Line> {
        let taken = self.lines.range(self.lines.len() - self.untaken..).cloned().collect();
        self.untaken = 0;
        while self.lines.len() > TAIL {
            if let Some(line) = self.lines.pop_front() {
                self.bytes -= line.text.len() + OVERHEAD;
            }
        }
        taken
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::line::Source;

    fn line(number: u64) -> Line {
        Line { number, at: Duration::ZERO, text: "x".repeat(36), source: Source::Serial, cut: false }
    }

    #[test]
    fn what_was_not_taken_is_dropped_oldest_first_and_counted() {
        let mut transcript = Transcript::new(1000);
        (1..=14).for_each(|number| transcript.push(line(number)));
        assert_eq!(transcript.dropped(), 4);
        assert_eq!(
            transcript.take().iter().map(|line| line.number).collect::<Vec<_>>(),
            (5..=14).collect::<Vec<_>>()
        );
        assert_eq!(transcript.take(), []);
        transcript.push(line(15));
        assert_eq!(transcript.take().len(), 1);
        assert_eq!(transcript.dropped(), 4, "a line that was taken is not lost");
    }

    #[test]
    fn the_tail_stays_after_taking() {
        let mut transcript = Transcript::new(1 << 20);
        (1..=2000).for_each(|number| transcript.push(line(number)));
        assert_eq!(transcript.take().len(), 2000);
        assert_eq!(transcript.lines().count(), TAIL);
        (2001..=2010).for_each(|number| transcript.push(line(number)));
        assert_eq!(transcript.lines().count(), TAIL);
        assert_eq!(transcript.take().len(), 10);
    }
}
