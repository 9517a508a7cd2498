//! A transcript of bounded size: its beginning, its end, and how much is missing between them.

use std::collections::VecDeque;

/// Bytes of the beginning that are kept, and as many of the end.
const KEPT: usize = 1 << 20;

/// What was said, line by line.
#[derive(Default)]
pub(super) struct Transcript {
    head: String,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
}

impl Transcript {
    /// Adds a line, with its end.
    pub(super) fn push(&mut self, line: &str) {
        if self.tail.is_empty() && self.left_out == 0 && self.head.len() + line.len() <= KEPT {
            self.head.push_str(line);
            return;
        }
        self.tail_bytes += line.len();
        self.tail.push_back(line.to_owned());
        while self.tail_bytes > KEPT {
            let Some(dropped) = self.tail.pop_front() else { break };
            self.tail_bytes -= dropped.len();
            self.left_out += 1;
        }
    }

    /// All that was kept.
    pub(super) fn text(self) -> String {
        use std::fmt::Write as _;
        let mut text = self.head;
        if self.left_out > 0 {
            let _ = writeln!(text, "[{} lines are left out here]", self.left_out);
        }
        text.extend(self.tail);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut short = Transcript::default();
        short.push("one\n");
        short.push("two\n");
        assert_eq!(short.text(), "one\ntwo\n");
        let mut long = Transcript::default();
        let line = |n: u32| format!("{n:>99}\n");
        (0..40_000).for_each(|n| long.push(&line(n)));
        let text = long.text();
        assert!(text.len() < 2 * KEPT + 100 && text.len() > 2 * KEPT - 300, "{}", text.len());
        assert!(text.starts_with(&line(0)) && text.ends_with(&line(39_999)));
        let missing = text.lines().find(|line| line.starts_with('[')).expect("it is said");
        let kept = text.lines().count() - 1;
        assert_eq!(missing, format!("[{} lines are left out here]", 40_000 - kept));
    }
}
