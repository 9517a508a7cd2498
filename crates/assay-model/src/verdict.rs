//! Verdicts and how they add up to a run's result.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a check, a stage or an attempt concluded. Never mixed with where it is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Verified and good.
    Pass,
    /// Verified and bad.
    Fail,
    /// Declared or structurally not applicable; the reason is in the message.
    Skip,
    /// Should have run and did not.
    Unverified,
    /// The runner failed, not the target.
    Error,
}

impl Verdict {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Unverified => "unverified",
            Self::Error => "error",
        }
    }

    /// Whether a stage with this verdict stops the run.
    ///
    /// A required stage must pass. An optional one may also skip or stay unverified; a failure
    /// or a runner error stops the run in either case.
    pub const fn blocks(self, required: bool) -> bool {
        match self {
            Self::Pass => false,
            Self::Fail | Self::Error => true,
            Self::Skip | Self::Unverified => required,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A finished run's result. A run without one was cancelled, superseded or hit a runner error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunResult {
    /// Every required stage passed (or was waived: then the run is also `overridden`).
    Pass,
    /// The target is not fit.
    Fail,
}

impl RunResult {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One stage as aggregation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageOutcome {
    /// Whether the pipeline or the target's spec requires it.
    pub required: bool,
    /// Its verdict; `None` when it was never judged.
    pub verdict: Option<Verdict>,
    /// Whether an operator accepted its failure.
    pub waived: bool,
}

/// Adds stages up to a run's result.
///
/// Pass iff every required stage passes and every optional one passes, skips or is unverified;
/// a waived stage counts as accepted. No result at all (`None`) when a stage that was not waived
/// ended in a runner error and nothing failed: that says nothing about the target.
pub fn aggregate(stages: &[StageOutcome]) -> Option<RunResult> {
    let counted = || stages.iter().filter(|s| !s.waived);
    if counted().any(|s| s.verdict == Some(Verdict::Fail)) {
        return Some(RunResult::Fail);
    }
    if counted().any(|s| s.verdict == Some(Verdict::Error)) {
        return None;
    }
    if counted().any(|s| s.verdict.map_or(s.required, |v| v.blocks(s.required))) {
        return Some(RunResult::Fail);
    }
    Some(RunResult::Pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(required: bool, verdict: Verdict) -> StageOutcome {
        StageOutcome { required, verdict: Some(verdict), waived: false }
    }

    #[test]
    fn required_stages_must_pass_and_optional_ones_must_not_fail() {
        use Verdict::{Error, Fail, Pass, Skip, Unverified};
        let cases = [
            (vec![stage(true, Pass), stage(false, Pass)], Some(RunResult::Pass)),
            (vec![stage(true, Pass), stage(false, Skip)], Some(RunResult::Pass)),
            (vec![stage(true, Pass), stage(false, Unverified)], Some(RunResult::Pass)),
            (vec![stage(true, Pass), stage(false, Fail)], Some(RunResult::Fail)),
            (vec![stage(true, Unverified)], Some(RunResult::Fail)),
            (vec![stage(true, Skip)], Some(RunResult::Fail)),
            (vec![stage(true, Pass), stage(false, Error)], None),
            (vec![stage(true, Fail), stage(true, Error)], Some(RunResult::Fail)),
            (vec![], Some(RunResult::Pass)),
        ];
        for (stages, expected) in cases {
            assert_eq!(aggregate(&stages), expected, "{stages:?}");
        }
    }

    #[test]
    fn a_stage_that_never_ran_is_not_a_pass() {
        let never = StageOutcome { required: false, verdict: None, waived: false };
        assert_eq!(aggregate(&[never]), Some(RunResult::Pass), "optional and not reached");
        let required = StageOutcome { required: true, ..never };
        assert_eq!(aggregate(&[required]), Some(RunResult::Fail));
    }

    #[test]
    fn a_waiver_accepts_exactly_its_own_stage() {
        let waived = StageOutcome { waived: true, ..stage(true, Verdict::Fail) };
        assert_eq!(aggregate(&[waived, stage(true, Verdict::Pass)]), Some(RunResult::Pass));
        assert_eq!(aggregate(&[waived, stage(true, Verdict::Fail)]), Some(RunResult::Fail));
    }
}
