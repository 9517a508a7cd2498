//! A supervised child: talks in lines, is stopped as a group, and never outlives its handle.

use std::{process::ExitStatus, time::Duration};

use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{ProcessError, cmd::DRAIN, group::Group};

/// Longer lines arrive in pieces of this size.
const MAX_LINE: usize = 8 * 1024;
/// Lines held for a reader that is slower than the child; then the child has to wait.
const LINES_HELD: usize = 1024;

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output without its line end; invalid UTF-8 is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written to.
    pub stream: Stream,
    /// The text; at most 8 KiB, longer lines come in several pieces.
    pub text: String,
}

/// A running child and its process group. Dropping it kills the group.
///
/// Its lines have to be read ([`Child::next_line`] or [`Child::take_lines`]) or their receiver dropped: a child
/// whose lines nobody takes is held up once 1024 of them wait. [`Child::wait`] drops lines that nobody took.
#[derive(Debug)]
pub struct Child {
    program: String,
    group: Group,
    lines: Option<mpsc::Receiver<Line>>,
    ended: watch::Sender<bool>,
    _writer: JoinSet<()>,
}

impl Child {
    pub(crate) fn new(program: String, mut group: Group, writer: JoinSet<()>) -> Self {
        let (sender, lines) = mpsc::channel(LINES_HELD);
        let (ended, _) = watch::channel(false);
        if let Some(pipe) = group.child().stdout().take() {
            tokio::spawn(pump(pipe, Stream::Stdout, sender.clone(), ended.subscribe()));
        }
        if let Some(pipe) = group.child().stderr().take() {
            tokio::spawn(pump(pipe, Stream::Stderr, sender, ended.subscribe()));
        }
        Self { program, group, lines: Some(lines), ended, _writer: writer }
    }

    /// The process id of the leader, which is also the id of the group.
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// How it ended, once [`Child::wait`] or [`Child::stop`] has seen the end.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.group.ended()
    }

    /// The next line; `None` when both streams are closed or the lines were taken. Safe to cancel.
    pub async fn next_line(&mut self) -> Option<Line> {
        self.lines.as_mut()?.recv().await
    }

    /// The receiver of all lines, to read them elsewhere; `None` the second time.
    pub fn take_lines(&mut self) -> Option<mpsc::Receiver<Line>> {
        self.lines.take()
    }

    /// Signals the leader alone (SIGHUP to re-read a configuration). Nothing happens once it has ended.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when the operating system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let failed =
            |source| ProcessError::Io { program: self.program.clone(), doing: "signalling it", source };
        self.group.signal_leader(signal).map_err(failed)
    }

    /// Waits for the leader to end, then kills what it left in its group. Safe to cancel and call again.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when waiting is impossible.
    pub async fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        self.lines = None;
        self.wait_beside_lines().await
    }

    /// As [`Child::wait`], but keeps the lines that nobody has read yet: for a `select!` of both.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when waiting is impossible.
    pub async fn wait_beside_lines(&mut self) -> Result<ExitStatus, ProcessError> {
        let waited = self.group.wait().await;
        self.finish("waiting for it", waited)
    }

    /// SIGTERM to the group, SIGKILL to what is left of it after `grace`.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when signalling or waiting is impossible.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        let stopped = self.group.stop(grace).await;
        self.finish("stopping it", stopped)
    }

    fn finish(
        &self,
        doing: &'static str,
        result: std::io::Result<ExitStatus>,
    ) -> Result<ExitStatus, ProcessError> {
        let status =
            result.map_err(|source| ProcessError::Io { program: self.program.clone(), doing, source })?;
        self.ended.send_replace(true);
        Ok(status)
    }
}

/// Turns a pipe into lines until it is closed, or until the child has ended and the pipe stays silent (then a
/// process that left the group holds it). A receiver that is gone does not stop the draining.
async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    stream: Stream,
    lines: mpsc::Sender<Line>,
    mut ended: watch::Receiver<bool>,
) {
    let give_up = async move {
        // An error means that the child's handle is gone, which is also an end.
        let _ = ended.wait_for(|ended| *ended).await;
        sleep(DRAIN).await;
    };
    tokio::pin!(give_up);
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            biased; // What is there to read goes before giving up, however slow the reader of the lines is.
            read = pipe.read(&mut buffer) => read.unwrap_or(0),
            () = &mut give_up => 0,
        };
        if count == 0 {
            break;
        }
        for text in splitter.push(&buffer[..count]) {
            let _ = lines.send(Line { stream, text }).await;
        }
    }
    if let Some(text) = splitter.rest() {
        let _ = lines.send(Line { stream, text }).await;
    }
}

#[derive(Default)]
struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let mut texts = Vec::new();
        let mut from = 0;
        loop {
            let window = &self.pending[from..];
            let reach = &window[..window.len().min(MAX_LINE + 1)];
            if let Some(end) = reach.iter().position(|byte| *byte == b'\n') {
                texts.push(text_of(&window[..end]));
                from += end + 1;
            } else if window.len() > MAX_LINE {
                let cut = char_boundary(&window[..MAX_LINE]);
                texts.push(text_of(&window[..cut]));
                from += cut;
            } else {
                break;
            }
        }
        self.pending.drain(..from);
        texts
    }

    fn rest(self) -> Option<String> {
        (!self.pending.is_empty()).then(|| text_of(&self.pending))
    }
}

/// Where to cut `bytes` so that no character is torn: at most three bytes before the end.
fn char_boundary(bytes: &[u8]) -> usize {
    let starts_char = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    let last_start = (bytes.len().saturating_sub(4)..bytes.len()).rev().find(starts_char);
    match last_start {
        Some(start) if start > 0 && std::str::from_utf8(&bytes[start..]).is_err() => start,
        _ => bytes.len(),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE, Splitter};

    #[test]
    fn lines_come_whole_however_the_pipe_cuts_them() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"on"), Vec::<String>::new());
        assert_eq!(splitter.push(b"e\r\ntwo\n\nth"), ["one", "two", ""]);
        assert_eq!(splitter.push(b"\xff"), Vec::<String>::new());
        assert_eq!(splitter.rest().as_deref(), Some("th\u{fffd}"));
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_nothing_is_lost() {
        let long = format!("x{}", "é".repeat(MAX_LINE));
        let mut splitter = Splitter::default();
        let mut pieces = splitter.push(long.as_bytes());
        pieces.extend(splitter.rest());
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= MAX_LINE));
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_line() {
        let mut splitter = Splitter::default();
        let line = "x".repeat(MAX_LINE);
        assert_eq!(splitter.push(format!("{line}\n").as_bytes()), [line]);
    }
}
