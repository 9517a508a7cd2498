//! Knows when something is to be noticed although nothing came.

use std::time::Duration;

use crate::watch::Watch;

pub(crate) struct Quiet {
    settle: Duration,
    stuck_after: Option<Duration>,
    silent_after: Option<Duration>,
    /// The last output of any kind; the machine's start if there was none.
    any: Duration,
    /// The last output that was not the kernel's.
    programs: Option<Duration>,
    settled: bool,
    looked_for_prompt: bool,
    silent: bool,
}

/// What is due.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) settle: bool,
    pub(crate) prompt: bool,
    /// Since when it has been silent.
    pub(crate) silent: Option<Duration>,
}

impl Quiet {
    pub(crate) fn new(watch: &Watch) -> Self {
        Self {
            settle: watch.settle,
            stuck_after: watch.stuck_after,
            silent_after: watch.silent_after,
            any: Duration::ZERO,
            programs: None,
            settled: true,
            looked_for_prompt: true,
            silent: false,
        }
    }

    /// Something came; `programs`: not only the kernel's.
    pub(crate) fn output(&mut self, at: Duration, programs: bool) {
        self.any = self.any.max(at);
        self.silent = false;
        if programs {
            self.programs = Some(self.any);
            self.settled = false;
            self.looked_for_prompt = false;
        }
    }

    /// When something will be due; `None` if only output can change anything.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let after = |time: Option<Duration>, wait: Option<Duration>| Some(time?.saturating_add(wait?));
        [
            after(self.programs, (!self.settled).then_some(self.settle)),
            after(self.programs, self.stuck_after.filter(|_| !self.looked_for_prompt)),
            after(Some(self.any), self.silent_after.filter(|_| !self.silent)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due at `now`; each once until there is more output.
    pub(crate) fn due(&mut self, now: Duration) -> Due {
        let mut due = Due::default();
        let passed = |time: Duration, wait: Duration| now >= time.saturating_add(wait);
        if let Some(programs) = self.programs {
            if !self.settled && passed(programs, self.settle) {
                self.settled = true;
                due.settle = true;
            }
            if !self.looked_for_prompt && self.stuck_after.is_some_and(|wait| passed(programs, wait)) {
                self.looked_for_prompt = true;
                due.prompt = true;
            }
        }
        if !self.silent && self.silent_after.is_some_and(|wait| passed(self.any, wait)) {
            self.silent = true;
            due.silent = Some(self.any);
        }
        due
    }
}
