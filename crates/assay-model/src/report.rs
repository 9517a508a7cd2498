//! `report.json`: the machine-readable report, format 1. A fold of a finished (or held) journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Ladder;
use crate::view::{ArtifactView, AttemptOutcome, DecisionView};
use crate::{Check, Coverage, Finding, Pipeline, RunResult, RunState, RunView, Sha256, Verdict};

/// The format written by this code.
pub const FORMAT: u32 = 1;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay report")]
pub struct Report {
    /// `1`.
    pub format: u32,
    /// The run.
    pub run: ReportRun,
    /// The plan with its verdicts, in order.
    pub stages: Vec<ReportStage>,
    /// Of a recipe: its rungs, and the level that they add up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Ladder>,
    /// Every finding that counts.
    pub findings: Vec<Finding>,
    /// What was not verified, one sentence each.
    pub unverified: Vec<String>,
    /// What operators decided.
    pub decisions: Vec<ReportDecision>,
    /// The files kept, with their digests.
    pub artifacts: Vec<ArtifactView>,
    /// The seal, once the verdict is final.
    pub seal: Option<ReportSeal>,
}

/// The run, as `report.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportRun {
    /// UUIDv7.
    pub id: String,
    /// The number people use.
    pub number: i64,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// `quick`, `standard` or `burnin`.
    pub profile: String,
    /// The name of the host, image or recipe.
    pub target: String,
    /// The state at the time of the report.
    pub state: RunState,
    /// The result; null when cancelled, superseded, still open, or after a runner error.
    pub result: Option<RunResult>,
    /// Whether anything was ever waived.
    pub overridden: bool,
    /// Where it failed.
    pub failed_stage: Option<String>,
    /// RFC 3339, when it left the queue.
    pub started_at: Option<String>,
    /// RFC 3339, when it ended.
    pub completed_at: Option<String>,
}

/// One stage, as `report.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportStage {
    /// Its name.
    pub name: String,
    /// The verdict; null when it was never judged.
    pub verdict: Option<Verdict>,
    /// Which try this is about; 0 when it was never tried.
    pub attempt: u32,
    /// How long that try took.
    pub seconds: Option<f64>,
    /// What the verdict speaks for.
    pub coverage: Vec<Coverage>,
    /// Whether the run needs it to pass.
    pub required: bool,
    /// Whether its failure was accepted.
    pub waived: bool,
    /// One sentence.
    pub message: String,
    /// Every criterion applied.
    pub checks: Vec<Check>,
    /// Tries that ended without evidence, and why.
    pub lost_attempts: Vec<String>,
}

/// One decision, as `report.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportDecision {
    /// RFC 3339.
    pub at: String,
    /// `retry`, `permit`, `waive`, `abandon` or `cancel`.
    pub kind: String,
    /// For a permit: serial numbers of the disks that might be erased with what they held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
    /// The stage it was about.
    pub stage: Option<String>,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// The seal, as `report.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportSeal {
    /// Hash of the journal's last event before the seal.
    pub head: Sha256,
    /// How many events the journal has, the seal included.
    pub events: i64,
}

impl Report {
    /// Draws the report from a run.
    pub fn of(run: &RunView) -> Self {
        Self {
            format: FORMAT,
            run: ReportRun {
                id: run.id.to_string(),
                number: run.created.number,
                pipeline: run.created.pipeline,
                profile: run.created.profile.clone(),
                target: run.created.target.name.clone(),
                state: run.state(),
                result: run.result,
                overridden: run.overridden,
                failed_stage: run.failed_stage().map(str::to_owned),
                started_at: run.started_at.map(crate::Micros::rfc3339),
                completed_at: run.completed_at.map(crate::Micros::rfc3339),
            },
            stages: run.stages.iter().map(stage).collect(),
            ladder: (run.created.pipeline == Pipeline::Recipe).then(|| Ladder::of(run)),
            findings: run.findings(),
            unverified: run.unverified(),
            decisions: run.decisions.iter().map(decision).collect(),
            artifacts: run.artifacts.clone(),
            seal: run.seal.as_ref().map(|s| ReportSeal { head: s.head, events: run.seq }),
        }
    }
}

fn stage(stage: &crate::view::StageView) -> ReportStage {
    let judged = stage.judgement();
    let waiting = if stage.attempts.is_empty() { "never started" } else { "not judged yet" };
    ReportStage {
        name: stage.plan.name.0.clone(),
        verdict: stage.verdict(),
        attempt: stage.latest().map_or(0, |a| a.attempt),
        seconds: stage.seconds(),
        coverage: judged.map(|j| j.coverage.clone()).unwrap_or_default(),
        required: stage.plan.required,
        waived: stage.waived,
        message: judged.map_or_else(|| waiting.to_owned(), |j| j.message.clone()),
        checks: judged.map(|j| j.checks.clone()).unwrap_or_default(),
        lost_attempts: stage
            .attempts
            .iter()
            .filter_map(|a| match &a.outcome {
                AttemptOutcome::Lost(reason) => Some(format!("attempt {}: {reason}", a.attempt)),
                _ => None,
            })
            .collect(),
    }
}

fn decision(d: &DecisionView) -> ReportDecision {
    ReportDecision {
        at: d.at.rfc3339(),
        kind: d.decision.kind.to_string(),
        disks: d.decision.serials.clone(),
        stage: d.stage.clone(),
        by: d.decision.by.clone(),
        why: d.decision.why.clone(),
    }
}
