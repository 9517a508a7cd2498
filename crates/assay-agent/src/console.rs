//! What the agent says: to the person at the machine's console, and into the run's log.
//!
//! A console line goes to both. Log lines are stamped with the machine's monotonic clock, because before the
//! enrolment nobody knows what time it is; the shipping task turns that into server time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;

/// Lines waiting for the shipping task. More are dropped and counted: a log must not take the machine's memory.
const WAITING_LINES: usize = 20_000;

/// Kinds of failure that are told of one outage.
const MAX_KINDS: usize = 16;

/// A log line before its time is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// Since the machine booted.
    pub(crate) at: Duration,
    /// `agent`, `kernel` …
    pub(crate) source: &'static str,
    pub(crate) text: String,
    /// The kernel's own number of a kernel message.
    pub(crate) kernel_seq: Option<u64>,
}

/// Says things. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Console {
    print: Arc<dyn Fn(&str) + Send + Sync>,
    lines: mpsc::Sender<RawLine>,
    link: Arc<Mutex<Link>>,
}

/// Whether the control plane answers, so that each new kind of failure is said once.
#[derive(Default)]
struct Link {
    failing: BTreeSet<&'static str>,
    said: Vec<String>,
    since: Duration,
    dropped: u64,
}

impl Console {
    pub(crate) fn new(print: Arc<dyn Fn(&str) + Send + Sync>) -> (Self, mpsc::Receiver<RawLine>) {
        let (lines, receiver) = mpsc::channel(WAITING_LINES);
        (Self { print, lines, link: Arc::default() }, receiver)
    }

    /// For the person at the machine, and the log.
    pub(crate) fn say(&self, text: &str) {
        self.print(text);
        self.note(text);
    }

    /// For the person at the machine only: when the log cannot be shipped any more.
    pub(crate) fn print(&self, text: &str) {
        (self.print)(&format!("assay: {text}"));
    }

    /// For the log only.
    pub(crate) fn note(&self, text: &str) {
        self.ship(RawLine {
            at: clock::since_boot(),
            source: "agent",
            text: text.to_owned(),
            kernel_seq: None,
        });
    }

    pub(crate) fn ship(&self, line: RawLine) {
        if self.lines.try_send(line).is_err() {
            self.link().dropped += 1;
        }
    }

    pub(crate) fn add_dropped(&self, lines: u64) {
        self.link().dropped += lines;
    }

    /// How many lines were dropped since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.link().dropped)
    }

    /// A request could not be answered. `kind` is said when it is news: once until all is well again, however many
    /// channels (the lanes, the heartbeat, the poll) meet it.
    pub(crate) fn failing(&self, channel: &'static str, kind: &str) {
        let mut link = self.link();
        if link.failing.is_empty() {
            link.since = clock::since_boot();
        }
        link.failing.insert(channel);
        if link.said.len() >= MAX_KINDS || link.said.iter().any(|said| said == kind) {
            return;
        }
        link.said.push(kind.to_owned());
        drop(link);
        self.say(&format!("{kind}; trying again"));
    }

    /// A request was answered. All is well when that is so for every channel that had failed.
    pub(crate) fn working(&self, channel: &'static str) {
        let mut link = self.link();
        if !link.failing.remove(channel) || !link.failing.is_empty() {
            return;
        }
        link.said.clear();
        let silent = clock::since_boot().saturating_sub(link.since);
        drop(link);
        self.say(&format!("the control plane answers again after {} s", silent.as_secs()));
    }

    fn link(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Console;

    #[test]
    fn each_new_kind_of_failure_is_said_once() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let (console, mut lines) = Console::new(Arc::new(move |line: &str| {
            sink.lock().expect("free").push(line.to_owned());
        }));
        console.working("poll");
        console.failing("poll", "no route");
        console.failing("poll", "no route");
        console.failing("log", "no route");
        console.failing("log", "refused");
        console.failing("poll", "no route");
        console.working("log");
        console.working("heartbeat");
        console.failing("log", "refused");
        console.working("poll");
        console.working("log");
        console.working("log");
        console.failing("poll", "no route");
        assert_eq!(
            *said.lock().expect("free"),
            [
                "assay: no route; trying again",
                "assay: refused; trying again",
                "assay: the control plane answers again after 0 s",
                "assay: no route; trying again",
            ]
        );
        assert_eq!(lines.try_recv().expect("shipped as well").text, "no route; trying again");
    }
}
