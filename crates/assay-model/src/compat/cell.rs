//! One cell: what all trials of one image on one component come to.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Trial, TrialVerdict};
use crate::Micros;

/// What is known of an image on a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CellState {
    /// Every trial that came to a verdict passed.
    Works,
    /// Every trial that came to a verdict failed.
    Fails,
    /// Some passed and some failed.
    Mixed,
    /// There were trials, and none came to a verdict about the image.
    Unverified,
    /// There was no trial.
    Unknown,
}

impl CellState {
    /// The spelling for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Mixed => "mixed",
            Self::Unverified => "unverified",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for CellState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A cell with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What is known.
    pub state: CellState,
    /// When the newest trial that the state rests on came to its end; none without trials.
    pub at: Option<Micros>,
    /// Whether that is longer ago than evidence counts.
    pub stale: bool,
    /// Every trial, newest first.
    pub evidence: Vec<&'a Trial>,
}

impl<'a> Cell<'a> {
    /// Whether one may rely on it: it works, and that was seen lately.
    pub fn holds(&self) -> bool {
        self.state == CellState::Works && !self.stale
    }

    /// The newest trial that the state rests on.
    pub fn newest(&self) -> Option<&'a Trial> {
        self.evidence.iter().copied().find(|trial| bears(self.state, trial.outcome.verdict))
    }
}

/// What these trials, in whatever order, come to at `now`. Contradicting evidence stays a contradiction until the image
/// changes: of two trials of the same bytes on the same component the newer one does not make the older one untrue.
pub fn cell<'a>(trials: impl IntoIterator<Item = &'a Trial>, now: Micros, max_age: Micros) -> Cell<'a> {
    let mut evidence: Vec<&Trial> = trials.into_iter().collect();
    evidence.sort_by_key(|trial| std::cmp::Reverse((trial.outcome.at, trial.number, trial.run)));
    let any = |verdict| evidence.iter().any(|trial| trial.outcome.verdict == verdict);
    let state = match (any(TrialVerdict::Pass), any(TrialVerdict::Fail), evidence.is_empty()) {
        (true, true, _) => CellState::Mixed,
        (true, false, _) => CellState::Works,
        (false, true, _) => CellState::Fails,
        (false, false, false) => CellState::Unverified,
        (false, false, true) => CellState::Unknown,
    };
    let newest = evidence.iter().find(|trial| bears(state, trial.outcome.verdict));
    let at = newest.map(|trial| trial.outcome.at);
    Cell { state, at, stale: at.is_some_and(|at| now.since(at) > max_age), evidence }
}

/// Whether a trial that came out like this is one that the state rests on.
const fn bears(state: CellState, verdict: TrialVerdict) -> bool {
    match state {
        CellState::Works => matches!(verdict, TrialVerdict::Pass),
        CellState::Fails => matches!(verdict, TrialVerdict::Fail),
        CellState::Mixed => !matches!(verdict, TrialVerdict::Unverified),
        CellState::Unverified => matches!(verdict, TrialVerdict::Unverified),
        CellState::Unknown => false,
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
