//! The rows that are a fold of a run's journal: `runs`, `stages`, `findings`, `artifacts`, `image_trials`.
//!
//! They exist for lists and for people with SQL; nothing decides by them. What to write is the
//! difference between the run before and after, so an append touches only what it changed, and a
//! new kind of event needs no line here.

use assay_model::compat::{Outcome, outcome};
use assay_model::view::{AttemptOutcome, AttemptView, StageView};
use assay_model::{Finding, Judgement, Micros, RunView, Sha256};
use sea_orm::{DatabaseTransaction, DbErr, Value};

use crate::compat;
use crate::db::{Batch, execute, printable, values};

/// Stands in for "the run itself" where a stage's place in the plan would be.
const RUN_ITSELF: i64 = -1;

/// Writes the rows of a new run.
pub(crate) async fn create(tx: &DatabaseTransaction, view: &RunView, head: Sha256) -> Result<(), DbErr> {
    let sql = "INSERT INTO runs (id, number, target_id, target, pipeline, profile, created_at, head_seq, head_hash,
            whole, pull_request,
            state, stage_index, stage_name, result, overridden, failed_stage, started_at, completed_at, sealed)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    let created = &view.created;
    let mut values = values![
        view.id.0,
        created.number,
        created.target.id.0,
        printable(&created.target.name),
        created.pipeline.as_str(),
        created.profile.as_str(),
        view.created_at.0,
        view.seq,
        head.0.to_vec(),
        created.is_whole(),
        created.options.asked.pull_request.as_deref().map(printable),
    ];
    values.extend(moving(view));
    execute(tx, sql, values).await.map(drop)
}

/// What a run's rows say, in as far as it decides which of them an append has to write.
///
/// Taken before the events are applied, so that nobody has to keep a whole copy of the run for it.
pub(crate) struct Written {
    seq: i64,
    moving: Vec<Value>,
    stages: Vec<WrittenStage>,
    run_findings: usize,
    artifacts: usize,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Default)]
struct WrittenStage {
    attempts: usize,
    /// When the latest attempt was closed. Events touch no earlier one, and close each only once.
    ended_at: Option<Micros>,
    waived: bool,
    /// The attempt with the latest judgement, and how many findings it has.
    judged: Option<(u32, usize)>,
}

impl Written {
    /// What the rows of `view` say.
    pub(crate) fn of(view: &RunView) -> Self {
        Self {
            seq: view.seq,
            moving: moving(view),
            stages: view.stages.iter().map(WrittenStage::of).collect(),
            run_findings: view.run_findings.len(),
            artifacts: view.artifacts.len(),
            outcome: outcome(view),
        }
    }
}

impl WrittenStage {
    fn of(stage: &StageView) -> Self {
        Self {
            attempts: stage.attempts.len(),
            ended_at: stage.latest().and_then(|last| last.ended_at),
            waived: stage.waived,
            judged: judged(stage).map(|(attempt, judgement)| (attempt, judgement.findings.len())),
        }
    }
}

/// The latest judgement and the attempt that it is about.
fn judged(stage: &StageView) -> Option<(u32, &Judgement)> {
    stage.attempts.iter().rev().find_map(|attempt| match &attempt.outcome {
        AttemptOutcome::Judged(judgement) => Some((attempt.attempt, judgement)),
        _ => None,
    })
}

/// Adds what differs from what is written.
pub(crate) fn update(
    batch: &mut Batch,
    before: &Written,
    after: &RunView,
    head: Sha256,
) -> Result<(), DbErr> {
    run(batch, before, after, head);
    for (index, stage) in (0_i64..).zip(&after.stages) {
        let old = before.stages.get(index as usize).copied().unwrap_or_default();
        for attempt in changed_attempts(old, stage) {
            put_attempt(batch, after, index, stage, attempt)?;
        }
        if let Some((attempt, judgement)) = judged(stage)
            && old.judged.map(|(attempt, _)| attempt) != Some(attempt)
        {
            let replaced = old.judged.map_or(0, |(_, findings)| findings);
            let name = stage.plan.name.as_str();
            replace_findings(batch, after, index, Some(name), replaced, &judgement.findings);
        }
    }
    if after.run_findings.len() != before.run_findings {
        replace_findings(batch, after, RUN_ITSELF, None, before.run_findings, &after.run_findings);
    }
    for ordinal in before.artifacts..after.artifacts.len() {
        put_artifact(batch, after, ordinal);
    }
    compat::update(batch, before.outcome.as_ref(), after.id, outcome(after))
}

/// The columns of a run's row that events move, in the order of both statements.
fn moving(view: &RunView) -> Vec<Value> {
    values![
        view.state().as_str(),
        view.status.stage as i64,
        view.current_stage().map(|s| printable(s.plan.name.as_str())),
        view.result.map(assay_model::RunResult::as_str),
        view.overridden,
        view.failed_stage().map(printable),
        view.started_at.map(|t| t.0),
        view.completed_at.map(|t| t.0),
        view.status.sealed,
    ]
}

fn run(batch: &mut Batch, before: &Written, after: &RunView, head: Sha256) {
    let mut values = values![after.id.0, after.seq, head.0.to_vec(), before.seq];
    let now = moving(after);
    // The columns below stand in indexes; naming them rewrites those even when nothing changes.
    let sql = if now == before.moving {
        "UPDATE runs SET head_seq = $2, head_hash = $3 WHERE id = $1 AND head_seq = $4"
    } else {
        values.extend(now);
        "UPDATE runs SET head_seq = $2, head_hash = $3, state = $5, stage_index = $6, stage_name = $7, result = $8,
            overridden = $9, failed_stage = $10, started_at = $11, completed_at = $12, sealed = $13
        WHERE id = $1 AND head_seq = $4"
    };
    batch.push(1, sql, values);
}

/// The attempts whose rows are new or different; a waiver shows on the latest one.
fn changed_attempts(before: WrittenStage, after: &StageView) -> &[AttemptView] {
    let latest = before.attempts.saturating_sub(1);
    let changed = after.attempts.get(latest).is_some_and(|attempt| {
        let waived = before.waived != after.waived && after.attempts.len() == before.attempts;
        attempt.ended_at != before.ended_at || waived
    });
    let first = if changed { latest } else { before.attempts };
    after.attempts.get(first..).unwrap_or_default()
}

fn put_attempt(
    batch: &mut Batch,
    view: &RunView,
    index: i64,
    stage: &StageView,
    attempt: &AttemptView,
) -> Result<(), DbErr> {
    let sql = "INSERT INTO stages (run, idx, attempt, name, required, waived, generation, verdict, passed,
            started_at, completed_at, message, summary_json)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (run, idx, attempt) DO UPDATE SET waived = excluded.waived, generation = excluded.generation,
            verdict = excluded.verdict, passed = excluded.passed, started_at = excluded.started_at,
            completed_at = excluded.completed_at, message = excluded.message, summary_json = excluded.summary_json";
    let (verdict, message, summary) = match &attempt.outcome {
        AttemptOutcome::Open => (None, None, None),
        AttemptOutcome::Lost(reason) => (None, Some(printable(reason)), None),
        AttemptOutcome::Judged(judgement) => {
            let summary = serde_json::to_string(judgement).map_err(|e| DbErr::Json(e.to_string()))?;
            (Some(judgement.verdict), Some(printable(&judgement.message)), Some(summary))
        }
    };
    let latest = stage.latest().is_some_and(|last| last.attempt == attempt.attempt);
    let values = values![
        view.id.0,
        index,
        i64::from(attempt.attempt),
        printable(stage.plan.name.as_str()),
        stage.plan.required,
        stage.waived && latest,
        attempt.generation,
        verdict.map(assay_model::Verdict::as_str),
        verdict.map(|v| v == assay_model::Verdict::Pass),
        attempt.started_at.0,
        attempt.ended_at.map(|t| t.0),
        message,
        summary,
    ];
    batch.push(1, sql, values);
    Ok(())
}

fn replace_findings(
    batch: &mut Batch,
    view: &RunView,
    index: i64,
    stage: Option<&str>,
    replaced: usize,
    findings: &[Finding],
) {
    if replaced > 0 {
        let sql = "DELETE FROM findings WHERE run = $1 AND stage_idx = $2";
        batch.push(replaced as u64, sql, values![view.id.0, index]);
    }
    let sql =
        "INSERT INTO findings (run, stage_idx, ordinal, stage, code, severity, part, message, next_step)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    for (ordinal, finding) in (0_i64..).zip(findings) {
        let stage = finding.stage.as_ref().map(assay_model::StageName::as_str).or(stage);
        let values = values![
            view.id.0,
            index,
            ordinal,
            stage.map(printable),
            printable(&finding.code),
            finding.severity.as_str(),
            finding.part.as_ref().map(|part| printable(&part.to_string())),
            printable(&finding.message),
            printable(&finding.next_step),
        ];
        batch.push(1, sql, values);
    }
}

fn put_artifact(batch: &mut Batch, view: &RunView, ordinal: usize) {
    let sql = "INSERT INTO artifacts (run, ordinal, stage, attempt, name, digest, bytes, late)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let artifact = &view.artifacts[ordinal];
    let values = values![
        view.id.0,
        ordinal as i64,
        artifact.stage.as_ref().map(|s| printable(s.as_str())),
        i64::from(artifact.attempt),
        printable(&artifact.name),
        artifact.digest.0.to_vec(),
        artifact.bytes as i64,
        artifact.late,
    ];
    batch.push(1, sql, values);
}
