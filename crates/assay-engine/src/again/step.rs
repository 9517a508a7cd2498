//! What a batch does next: one pure function over where its targets stand.

use assay_model::schedule::Limits;
use assay_model::{RunResult, RunState};
use assay_store::{BatchItemRow, BatchState};

/// Where one of a batch's targets stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It has not begun.
    Waits,
    /// It is not tested.
    LeftOut,
    /// It is queued or under test.
    UnderWay,
    /// It failed and is held until somebody decides.
    Held,
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It came to no verdict: the runner failed.
    NoVerdict,
    /// It was cancelled.
    Cancelled,
}

impl Stand {
    /// Where a target stands by its rows.
    pub fn of(item: &BatchItemRow) -> Self {
        let Some(run) = &item.run else {
            return if item.left_out.is_some() { Self::LeftOut } else { Self::Waits };
        };
        match (run.state, run.result) {
            // One that has failed and is about to be held counts already: nothing may be begun in between.
            (RunState::Failed | RunState::FailedHolding, _) => Self::Held,
            (RunState::Released, _) | (RunState::Completed, Some(RunResult::Fail)) => Self::Failed,
            (RunState::Completed, Some(RunResult::Pass)) => Self::Passed,
            (RunState::Completed, None) => Self::NoVerdict,
            (RunState::Cancelled | RunState::Superseded, _) => Self::Cancelled,
            _ => Self::UnderWay,
        }
    }

    /// The spelling in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::LeftOut => "left_out",
            Self::UnderWay => "under_way",
            Self::Held => "held",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NoVerdict => "no_verdict",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it counts as a failure. That a runner failed counts, too: whatever it is, the next one may fare no better.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Held | Self::Failed | Self::NoVerdict)
    }

    /// Whether it is out of use: a machine that is held is not back yet.
    const fn is_out(self) -> bool {
        matches!(self, Self::UnderWay | Self::Held)
    }
}

/// The next thing to do about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin these, in this order, by their places.
    Begin(Vec<usize>),
    /// Begin nothing more: too many have failed.
    Stop {
        /// Which, by their places.
        failed: Vec<usize>,
    },
    /// Nothing is left to be done.
    End,
    /// Nothing now.
    Rest,
}

/// What a batch does next. `items` says where each stands, and whether its failure was forgiven.
pub fn step(state: &BatchState, limits: Limits, items: &[(Stand, bool)]) -> Step {
    let of = |wanted: fn(Stand) -> bool| items.iter().filter(move |(stand, _)| wanted(*stand)).count();
    let waits = of(|stand| stand == Stand::Waits);
    let out = of(Stand::is_out);
    match state {
        BatchState::Ended => return Step::Rest,
        _ if waits == 0 && out == 0 => return Step::End,
        BatchState::Stopped { .. } => return Step::Rest,
        BatchState::Running if waits == 0 => return Step::Rest,
        BatchState::Running => {}
    }
    let place = |wanted: fn(&(Stand, bool)) -> bool| {
        items.iter().enumerate().filter(move |(_, item)| wanted(item)).map(|(place, _)| place)
    };
    let failed: Vec<usize> = place(|(stand, forgiven)| stand.is_failure() && !forgiven).collect();
    if limits.stop_after.is_some_and(|most| failed.len() >= most as usize) {
        return Step::Stop { failed };
    }
    let room = limits.at_most.map_or(usize::MAX, |most| (most as usize).saturating_sub(out));
    let begin: Vec<usize> = place(|(stand, _)| *stand == Stand::Waits).take(room).collect();
    if begin.is_empty() { Step::Rest } else { Step::Begin(begin) }
}

/// How many of a batch's targets stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All that are tested: those left out are not among them.
    pub all: usize,
    /// Not begun.
    pub waiting: usize,
    /// Queued or under test.
    pub under_way: usize,
    /// Held until somebody decides.
    pub held: usize,
    /// Passed.
    pub passed: usize,
    /// Failed, and not held any more.
    pub failed: usize,
    /// Without a verdict.
    pub no_verdict: usize,
    /// Cancelled.
    pub cancelled: usize,
    /// Not tested at all.
    pub left_out: usize,
}

impl Progress {
    /// Counts.
    pub fn of(stands: impl IntoIterator<Item = Stand>) -> Self {
        let mut counts = Self::default();
        for stand in stands {
            counts.all += usize::from(stand != Stand::LeftOut);
            let count = match stand {
                Stand::Waits => &mut counts.waiting,
                Stand::LeftOut => &mut counts.left_out,
                Stand::UnderWay => &mut counts.under_way,
                Stand::Held => &mut counts.held,
                Stand::Passed => &mut counts.passed,
                Stand::Failed => &mut counts.failed,
                Stand::NoVerdict => &mut counts.no_verdict,
                Stand::Cancelled => &mut counts.cancelled,
            };
            *count += 1;
        }
        counts
    }

    /// How many have come to their end.
    pub const fn done(&self) -> usize {
        self.passed + self.failed + self.no_verdict + self.cancelled
    }

    /// `12 of 40, 2 under way, 1 held, 3 failed`.
    pub fn told(&self) -> String {
        let counts = [
            (self.under_way, "under way"),
            (self.held, "held"),
            (self.failed, "failed"),
            (self.no_verdict, "without a verdict"),
            (self.cancelled, "cancelled"),
            (self.left_out, "left out"),
        ];
        let told = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
        let whole = format!("{} of {}", self.done(), self.all);
        [whole].into_iter().chain(told).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
