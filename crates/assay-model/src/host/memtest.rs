//! The evidence of the opt-in stage `Memtest86`: memtest86+, booted instead of the live image, and what it draws on its
//! serial console.
//!
//! It tests the memory that no operating system lets go of, and it has no other voice: no exit code and no network. So
//! its screen is read: the fields that it redraws every second, and the table of failing addresses, which scrolls.
//! The title is drawn only when it begins; drawn again over a clock that went back, the machine has reset.

mod screen;

use serde::{Deserialize, Serialize};

use self::screen::{ROWS, Screen};
use crate::text::clean_to;

/// Failing addresses that are kept one by one.
const MAX_FAULTS: usize = 64;
/// Where the table of failing addresses and messages begins, and ends.
const TABLE: std::ops::Range<usize> = 10..ROWS - 1;
/// What is kept of what the console said before the memory test: firmware, boot loader.
const MAX_BEFORE: usize = 8 << 10;
/// A digit that the line lost may let the clock go back by less.
const RESTARTED_S: u64 = 5;

/// Everything that the stage brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemtestEvidence {
    /// `Memtest86+ v6.10`; none when it never drew its screen.
    pub version: Option<String>,
    /// How much memory it found, as it writes it: `47MB`, `127GB`.
    pub memory: Option<String>,
    /// Passes that it completed.
    pub passes: u64,
    /// How far it is within the pass, in percent.
    pub percent: u64,
    /// Errors that it counted.
    pub errors: u64,
    /// `Testing`, `Pass`, `Failed!` … the last that it said of itself.
    pub status: Option<String>,
    /// The time that it ran, as it writes it: `0:14:02`.
    pub time: Option<String>,
    /// The first failing addresses, each once.
    pub faults: Vec<MemtestFault>,
    /// How often it began anew: the machine reset while it ran.
    pub restarts: u64,
    /// Whether the machine fetched it from us, as the control plane knows.
    pub served: Option<bool>,
    /// How long the console was listened to, in seconds.
    pub listened_s: f64,
    /// Passes that were asked for.
    pub passes_asked: u64,
    /// What kept the console from being read, one sentence each.
    pub problems: Vec<String>,
}

/// One line of the table of failing addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemtestFault {
    /// The pass, from 0.
    pub pass: u64,
    /// The number of the test.
    pub test: u64,
    /// The physical address.
    pub address: u64,
    /// What was written.
    pub expected: u64,
    /// What was read.
    pub found: u64,
}

/// Reads a console as it comes; may be asked at any time what it shows so far.
#[derive(Clone, Debug, Default)]
pub struct MemtestReader {
    screen: Screen,
    seen: MemtestEvidence,
    before: String,
    /// The title was drawn since the clock was last read.
    titled: bool,
}

impl MemtestReader {
    /// Takes what the console wrote, however it was cut.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let row = self.screen.place();
            let plain = self.screen.is_plain();
            // A screen is looked at before it changes place: whatever stood there was complete.
            if self.screen.take(*byte) {
                if row == 0 {
                    self.titled |= self.screen.row(0).contains("Memtest86+");
                }
                self.look(row);
                self.break_line();
            } else if plain && self.seen.version.is_none() && self.before.len() < MAX_BEFORE {
                match byte {
                    b'\n' => self.break_line(),
                    0x20..=0x7e => self.before.push(char::from(*byte)),
                    _ => {}
                }
            }
        }
    }

    /// What the console said, for people: up to the memory test line by line, and of that the screen as it stands.
    pub fn transcript(&self) -> String {
        let mut text = self.before.trim_end().to_owned();
        if self.seen.version.is_some() {
            text.push_str("\n\n");
            for row in 0..ROWS {
                text.push_str(self.screen.row(row).trim_end());
                text.push('\n');
            }
        }
        text
    }

    fn break_line(&mut self) {
        if self.seen.version.is_none() && !self.before.is_empty() && !self.before.ends_with('\n') {
            self.before.push('\n');
        }
    }

    /// What is known. What is being drawn at this moment is not: half of it may be old.
    pub fn evidence(&self) -> &MemtestEvidence {
        &self.seen
    }

    /// Looks at the screen, of which `drawn` is the row that was drawn last.
    fn look(&mut self, drawn: usize) {
        let (rows, seen) = (&self.screen, &mut self.seen);
        let first = rows.row(0);
        if let Some(at) = first.find("Memtest86+") {
            let title = first.get(at..).unwrap_or_default();
            seen.version = title.split('|').next().map(|title| clean_to(title, 40));
        }
        if seen.version.is_none() {
            return;
        }
        if let Some(percent) =
            after(&rows.row(1), "Pass").and_then(|word| word.trim_end_matches('%').parse().ok())
        {
            seen.percent = percent;
        }
        seen.memory = after(&rows.row(5), "Memory  :").or_else(|| seen.memory.take());
        let (eighth, ninth) = (rows.row(7), rows.row(8));
        seen.status = after(&eighth, "Status:").or_else(|| seen.status.take());
        if let Some(time) = after(&eighth, "Time:").filter(|time| drawn == 7 && seconds(time).is_some()) {
            let (now, before) = (seconds(&time), seen.time.as_deref().and_then(seconds));
            if let (true, Some(now), Some(before)) = (self.titled, now, before)
                && now + RESTARTED_S < before
            {
                seen.restarts += 1;
                seen.passes = 0;
            }
            self.titled = false;
            seen.time = Some(time);
        }
        // Neither ever goes down; a number that is being drawn may be cut short.
        let number =
            |label: &str| after(&ninth, label).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        seen.passes = seen.passes.max(number("Pass:"));
        seen.errors = seen.errors.max(number("Errors:"));
        for row in TABLE {
            if let Some(fault) = fault(&rows.row(row))
                && seen.faults.len() < MAX_FAULTS
                && !seen.faults.iter().any(|known| known.address == fault.address)
            {
                seen.faults.push(fault);
            }
        }
    }
}

/// The word after a label.
fn after(row: &str, label: &str) -> Option<String> {
    let (_, rest) = row.split_once(label)?;
    rest.split_whitespace().next().filter(|word| *word != "|").map(|word| clean_to(word, 40))
}

/// `1:02:03` in seconds.
fn seconds(time: &str) -> Option<u64> {
    let mut total = 0;
    let mut parts = 0;
    for part in time.split(':') {
        total = part.parse::<u64>().ok()?.checked_add(60_u64.checked_mul(total)?)?;
        parts += 1;
    }
    (parts == 3).then_some(total)
}

/// `0  0  5  000001500000 (21MB)  4b938f20601d5f3a  4b938f20701d5f3a`: processor, pass, test, address, expected, found.
fn fault(row: &str) -> Option<MemtestFault> {
    let words: Vec<&str> = row.split_whitespace().filter(|word| !word.starts_with('(')).collect();
    let [_, pass, test, address, expected, found] = words.as_slice() else { return None };
    let hex =
        |word: &str, digits| (word.len() == digits).then(|| u64::from_str_radix(word, 16).ok()).flatten();
    Some(MemtestFault {
        pass: pass.parse().ok()?,
        test: test.parse().ok()?,
        address: hex(address, 12)?,
        expected: hex(expected, 16)?,
        found: hex(found, 16)?,
    })
}

#[cfg(test)]
#[path = "memtest/tests.rs"]
mod tests;
