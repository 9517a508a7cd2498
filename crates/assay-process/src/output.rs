//! What a finished command said, bounded.

use std::{
    borrow::Cow,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const TAIL_BYTES: usize = 2048;

/// A finished command: how it ended, what it wrote, how long it took.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output; only the first bytes where [`Output::stdout_truncated`].
    pub stdout: Vec<u8>,
    /// Standard error; only the last bytes where [`Output::stderr_truncated`].
    pub stderr: Vec<u8>,
    /// Whether more was written to standard output than the cap.
    pub stdout_truncated: bool,
    /// Whether more was written to standard error than the cap.
    pub stderr_truncated: bool,
    /// Wall time from start to end, by the monotonic clock.
    pub elapsed: Duration,
}

impl Output {
    /// Whether the exit code was 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text, invalid bytes replaced.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Standard error as text, invalid bytes replaced.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// The end of standard error, or of standard output where that is empty: what an error message quotes.
    pub fn last_words(&self) -> String {
        let said = tail(&self.stderr);
        if said.is_empty() { tail(&self.stdout) } else { said }
    }
}

/// The last part of `bytes` as trimmed text.
pub(crate) fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}

/// Which end of an over-long stream is kept: data is read from its head, complaints from their tail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    Head,
    Tail,
}

/// Collects a stream up to a cap. Shared between the task that reads and the caller that may give up on it.
#[derive(Debug)]
pub(crate) struct Collector {
    keep: Keep,
    cap: usize,
    kept: Mutex<(Vec<u8>, bool)>,
}

impl Collector {
    pub(crate) fn new(keep: Keep, cap: usize) -> Self {
        Self { keep, cap, kept: Mutex::new((Vec::new(), false)) }
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, truncated) = &mut *guard;
        match self.keep {
            Keep::Head => {
                let room = self.cap.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
                *truncated |= bytes.len() > room;
            }
            Keep::Tail => {
                kept.extend_from_slice(bytes);
                // Twice the cap before cutting, so that cutting costs one copy per cap and not one per read.
                if kept.len() > self.cap.saturating_mul(2) {
                    kept.drain(..kept.len() - self.cap);
                    *truncated = true;
                }
            }
        }
    }

    pub(crate) fn take(&self) -> (Vec<u8>, bool) {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut kept, mut truncated) = std::mem::take(&mut *guard);
        if kept.len() > self.cap {
            kept.drain(..kept.len() - self.cap);
            truncated = true;
        }
        (kept, truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::{Collector, Keep};

    #[test]
    fn the_head_of_data_and_the_tail_of_complaints_are_kept() {
        let head = Collector::new(Keep::Head, 4);
        let tail = Collector::new(Keep::Tail, 4);
        for part in [&b"ab"[..], b"cd", b"ef", b"gh", b"ij"] {
            head.push(part);
            tail.push(part);
        }
        assert_eq!(head.take(), (b"abcd".to_vec(), true));
        assert_eq!(tail.take(), (b"ghij".to_vec(), true));
    }

    #[test]
    fn exactly_the_cap_is_not_truncated() {
        for keep in [Keep::Head, Keep::Tail] {
            let collector = Collector::new(keep, 4);
            collector.push(b"abcd");
            assert_eq!(collector.take(), (b"abcd".to_vec(), false), "{keep:?}");
        }
    }
}
