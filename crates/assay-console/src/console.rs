//! The reader of a serial port: puts the parts together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::armed::Shown;
use crate::clean::{Cleaner, Event, Finished};
use crate::judge::{Judge, Passage, sighting};
use crate::ladder::Rung;
use crate::line::{Line, Source};
use crate::marker::Marker;
use crate::prompt::{self, DIALOG_LINES, PromptKind, QUESTION_LINES};
use crate::quiet::Quiet;
use crate::sighting::{Sighting, What};
use crate::transcript::Transcript;
use crate::watch::Watch;

/// Bytes that are cleaned before their lines are looked at; bounds what is held in between.
const PIECE: usize = 16 << 10;

/// How many characters a line that goes on over several rows is joined to at most.
const MAX_JOINED: usize = 1024;

/// The reader of a serial port. See the crate for what it does.
///
/// ```
/// use std::time::Duration;
/// use assay_console::{Console, Marker, Watch, What};
///
/// let markers = vec![Marker::new("installed", r"Installation complete on (?P<disk>\S+)\.")?];
/// let mut console = Console::new(Watch { markers, ..Watch::default() });
/// let at = Duration::from_secs(42);
/// assert!(console.push(at, b"Instal[   12.345678] usb 1-1: new device\r\nlation comp").iter()
///     .all(|sighting| !matches!(sighting.what, What::Marker { .. })));
/// let sightings = console.push(at, b"lete on vda. Rebooting");
/// assert_eq!(sightings[0].text, "Installation complete on vda. Rebooting");
/// # Ok::<(), assay_console::MarkerError>(())
/// ```
pub struct Console {
    cleaner: Cleaner,
    judge: Judge,
    quiet: Quiet,
    transcript: Transcript,
    wrap_columns: Option<usize>,
    now: Duration,
    /// What the programs' unfinished line has shown.
    shown: Shown,
    /// The previous lines of a line that may go on.
    wrapped: Option<String>,
    events: Vec<Event>,
}

impl Console {
    /// A console of a machine that has just been started.
    pub fn new(watch: Watch) -> Self {
        Self {
            cleaner: Cleaner::default(),
            quiet: Quiet::new(&watch),
            transcript: Transcript::new(watch.transcript_bytes),
            wrap_columns: watch.wrap_columns.filter(|&columns| columns > 0),
            judge: Judge::new(watch.markers),
            now: Duration::ZERO,
            shown: Shown::default(),
            wrapped: None,
            events: Vec::new(),
        }
    }

    /// Takes bytes that came at the time `at`, and returns what they show, in order. What was due before `at` comes
    /// first. Times do not go back: an earlier one counts as the latest so far.
    pub fn push(&mut self, at: Duration, bytes: &[u8]) -> Vec<Sighting> {
        let mut out = self.tick(at);
        if bytes.is_empty() {
            return out;
        }
        let before = (self.cleaner.open().number, self.cleaner.open().cells().len());
        let mut programs = false;
        for piece in bytes.chunks(PIECE) {
            self.cleaner.feed(piece, &mut self.events);
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                programs |= self.event(event, &mut out);
            }
            self.events = events;
        }
        let open = self.cleaner.open();
        programs |= !open.is_empty() && (open.number, open.cells().len()) != before;
        if !open.is_empty() && !open.is_edited() {
            self.judge.open(open, self.now, Source::Serial, &mut self.shown, &mut out);
        }
        self.quiet.output(self.now, programs);
        out
    }

    /// Notices what time alone shows. To be called at [`Console::deadline`]; earlier or later calls do no harm.
    pub fn tick(&mut self, at: Duration) -> Vec<Sighting> {
        self.now = self.now.max(at);
        let due = self.quiet.due(self.now);
        let mut out = Vec::new();
        if due.settle {
            self.settle(&mut out);
        }
        if due.prompt {
            self.look_for_prompt(&mut out);
        }
        if let Some(since) = due.silent {
            let text = self.open_text();
            out.push(sighting(self.text_of_open(&text), What::Silent { since }));
        }
        out
    }

    /// The time at which [`Console::tick`] will have something to do if nothing comes until then. `None`: only output
    /// can change anything.
    pub fn deadline(&self) -> Option<Duration> {
        self.quiet.deadline()
    }

    /// Adds markers, from the line that is now unfinished on. One with the name of another takes its place.
    pub fn arm(&mut self, markers: impl IntoIterator<Item = Marker>) {
        self.judge.arm(markers);
    }

    /// Adds markers, and looks for them in the lines that began after line `after` and have ended already, as far as they are
    /// kept ([`TAIL`](crate::TAIL) lines). With the line of the sighting that led to the next phase, nothing is missed
    /// that came in the same chunk.
    pub fn arm_since(&mut self, markers: impl IntoIterator<Item = Marker>, after: u64) -> Vec<Sighting> {
        self.judge.arm_and_look(markers, self.transcript.lines().filter(|line| line.number > after))
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

    /// The machine was reset: what comes belongs to its next boot. Firmware that speaks on this console says so
    /// itself; this is for one that does not.
    pub fn restarted(&mut self) {
        self.judge.restarted();
    }

    /// How often each failure of the catalogue was seen, also beyond those reported one by one.
    pub fn failures(&self) -> &BTreeMap<&'static str, u64> {
        self.judge.counts()
    }

    /// The finished lines since the last call.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.transcript.take()
    }

    /// How many lines were dropped because they were not taken in time.
    pub fn lines_dropped(&self) -> u64 {
        self.transcript.dropped()
    }

    /// The last `n` lines, at most [`TAIL`](crate::TAIL), the unfinished one included.
    pub fn tail(&self, n: usize) -> Vec<Line> {
        let open = self.open_text();
        let open = (!open.trim().is_empty()).then(|| Line {
            number: self.cleaner.open().number,
            at: self.now,
            text: open.trim_end().to_owned(),
            source: Source::Serial,
            cut: false,
        });
        let finished = n.saturating_sub(usize::from(open.is_some()));
        let mut lines: Vec<Line> = self.transcript.lines().rev().take(finished).cloned().collect();
        lines.reverse();
        lines.extend(open.filter(|_| n > 0));
        lines
    }

    /// The unfinished line as it is, such as a prompt; empty if the last line ended.
    pub fn open_text(&self) -> String {
        self.cleaner.open_text()
    }

    /// Looks at one event; whether programs wrote it.
    fn event(&mut self, event: Event, out: &mut Vec<Sighting>) -> bool {
        let at = self.now;
        let programs =
            |number, text| Passage { at, number, source: Source::Serial, is_kernel: false, message: 0, text };
        match event {
            Event::Version { number, text } => {
                self.judge.complete(programs(number, &text), &mut self.shown, out);
                true
            }
            // What the message shows comes after what stood there before it.
            Event::Interrupted { number, text } => {
                self.judge.prompts(programs(number, &text), &mut self.shown, out);
                false
            }
            Event::Line(line) => {
                let programs = line.source != Source::Kernel;
                self.line(line, out);
                programs
            }
        }
    }

    fn line(&mut self, line: Finished, out: &mut Vec<Sighting>) {
        let is_kernel = line.source == Source::Kernel;
        let text = Passage {
            at: self.now,
            number: line.number,
            source: line.source,
            is_kernel,
            message: line.message,
            text: &line.text,
        };
        if is_kernel {
            self.judge.complete(text, &mut Shown::default(), out);
        } else {
            self.judge.complete(text, &mut self.shown, out);
            // What went on after a kernel message may be a line of its own: a prompt stood before it.
            let ends = line.splits.iter().skip(1).copied().chain([line.text.len()]);
            for (&start, end) in line.splits.iter().zip(ends) {
                self.judge.markers(text, line.text[start..end].trim_end(), &mut self.shown, out);
            }
            self.join(&line, out);
            self.shown.clear();
        }
        let mut text = line.text;
        text.truncate(text.trim_end().len());
        let Finished { number, source, cut, .. } = line;
        self.transcript.push(Line { number, at: self.now, text, source, cut });
    }

    /// Looks for markers that a wrapped line cuts in two.
    fn join(&mut self, line: &Finished, out: &mut Vec<Sighting>) {
        let is_full = line.fed && !line.cut && Some(line.columns) == self.wrap_columns;
        let Some(mut joined) = self.wrapped.take() else {
            self.wrapped = is_full.then(|| line.text.clone());
            return;
        };
        let joint = joined.len();
        joined.push_str(&line.text);
        let text = Passage {
            at: self.now,
            number: line.number,
            source: Source::Serial,
            is_kernel: false,
            message: 0,
            text: &joined,
        };
        self.judge.wrapped(text, joint, &mut self.shown, out);
        if is_full {
            self.wrapped = Some(if joined.len() < MAX_JOINED { joined } else { line.text.clone() });
        }
    }

    /// The unfinished line did not change for a while, so it counts as it is.
    fn settle(&mut self, out: &mut Vec<Sighting>) {
        let open = self.open_text();
        if open.trim().is_empty() {
            return;
        }
        let text = Passage {
            at: self.now,
            number: self.cleaner.open().number,
            source: Source::Serial,
            is_kernel: false,
            message: 0,
            text: &open,
        };
        self.judge.settled(text, &mut self.shown, out);
        // A prompt after a kernel message that came into an older prompt.
        if let Some(&split) = self.cleaner.open().splits().last() {
            let part: String = open.chars().skip(split).collect();
            self.judge.markers(text, &part, &mut self.shown, out);
        }
        if let Some(joined) = self.wrapped.as_ref() {
            let joint = joined.len();
            let joined = format!("{joined}{open}");
            self.judge.wrapped(Passage { text: &joined, ..text }, joint, &mut self.shown, out);
        }
    }

    fn look_for_prompt(&self, out: &mut Vec<Sighting>) {
        let open = self.open_text();
        // After a kernel message, what stood before it is another line.
        let split = self.cleaner.open().splits().last().copied().unwrap_or(0);
        let part: String = open.chars().skip(split).collect();
        let last: Vec<&str> = self
            .transcript
            .lines()
            .rev()
            .filter(|line| line.source != Source::Kernel && !prompt::is_status(&line.text))
            .take(QUESTION_LINES)
            .map(|line| line.text.as_str())
            .collect();
        let part = if part.trim().is_empty() { &open } else { &part };
        let near = &last[..last.len().min(DIALOG_LINES)];
        let found = prompt::waits_for(part, near).or_else(|| prompt::waits_for(&open, near));
        if let Some((kind, prompt)) = found {
            let asks = prompt::question(prompt, &last);
            let what = waiting(kind, asks.as_deref().unwrap_or(prompt));
            out.push(sighting(self.text_of_open(&open), what));
        }
    }

    fn text_of_open<'a>(&self, open: &'a str) -> Passage<'a> {
        let last = self.transcript.lines().next_back().map_or(0, |line| line.number);
        let open_number = self.cleaner.open().number;
        Passage {
            at: self.now,
            number: if open_number > 0 { open_number } else { last },
            source: Source::Serial,
            is_kernel: false,
            message: 0,
            text: open,
        }
    }
}

/// The sighting of a machine that waits.
pub(crate) fn waiting(kind: PromptKind, prompt: &str) -> What {
    let prompt = prompt.to_owned();
    match kind {
        PromptKind::Login => What::IdleLogin { prompt },
        kind if kind.is_shell() => What::IdleShell { prompt, prompt_kind: kind },
        kind => What::StuckPrompt { prompt, prompt_kind: kind },
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
