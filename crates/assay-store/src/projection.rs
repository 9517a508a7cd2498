//! The rows that are a fold of a run's journal: `runs`, `stages`, `findings`, `artifacts`.
//!
//! They exist for lists and for people with SQL; nothing decides by them. What to write is the
//! difference between the run before and after, so an append touches only what it changed, and a
//! new kind of event needs no line here.

use assay_model::view::{AttemptOutcome, AttemptView, StageView};
use assay_model::{Finding, RunView, Sha256};
use sea_orm::{DatabaseTransaction, DbErr, Value};

use crate::db::{execute, printable, values};

/// Stands in for "the run itself" where a stage's place in the plan would be.
const RUN_ITSELF: i64 = -1;

/// Writes the rows of a new run.
pub(crate) async fn create(tx: &DatabaseTransaction, view: &RunView, head: Sha256) -> Result<(), DbErr> {
    let sql = "INSERT INTO runs (id, number, host, target, pipeline, profile, created_at, head_seq, head_hash,
            state, stage_index, stage_name, result, overridden, failed_stage, started_at, completed_at, sealed)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    let created = &view.created;
    let mut values = values![
        view.id.0,
        created.number,
        created.target.host.0,
        printable(&created.target.name),
        created.pipeline.as_str(),
        created.profile.as_str(),
        view.created_at.0,
        view.seq,
        head.0.to_vec(),
    ];
    values.extend(moving(view));
    execute(tx, sql, values).await.map(drop)
}

/// Writes what differs.
pub(crate) async fn update(
    tx: &DatabaseTransaction,
    before: &RunView,
    after: &RunView,
    head: Sha256,
) -> Result<(), DbErr> {
    run(tx, before, after, head).await?;
    for (index, stage) in (0_i64..).zip(&after.stages) {
        let old = before.stages.get(index as usize);
        for attempt in changed_attempts(old, stage) {
            put_attempt(tx, after, index, stage, attempt).await?;
        }
        if let Some(judgement) = stage.judgement()
            && old.and_then(StageView::judgement) != Some(judgement)
        {
            replace_findings(tx, after, index, Some(stage.plan.name.as_str()), &judgement.findings).await?;
        }
    }
    if after.run_findings.len() != before.run_findings.len() {
        replace_findings(tx, after, RUN_ITSELF, None, &after.run_findings).await?;
    }
    for ordinal in before.artifacts.len()..after.artifacts.len() {
        put_artifact(tx, after, ordinal).await?;
    }
    Ok(())
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

async fn run(tx: &DatabaseTransaction, before: &RunView, after: &RunView, head: Sha256) -> Result<(), DbErr> {
    let mut values = values![after.id.0, after.seq, head.0.to_vec(), before.seq];
    let now = moving(after);
    // The columns below stand in indexes; naming them rewrites those even when nothing changes.
    let sql = if now == moving(before) {
        "UPDATE runs SET head_seq = $2, head_hash = $3 WHERE id = $1 AND head_seq = $4"
    } else {
        values.extend(now);
        "UPDATE runs SET head_seq = $2, head_hash = $3, state = $5, stage_index = $6, stage_name = $7, result = $8,
            overridden = $9, failed_stage = $10, started_at = $11, completed_at = $12, sealed = $13
        WHERE id = $1 AND head_seq = $4"
    };
    match execute(tx, sql, values).await? {
        1 => Ok(()),
        // The row is locked since its head was read; this would be a bug here, never a race.
        rows => {
            Err(DbErr::Custom(format!("the head of run {} moved under its lock ({rows} rows)", after.id)))
        }
    }
}

/// The attempts whose rows are new or different; a waiver shows on the latest one.
fn changed_attempts<'a>(before: Option<&StageView>, after: &'a StageView) -> Vec<&'a AttemptView> {
    let waived = before.is_some_and(|old| old.waived != after.waived);
    let last = after.attempts.len().saturating_sub(1);
    after
        .attempts
        .iter()
        .enumerate()
        .filter(|(i, attempt)| {
            before.and_then(|old| old.attempts.get(*i)) != Some(*attempt) || (waived && *i == last)
        })
        .map(|(_, attempt)| attempt)
        .collect()
}

async fn put_attempt(
    tx: &DatabaseTransaction,
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
    execute(tx, sql, values).await.map(drop)
}

async fn replace_findings(
    tx: &DatabaseTransaction,
    view: &RunView,
    index: i64,
    stage: Option<&str>,
    findings: &[Finding],
) -> Result<(), DbErr> {
    execute(tx, "DELETE FROM findings WHERE run = $1 AND stage_idx = $2", values![view.id.0, index]).await?;
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
        execute(tx, sql, values).await?;
    }
    Ok(())
}

async fn put_artifact(tx: &DatabaseTransaction, view: &RunView, ordinal: usize) -> Result<(), DbErr> {
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
    execute(tx, sql, values).await.map(drop)
}
