//! One terminal session: two streams between an operator and an agent, and what is written down of them.
//!
//! No clock, no network: time is given, and what may happen is decided here. Bytes are recorded before they are
//! passed on; a session whose transcript cannot be written ends.

use std::time::Duration;

use assay_api::shell::{MAX_BYTES, ShellEnd, ShellExit, TermSize};
use assay_model::Micros;
use tokio::time::Instant;

use super::cast::{Cast, Way};

/// Nothing was typed, and nothing shown to an operator's command, for so long: nobody is there.
const IDLE: Duration = Duration::from_mins(15);
/// The operator's program asks at least twice a minute.
const OPERATOR_GONE: Duration = Duration::from_mins(1);
/// An agent that lives takes a session at once.
const NOT_TAKEN: Duration = Duration::from_mins(1);
/// What waits for the operator at most; then the shell has to wait.
const OUTPUT_ROOM: usize = 1 << 20;
/// What waits for the agent at most.
const INPUT_ROOM: usize = 128 << 10;

/// The time, on the wall and since some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    /// For the transcript.
    pub(crate) clock: Micros,
    /// For waiting.
    pub(crate) mono: Instant,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// The session is over, or is somebody else's.
    Over(String),
    /// What was said cannot be.
    Invalid(String),
}

/// A session as it stands.
#[derive(Debug)]
pub(crate) struct State {
    typed: Stream,
    shown: Stream,
    size: TermSize,
    /// Whether it runs one command: then nobody types.
    is_command: bool,
    /// The process of the agent that has it.
    worker: Option<String>,
    /// How many questions of the agent for input are open.
    asking: u32,
    opened: Instant,
    operator_seen: Instant,
    active: Instant,
    cast: Cast,
    over: Option<ShellExit>,
    why: String,
    /// Set when everything was put away; whether the transcript could be.
    stored: Option<bool>,
    /// The operator has heard the end.
    told: bool,
}

impl State {
    pub(crate) fn new(now: When, size: TermSize, is_command: bool, cast: Cast) -> Self {
        Self {
            typed: Stream::default(),
            shown: Stream::default(),
            size,
            is_command,
            worker: None,
            asking: 0,
            opened: now.mono,
            operator_seen: now.mono,
            active: now.mono,
            cast,
            over: None,
            why: String::new(),
            stored: None,
            told: false,
        }
    }

    /// Whether it has ended.
    pub(crate) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Why it has ended.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// What the shell ended with.
    pub(crate) fn status(&self) -> Option<u8> {
        self.over.as_ref().and_then(|exit| exit.status)
    }

    /// Whether the agent is to be told of it at once: it has not taken it, or it is not heard asking for input.
    pub(crate) const fn is_news(&self) -> bool {
        self.over.is_none() && (self.worker.is_none() || self.asking == 0)
    }

    /// A process of the agent takes the session. Another one never gets it: the shell ended with the first.
    pub(crate) fn attach(&mut self, now: When, worker: &str) -> Result<TermSize, No> {
        self.open()?;
        match &self.worker {
            None => self.worker = Some(worker.to_owned()),
            Some(known) if known == worker => {}
            Some(_) => {
                self.end(now, "the agent was started anew, and the shell ended with the one before it");
                return Err(self.ended());
            }
        }
        Ok(self.size)
    }

    /// The operator types, or their terminal has a new size. Returns how far the bytes were taken.
    pub(crate) fn type_in(
        &mut self,
        now: When,
        at: u64,
        data: &[u8],
        size: Option<TermSize>,
    ) -> Result<u64, No> {
        self.open()?;
        self.operator_seen = now.mono;
        if let Some(size) = size.filter(|size| *size != self.size) {
            check_size(size)?;
            let written = self.cast.resized(now.clock, size);
            self.recorded(now, written)?;
            self.size = size;
        }
        if self.is_command && !data.is_empty() {
            return Err(No::Invalid("this session runs a command, which reads no input".to_owned()));
        }
        let fresh = self.typed.fresh(at, data, INPUT_ROOM)?;
        if !fresh.is_empty() {
            self.active = now.mono;
            let written = self.cast.bytes(now.clock, Way::Typed, fresh);
            self.recorded(now, written)?;
            self.typed.push(fresh);
        }
        Ok(self.typed.end())
    }

    /// The machine shows something, or its shell has ended. Returns how far the bytes were taken.
    pub(crate) fn show(
        &mut self,
        now: When,
        worker: &str,
        at: u64,
        data: &[u8],
        exit: Option<ShellExit>,
    ) -> Result<u64, No> {
        self.open()?;
        self.check_worker(worker)?;
        let fresh = self.shown.fresh(at, data, OUTPUT_ROOM)?;
        if !fresh.is_empty() {
            if self.is_command {
                self.active = now.mono;
            }
            let written = self.cast.bytes(now.clock, Way::Shown, fresh);
            self.recorded(now, written)?;
            self.shown.push(fresh);
        }
        let taken = self.shown.end();
        if let Some(exit) = exit.filter(|_| taken == at + data.len() as u64) {
            let why = match (&exit.problem, exit.status) {
                (Some(problem), _) => format!("there was no shell: {}", assay_model::text::clean(problem)),
                (None, Some(status)) => format!("it ended with {status}"),
                (None, None) => "it ended".to_owned(),
            };
            self.end_with(now, &why, exit);
        }
        Ok(taken)
    }

    /// Whether there is room for more output.
    pub(crate) fn has_room(&self) -> bool {
        self.shown.bytes.len() < OUTPUT_ROOM
    }

    /// The agent begins, or ends, to wait for input.
    pub(crate) fn agent_asks(&mut self, begins: bool) {
        self.asking = if begins { self.asking + 1 } else { self.asking.saturating_sub(1) };
    }

    /// Whether the agent, which knows this much, would learn something.
    pub(crate) fn has_input(&self, after: u64, size: TermSize) -> bool {
        self.over.is_some() || self.typed.end() > after || self.size != size
    }

    /// What was typed after this; what is before it has arrived.
    pub(crate) fn input(&mut self, worker: &str, after: u64) -> Result<(Vec<u8>, TermSize), No> {
        self.open()?;
        self.check_worker(worker)?;
        Ok((self.typed.after(after)?, self.size))
    }

    /// The operator's program asks.
    pub(crate) const fn operator_asks(&mut self, now: When) {
        self.operator_seen = now.mono;
    }

    /// Whether the operator, who has seen this much, would learn something.
    pub(crate) fn has_output(&self, after: u64) -> bool {
        self.shown.end() > after || self.stored.is_some()
    }

    /// What was shown after this; what is before it has arrived. With the last of it, the end.
    pub(crate) fn output(&mut self, after: u64) -> Result<(Vec<u8>, u64, Option<ShellEnd>), No> {
        let data = self.shown.after(after)?;
        let next = after + data.len() as u64;
        let is_last = next == self.shown.end();
        let ended = self.stored.filter(|_| is_last).map(|stored| ShellEnd {
            status: self.status(),
            why: self.why.clone(),
            stored,
        });
        self.told |= ended.is_some();
        Ok((data, next, ended))
    }

    /// Ends it, if it has not ended.
    pub(crate) fn end(&mut self, now: When, why: &str) {
        self.end_with(now, why, ShellExit { status: None, problem: None });
    }

    /// Everything is put away.
    pub(crate) const fn put_away(&mut self, stored: bool) {
        self.stored = Some(stored);
    }

    /// Whether the operator has heard the end.
    pub(crate) const fn is_told(&self) -> bool {
        self.told
    }

    /// Why nobody needs it any more, or when to ask again.
    pub(crate) fn neglected(&self, now: Instant) -> Result<&'static str, Instant> {
        let mut limits = vec![
            (self.active + IDLE, "nothing happened for 15 minutes"),
            (self.operator_seen + OPERATOR_GONE, "the operator's program has not asked for a minute"),
        ];
        if self.worker.is_none() {
            limits.push((self.opened + NOT_TAKEN, "the agent did not take it within a minute"));
        }
        let (at, why) = limits.into_iter().min_by_key(|(at, _)| *at).expect("there are two at least");
        if now >= at { Ok(why) } else { Err(at) }
    }

    fn end_with(&mut self, now: When, why: &str, exit: ShellExit) {
        if self.over.is_none() {
            // If even this cannot be written, the transcript lacks only its last line.
            let _ = self.cast.ended(now.clock, why);
            why.clone_into(&mut self.why);
            self.over = Some(exit);
        }
    }

    fn open(&self) -> Result<(), No> {
        if self.over.is_some() { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> No {
        No::Over(format!("the terminal session is over: {}", self.why))
    }

    fn check_worker(&self, worker: &str) -> Result<(), No> {
        if self.worker.as_deref() == Some(worker) {
            return Ok(());
        }
        Err(No::Over("this process of the agent does not have the session".to_owned()))
    }

    fn recorded(&mut self, now: When, written: std::io::Result<()>) -> Result<(), No> {
        let Err(problem) = written else { return Ok(()) };
        self.end(now, &format!("its transcript cannot be written: {problem}"));
        Err(self.ended())
    }
}

/// Refuses sizes that no terminal has.
pub(crate) fn check_size(size: TermSize) -> Result<(), No> {
    if (1..=2000).contains(&size.cols) && (1..=2000).contains(&size.rows) {
        return Ok(());
    }
    Err(No::Invalid("a terminal has 1 to 2000 columns and rows".to_owned()))
}

/// Bytes, counted from the first one ever, of which those that have arrived are no longer kept.
#[derive(Debug, Default)]
struct Stream {
    /// The place of the first byte that is kept.
    start: u64,
    bytes: Vec<u8>,
}

impl Stream {
    const fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What of `data` is new and has room.
    fn fresh<'a>(&self, at: u64, data: &'a [u8], room: usize) -> Result<&'a [u8], No> {
        let end = self.end();
        if data.len() > MAX_BYTES || at > end {
            return Err(No::Invalid(format!(
                "bytes from {at} on were sent where those from {end} on are due, at most {MAX_BYTES} at once"
            )));
        }
        let known = usize::try_from(end - at).unwrap_or(usize::MAX).min(data.len());
        let free = room.saturating_sub(self.bytes.len());
        Ok(&data[known..data.len().min(known.saturating_add(free))])
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes from a place on, which says that those before it have arrived.
    fn after(&mut self, after: u64) -> Result<Vec<u8>, No> {
        if after < self.start || after > self.end() {
            let (from, to) = (self.start, self.end());
            return Err(No::Invalid(format!("there are bytes from {from} to {to}, none from {after} on")));
        }
        self.bytes.drain(..(after - self.start) as usize);
        self.start = after;
        Ok(self.bytes[..self.bytes.len().min(MAX_BYTES)].to_vec())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
