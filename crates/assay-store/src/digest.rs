//! What a weekly digest is made of: the runs that ended in a span of time, how targets stood at a moment, and what was going on then.
//!
//! Each is one question, whatever the number of targets. Nothing here asks how things are now, so the answer about a time that
//! is past stays the same.

use std::collections::HashMap;

use assay_model::journal::StoredEvent;
use assay_model::{Micros, Pipeline, RunId, RunResult, TargetId};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::{EventRow, RunRef};
use crate::runs::{Row, RunRow};

const LIST: &str = "read what happened in a week";
/// Runs that are named in one statement.
const AT_ONCE: usize = 200;
/// A run says how its target stands: it came to a verdict, of the whole where that is a good one, and of no pull request.
const DECISIVE: &str = "r.pull_request IS NULL
    AND (r.result = 'fail' OR (r.result = 'pass' AND NOT r.overridden AND r.whole))";

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// The run.
    pub run: RunRow,
    /// Whether it goes through all stages with all checks on.
    pub whole: bool,
    /// The pull request that it is of.
    pub pull_request: Option<String>,
}

/// How a target stood at a moment: its last run that said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The run.
    pub run: RunRow,
    /// Of a red one: the first red run since it was green, and when that ended.
    pub red_since: Option<(i64, Micros)>,
}

impl Store {
    /// The runs that ended from `from` on and before `to`, oldest first.
    pub async fn runs_ended_between(&self, from: Micros, to: Micros) -> Result<Vec<EndedRun>, StoreError> {
        let sql = "SELECT r.number, r.id, r.target_id, r.target, r.pipeline, r.profile, r.state, r.stage_index,
                r.stage_name, r.result, r.overridden, r.failed_stage, r.created_at, r.started_at, r.completed_at,
                r.sealed, r.whole, r.pull_request
            FROM runs r WHERE r.completed_at >= $1 AND r.completed_at < $2 ORDER BY r.number";
        let rows: Vec<EndedRow> =
            db::all(self.db().reader(), sql, values![from.0, to.0]).await.doing(LIST)?;
        let ended = |row: EndedRow| -> Result<EndedRun, StoreError> {
            Ok(EndedRun { run: row.run.decode()?, whole: row.whole, pull_request: row.pull_request })
        };
        rows.into_iter().map(ended).collect()
    }

    /// How every target stood before `at`, of those that anything is known of; by pipeline and name.
    pub async fn standings(&self, at: Micros) -> Result<Vec<Standing>, StoreError> {
        #[derive(FromQueryResult)]
        struct Since {
            pipeline: String,
            target_id: Uuid,
            number: i64,
            completed_at: i64,
        }
        let sql = format!(
            "SELECT * FROM (
                SELECT r.number, r.id, r.target_id, r.target, r.pipeline, r.profile, r.state, r.stage_index,
                    r.stage_name, r.result, r.overridden, r.failed_stage, r.created_at, r.started_at, r.completed_at,
                    r.sealed, ROW_NUMBER() OVER (PARTITION BY r.pipeline, r.target_id ORDER BY r.number DESC) AS place
                FROM runs r WHERE r.completed_at < $1 AND {DECISIVE}
            ) AS latest WHERE place = 1 ORDER BY pipeline, target, number"
        );
        let rows: Vec<Row> = db::all(self.db().reader(), &sql, values![at.0]).await.doing(LIST)?;
        let sql = format!(
            "SELECT r.pipeline, r.target_id, MIN(r.number) AS number, MIN(r.completed_at) AS completed_at
            FROM runs r LEFT JOIN (
                SELECT r.pipeline, r.target_id, MAX(r.number) AS green FROM runs r
                WHERE r.completed_at < $1 AND r.result = 'pass' AND {DECISIVE} GROUP BY r.pipeline, r.target_id
            ) AS g ON g.pipeline = r.pipeline AND g.target_id = r.target_id
            WHERE r.completed_at < $1 AND r.result = 'fail' AND r.pull_request IS NULL
                AND (g.green IS NULL OR r.number > g.green)
            GROUP BY r.pipeline, r.target_id"
        );
        let since: Vec<Since> = db::all(self.db().reader(), &sql, values![at.0]).await.doing(LIST)?;
        let since: HashMap<(String, Uuid), (i64, Micros)> = since
            .into_iter()
            .map(|row| ((row.pipeline, row.target_id), (row.number, Micros(row.completed_at))))
            .collect();
        let standing = |row: Row| -> Result<Standing, StoreError> {
            let run = row.decode()?;
            let red = run.result == Some(RunResult::Fail);
            let red_since = since.get(&key(run.pipeline, run.target_id)).copied().filter(|_| red);
            Ok(Standing { run, red_since })
        };
        rows.into_iter().map(standing).collect()
    }

    /// The code that says most about why each of these runs failed, of those that have one.
    pub async fn failure_codes(&self, runs: &[RunId]) -> Result<HashMap<RunId, String>, StoreError> {
        #[derive(FromQueryResult)]
        struct Code {
            run: Uuid,
            code: String,
        }
        let mut codes = HashMap::new();
        for runs in runs.chunks(AT_ONCE) {
            let places: Vec<String> = (1..=runs.len()).map(|place| format!("${place}")).collect();
            let sql = format!(
                "SELECT f.run, f.code FROM findings f JOIN runs r ON r.id = f.run
                WHERE f.run IN ({}) AND (f.stage IS NULL OR f.stage = r.failed_stage)
                    AND f.severity IN ('critical', 'warning')
                ORDER BY f.run, CASE f.severity WHEN 'critical' THEN 0 ELSE 1 END, f.stage_idx, f.ordinal",
                places.join(", ")
            );
            let values = runs.iter().map(|run| run.0.into()).collect();
            let found: Vec<Code> = db::all(self.db().reader(), &sql, values).await.doing(LIST)?;
            for Code { run, code } in found {
                codes.entry(RunId(run)).or_insert(code);
            }
        }
        Ok(codes)
    }

    /// Runs that had left the queue before `at` and were not over then, oldest first, at most so many.
    pub async fn runs_under_way_at(&self, at: Micros, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT id AS run FROM runs
            WHERE started_at < $1 AND (completed_at IS NULL OR completed_at >= $1) ORDER BY number LIMIT $2";
        let rows: Vec<RunRef> =
            db::all(self.db().reader(), sql, values![at.0, i64::from(limit)]).await.doing(LIST)?;
        Ok(rows.into_iter().map(|row| RunId(row.run)).collect())
    }

    /// The audit trail's entries from `from` on and before `to`, oldest first.
    pub async fn audit_between(&self, from: Micros, to: Micros) -> Result<Vec<StoredEvent>, StoreError> {
        let sql =
            "SELECT seq, at, kind, body, prev_hash, hash FROM audit WHERE at >= $1 AND at < $2 ORDER BY seq";
        let rows: Vec<EventRow> =
            db::all(self.db().reader(), sql, values![from.0, to.0]).await.doing("read the audit trail")?;
        rows.into_iter().map(EventRow::stored).collect()
    }
}

fn key(pipeline: Pipeline, target: TargetId) -> (String, Uuid) {
    (pipeline.as_str().to_owned(), target.0)
}

#[derive(FromQueryResult)]
struct EndedRow {
    #[sea_orm(nested)]
    run: Row,
    whole: bool,
    pull_request: Option<String>,
}
