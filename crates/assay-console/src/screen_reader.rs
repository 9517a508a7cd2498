//! The reader of a screen: successive pictures of it in, sightings out.
//!
//! A screen has no stream. What is new is found by comparing it with the one before: lines that moved up are the same
//! lines, a line that grew is the same line, and what stands still is not seen again. If more scrolled by than a
//! screen holds, those lines are lost; how often the screen is read is the caller's choice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::armed::Shown;
use crate::console::waiting;
use crate::dialog::{self, Windows};
use crate::judge::{Judge, Passage, sighting};
use crate::ladder::Rung;
use crate::line::{Line, Source};
use crate::marker::Marker;
use crate::printk;
use crate::prompt::{self, PromptKind};
use crate::quiet::Quiet;
use crate::row::{MAX_LINE, Row};
use crate::screen::Screen;
use crate::sighting::{Sighting, What};
use crate::transcript::Transcript;
use crate::watch::Watch;

/// So many characters in common at the start make a changed line the same line: a counter, a progress bar.
const SAME_START: usize = 8;

/// The reader of a screen. It watches as [`Console`](crate::Console) does, for the same things.
pub struct ScreenReader {
    judge: Judge,
    quiet: Quiet,
    transcript: Transcript,
    now: Duration,
    lines: Vec<Standing>,
    numbers: u64,
}

/// A line that stands on the screen.
#[derive(Default)]
struct Standing {
    number: u64,
    text: String,
    shown: Shown,
    /// It has gone into the transcript with this text.
    kept: bool,
}

impl ScreenReader {
    /// A screen of a machine that has just been started.
    pub fn new(watch: Watch) -> Self {
        Self {
            quiet: Quiet::new(&watch),
            transcript: Transcript::new(watch.transcript_bytes),
            judge: Judge::new(watch.markers),
            now: Duration::ZERO,
            lines: Vec::new(),
            numbers: 0,
        }
    }

    /// Takes the screen as it was at the time `at`, and returns what is new on it.
    pub fn push(&mut self, at: Duration, screen: &Screen) -> Vec<Sighting> {
        let mut out = self.tick(at);
        let texts = without_cursor(screen.lines());
        if texts.len() == self.lines.len()
            && texts.iter().zip(&self.lines).all(|(text, line)| *text == line.text)
        {
            return out;
        }
        let before = std::mem::take(&mut self.lines);
        let mut after = align(before, &texts, screen.columns(), |line| self.keep(line));
        let last = after.len().saturating_sub(1);
        let mut programs = false;
        for (index, line) in after.iter_mut().enumerate() {
            if line.number == 0 && !line.text.trim().is_empty() {
                self.numbers += 1;
                line.number = self.numbers;
            }
            if line.kept || line.text.trim().is_empty() {
                continue;
            }
            programs |= printk::message_offset(&line.text).is_none();
            if index == last {
                self.look_at_open(line, &mut out);
            } else {
                self.look_at(line, &mut out);
                self.keep(line);
            }
        }
        self.lines = after;
        self.quiet.output(self.now, programs);
        out
    }

    /// Notices what time alone shows. To be called at [`ScreenReader::deadline`].
    pub fn tick(&mut self, at: Duration) -> Vec<Sighting> {
        self.now = self.now.max(at);
        let due = self.quiet.due(self.now);
        let mut out = Vec::new();
        if due.settle
            && let Some(mut line) = self.lines.pop()
        {
            if !line.kept {
                self.look_at_settled(&mut line, &mut out);
            }
            self.lines.push(line);
        }
        if due.prompt {
            self.look_for_prompt(&mut out);
        }
        if let Some(since) = due.silent {
            let text = self.lines.last().map_or("", |line| line.text.as_str());
            let number = self.lines.last().map_or(0, |line| line.number);
            out.push(sighting(self.text(text, number), What::Silent { since }));
        }
        out
    }

    /// The time at which [`ScreenReader::tick`] will have something to do if the screen does not change.
    pub fn deadline(&self) -> Option<Duration> {
        self.quiet.deadline()
    }

    /// Adds markers, for lines that change from now on. One with the name of another takes its place.
    pub fn arm(&mut self, markers: impl IntoIterator<Item = Marker>) {
        self.judge.arm(markers);
    }

    /// Removes a marker; whether there was one of that name.
    pub fn disarm(&mut self, name: &str) -> bool {
        self.judge.disarm(name)
    }

    /// Removes all markers.
    pub fn disarm_all(&mut self) {
        self.judge.disarm_all();
    }

    /// How far the machine is; `None` before the first evidence of a boot.
    pub fn rung(&self) -> Option<Rung> {
        self.judge.rung()
    }

    /// Which boot it is, from 1.
    pub fn boot(&self) -> u32 {
        self.judge.boot()
    }

    /// The machine was reset: what comes belongs to its next boot.
    pub fn restarted(&mut self) {
        self.judge.restarted();
    }

    /// How often each failure of the catalogue was seen.
    pub fn failures(&self) -> &BTreeMap<&'static str, u64> {
        self.judge.counts()
    }

    /// The lines since the last call: those that others followed, and those that left the screen.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.transcript.take()
    }

    /// How many lines were dropped because they were not taken in time.
    pub fn lines_dropped(&self) -> u64 {
        self.transcript.dropped()
    }

    /// The lines that stand on the screen now, the last `n` of them.
    pub fn tail(&self, n: usize) -> Vec<Line> {
        let standing = self.lines.iter().filter(|line| !line.text.trim().is_empty());
        let mut lines: Vec<Line> = standing.rev().take(n).map(|line| self.line_of(line)).collect();
        lines.reverse();
        lines
    }

    fn line_of(&self, line: &Standing) -> Line {
        Line {
            number: line.number,
            at: self.now,
            text: line.text.trim_end().to_owned(),
            source: Source::Screen,
            cut: false,
        }
    }

    fn keep(&mut self, line: &mut Standing) {
        if !line.kept && line.number > 0 {
            line.kept = true;
            let line = self.line_of(line);
            self.transcript.push(line);
        }
    }

    fn text<'a>(&self, text: &'a str, number: u64) -> Passage<'a> {
        let message = printk::message_offset(text);
        Passage {
            at: self.now,
            number,
            source: Source::Screen,
            is_kernel: message.is_some(),
            message: message.unwrap_or(0),
            text,
        }
    }

    fn look_at(&mut self, line: &mut Standing, out: &mut Vec<Sighting>) {
        let text = self.text(&line.text, line.number);
        self.judge.complete(text, &mut line.shown, out);
    }

    /// The last line may still be written.
    fn look_at_open(&mut self, line: &mut Standing, out: &mut Vec<Sighting>) {
        let text = self.text(&line.text, line.number);
        if text.is_kernel {
            // The kernel writes whole lines.
            self.judge.complete(text, &mut line.shown, out);
            return;
        }
        let mut row = Row::default();
        // A number of its own for each text: the row is not the last one with something appended.
        self.numbers += 1;
        row.number = self.numbers;
        line.text.chars().take(MAX_LINE).for_each(|c| row.put(c));
        let from = out.len();
        self.judge.open(&row, self.now, Source::Screen, &mut line.shown, out);
        out[from..].iter_mut().for_each(|sighting| sighting.line = line.number);
    }

    fn look_at_settled(&mut self, line: &mut Standing, out: &mut Vec<Sighting>) {
        let text = self.text(&line.text, line.number);
        self.judge.settled(text, &mut line.shown, out);
        // It stood still, so failures count as well: a panic's last line has nothing after it.
        self.judge.builtins_of(text, &mut line.shown, out);
    }

    fn look_for_prompt(&self, out: &mut Vec<Sighting>) {
        let Some((open, above)) = self.lines.split_last() else { return };
        let above: Vec<&str> = above.iter().rev().map(|line| line.text.as_str()).collect();
        // A dialog's buttons and help line may stand anywhere in the lower part.
        let Some((kind, prompt)) = prompt::waits_for(&open.text, &above) else { return };
        let mut what = waiting(kind, prompt);
        if kind == PromptKind::Dialog {
            let rows: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
            match dialog::windows(&rows) {
                Windows::Asks(asks) => what = waiting(kind, &asks),
                // Installers leave the line that explains the keys standing while they work.
                Windows::Silent if prompt::explains_keys(prompt) => return,
                Windows::Silent | Windows::None => {}
            }
        }
        out.push(sighting(self.text(&open.text, open.number), what));
    }
}

/// A framebuffer console's cursor is a cell that cannot be read, and it blinks: where it is the only such cell, it is left out.
/// Else a prompt would never stand still.
fn without_cursor(mut lines: Vec<String>) -> Vec<String> {
    const UNREADABLE: char = char::REPLACEMENT_CHARACTER;
    let mut cells = lines.iter_mut().filter(|line| line.contains(UNREADABLE));
    let (Some(line), None) = (cells.next(), cells.next()) else { return lines };
    if line.matches(UNREADABLE).count() == 1 {
        *line = line.replace(UNREADABLE, " ");
        line.truncate(line.trim_end().len());
    }
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

/// Finds the lines of the screen before in the one after; those that are gone are handed to `gone`.
fn align(
    before: Vec<Standing>,
    texts: &[String],
    columns: usize,
    mut gone: impl FnMut(&mut Standing),
) -> Vec<Standing> {
    let mut before: Vec<Option<Standing>> = before.into_iter().map(Some).collect();
    let scrolled = scrolled_by(&before, texts, columns);
    let mut after: Vec<Standing> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let line = if let Some(by) = scrolled {
            before.get_mut(index + by).and_then(Option::take)
        } else {
            // Not simply scrolled: the same text anywhere is the same line, then a similar one in the same place.
            let is = |line: &Option<Standing>, same: fn(&str, &str) -> bool| {
                line.as_ref().is_some_and(|line| same(&line.text, text))
            };
            let at = before.iter().position(|line| is(line, |old, new| old == new));
            let in_place = before.get(index).is_some_and(|line| is(line, similar)).then_some(index);
            at.or(in_place).and_then(|at| before[at].take())
        };
        let mut line = line.unwrap_or_default();
        if line.text != *text {
            // The first line may have lost its first rows; it is then no other text.
            let is_rest = index == 0 && line.kept && is_rest(&line.text, text, columns);
            line.text.clone_from(text);
            line.kept = is_rest;
        }
        after.push(line);
    }
    before.iter_mut().flatten().for_each(&mut gone);
    after
}

/// By how many lines the screen moved up; `None` if what changed is something else.
fn scrolled_by(before: &[Option<Standing>], texts: &[String], columns: usize) -> Option<usize> {
    let before: Vec<&str> = before.iter().flatten().map(|line| line.text.as_str()).collect();
    (0..before.len()).find(|&by| {
        let rest = &before[by..];
        let last = rest.len() - 1;
        rest.len() <= texts.len()
            && rest.iter().any(|line| !line.trim().is_empty())
            && rest.iter().zip(texts).enumerate().all(|(index, (old, new))| {
                old == new
                    || (index == last && (!old.is_empty() && new.starts_with(old)))
                    || (index == 0 && is_rest(old, new, columns))
            })
    })
}

/// What is left of a line of several rows after the first of them scrolled away.
fn is_rest(old: &str, new: &str, columns: usize) -> bool {
    let rows_less = old.chars().count().saturating_sub(new.chars().count());
    rows_less > 0 && columns > 0 && rows_less.is_multiple_of(columns) && !new.is_empty() && old.ends_with(new)
}

fn similar(old: &str, new: &str) -> bool {
    if old.trim().is_empty() || new.trim().is_empty() {
        return false;
    }
    let common = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    common >= SAME_START || common == old.chars().count().min(new.chars().count())
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
