//! What one finished run says about an image on a machine. Only its judged verdict: a run that was cancelled, or that never
//! came to boot the image, says nothing.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::view::StageView;
use crate::{
    Micros, Owner, Pipeline, RunId, RunResult, RunState, RunView, Severity, Sha256, TargetId, Verdict, text,
};

/// The stage from which on a run is about the image on the machine. What comes before it is about the medium, or about
/// whether the machine may be written to. (Not [`crate::view::BOOT`], the machine that never came up.)
const FIRST: &str = "Boot";
/// Most codes that are kept of one run.
const MAX_CODES: usize = 16;
/// Longest name of an image.
const MAX_NAME: usize = 64;

/// How a run came out for its image and its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrialVerdict {
    /// Everything that the image is to do was seen to be done.
    Pass,
    /// It failed, whether or not somebody waived it.
    Fail,
    /// It came to no verdict about the image: the runner failed, the machine did not come back, stages were left out or
    /// checks switched off, or an operator waived something.
    Unverified,
}

impl TrialVerdict {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unverified => "unverified",
        }
    }
}

impl fmt::Display for TrialVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not a stored spelling.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the verdict of a trial")]
pub struct UnknownTrialVerdict(String);

impl FromStr for TrialVerdict {
    type Err = UnknownTrialVerdict;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let found = [Self::Pass, Self::Fail, Self::Unverified].into_iter().find(|v| v.as_str() == s);
        found.ok_or_else(|| UnknownTrialVerdict(text::clean_to(s, 40)))
    }
}

/// The part of a trial that stands in the run's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The image's name: its profile's.
    pub image: String,
    /// How it came out.
    pub verdict: TrialVerdict,
    /// When the run came to its end.
    pub at: Micros,
    /// Codes of its findings from [`Severity::Warning`] on, the gravest first, each once.
    pub codes: Vec<String>,
    /// How many things the run names as not verified, beside its verdict.
    pub unverified: u32,
}

/// One finished run of one image on one kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The run.
    pub run: RunId,
    /// As people say it.
    pub number: i64,
    /// The host that it was on.
    pub host: TargetId,
    /// Its name at the time.
    pub host_name: String,
    /// What kind of machine that was: the digest of its fingerprint.
    pub machine: Sha256,
    /// The image's digest, as the runner read it.
    pub digest: Sha256,
    /// Its volume id, where it has one: often its version.
    pub volume: Option<String>,
    /// What the journal says.
    pub outcome: Outcome,
}

/// What a run says about its image on its machine; none when it says nothing.
pub fn outcome(run: &RunView) -> Option<Outcome> {
    if run.created.pipeline != Pipeline::Image || !run.created.has_machine() {
        return None;
    }
    if !matches!(run.state(), RunState::Completed | RunState::Released) {
        return None;
    }
    let first = run.stages.iter().position(|stage| stage.plan.name == FIRST)?;
    let stages = &run.stages[first..];
    stages[0].judgement()?;
    Some(Outcome {
        image: image_name(run)?,
        verdict: verdict(run, stages),
        at: run.completed_at?,
        codes: codes(run, stages),
        unverified: u32::try_from(run.unverified().len()).unwrap_or(u32::MAX),
    })
}

fn verdict(run: &RunView, stages: &[StageView]) -> TrialVerdict {
    // A waiver accepts a failure for the run. It does not make the image work. What the control plane judges (whether the
    // evidence is whole) is not about the image.
    let of_image = stages.iter().filter(|stage| stage.plan.owner != Owner::Orchestrator);
    if of_image.filter_map(StageView::judgement).any(|judgement| judgement.verdict == Verdict::Fail) {
        return TrialVerdict::Fail;
    }
    let whole = run.created.is_whole() && !run.overridden;
    let good = stages.iter().all(|stage| match stage.verdict() {
        Some(verdict) => !verdict.blocks(stage.plan.required),
        None => false,
    });
    if whole && good && run.result == Some(RunResult::Pass) {
        TrialVerdict::Pass
    } else {
        TrialVerdict::Unverified
    }
}

fn codes(run: &RunView, stages: &[StageView]) -> Vec<String> {
    let of_stages = stages.iter().filter_map(StageView::judgement).flat_map(|judgement| &judgement.findings);
    let mut findings: Vec<_> =
        of_stages.chain(&run.run_findings).filter(|finding| finding.severity >= Severity::Warning).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut codes: Vec<String> = Vec::new();
    for finding in findings {
        let code = text::clean_to(&finding.code, MAX_NAME);
        if codes.len() < MAX_CODES && !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

/// The name in the profile. A cell of a matrix is about the virtual machine and not part of it.
fn image_name(run: &RunView) -> Option<String> {
    let name = run.created.spec.pointer("/profile/name")?.as_str()?;
    Some(text::clean_to(name, MAX_NAME)).filter(|name| !name.is_empty())
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
