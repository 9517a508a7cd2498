//! Runs as lists: numbers, states, and which are still open.

use std::fmt::Write as _;
use std::sync::Arc;

use assay_model::{Micros, Pipeline, RunId, RunResult, RunState, RunView, TargetId};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::{HeadRow, RunRef};

const LIST: &str = "list runs";

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of this target.
    pub target: Option<TargetId>,
    /// Only of this pipeline.
    pub pipeline: Option<Pipeline>,
    /// Only in this state.
    pub state: Option<RunState>,
    /// At most so many; 0 stands for 100.
    pub limit: u32,
    /// Only with a smaller number: the next page.
    pub before_number: Option<i64>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// As people say it.
    pub number: i64,
    /// Its id.
    pub id: RunId,
    /// What is tested.
    pub target_id: TargetId,
    /// Its name at the time.
    pub target: String,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// `quick`, `standard` or `burnin`.
    pub profile: String,
    /// Where it is in its life.
    pub state: RunState,
    /// The stage that is running or next, from 0.
    pub stage_index: usize,
    /// Its name; none when all are behind.
    pub stage_name: Option<String>,
    /// The result, once there is one.
    pub result: Option<RunResult>,
    /// Whether anything was waived.
    pub overridden: bool,
    /// Where it failed, while it stands failed.
    pub failed_stage: Option<String>,
    /// When it was created.
    pub created_at: Micros,
    /// When it left the queue.
    pub started_at: Option<Micros>,
    /// When it came to its end.
    pub completed_at: Option<Micros>,
    /// Whether its verdict is sealed.
    pub sealed: bool,
}

impl Store {
    /// The run with this number.
    pub async fn run_id(&self, number: i64) -> Result<Option<RunId>, StoreError> {
        let sql = "SELECT id AS run FROM runs WHERE number = $1";
        let row: Option<RunRef> =
            db::one(self.db().reader(), sql, values![number]).await.doing("look up a run by its number")?;
        Ok(row.map(|r| RunId(r.run)))
    }

    /// Runs that are not sealed yet, oldest first: what a dispatcher has to look after.
    pub async fn open_runs(&self) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT id AS run FROM runs WHERE NOT sealed ORDER BY number";
        let rows: Vec<RunRef> = db::all(self.db().reader(), sql, values![]).await.doing("list open runs")?;
        Ok(rows.into_iter().map(|r| RunId(r.run)).collect())
    }

    /// Runs that are not sealed yet, oldest first, folded. One question for all of them: who looks after a thousand
    /// machines cannot ask for each.
    pub async fn open_views(&self) -> Result<Vec<Arc<RunView>>, StoreError> {
        let sql = "SELECT id AS run, head_seq, head_hash, sealed FROM runs WHERE NOT sealed ORDER BY number";
        let rows: Vec<OpenRow> = db::all(self.db().reader(), sql, values![]).await.doing("list open runs")?;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let run = RunId(row.run);
            let head = row.head.decode()?;
            out.push(self.view_at(self.db().reader(), run, &head).await?);
        }
        Ok(out)
    }

    /// Of every target of a pipeline its latest runs, at most `each` of it; newest first.
    pub async fn latest_runs(&self, pipeline: Pipeline, each: u32) -> Result<Vec<RunRow>, StoreError> {
        let sql = "SELECT * FROM (
                SELECT number, id, target_id, target, pipeline, profile, state, stage_index, stage_name, result,
                    overridden, failed_stage, created_at, started_at, completed_at, sealed,
                    ROW_NUMBER() OVER (PARTITION BY target_id ORDER BY number DESC) AS place
                FROM runs WHERE pipeline = $1
            ) AS latest WHERE place <= $2 ORDER BY number DESC";
        let values = values![pipeline.as_str(), i64::from(each)];
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values).await.doing(LIST)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// Runs that ended after `since`, the latest first, at most so many.
    pub async fn runs_ended_since(&self, since: Micros, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let sql =
            "SELECT number, id, target_id, target, pipeline, profile, state, stage_index, stage_name, result,
                overridden, failed_stage, created_at, started_at, completed_at, sealed
            FROM runs WHERE completed_at > $1 ORDER BY completed_at DESC, number DESC LIMIT $2";
        let values = values![since.0, i64::from(limit)];
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values).await.doing(LIST)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// Runs, newest first.
    pub async fn list_runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let mut sql =
            "SELECT number, id, target_id, target, pipeline, profile, state, stage_index, stage_name, result,
                overridden, failed_stage, created_at, started_at, completed_at, sealed
            FROM runs WHERE number < $1"
                .to_owned();
        let mut values = values![filter.before_number.unwrap_or(i64::MAX)];
        if let Some(target) = filter.target {
            values.push(target.0.into());
            let _ = write!(sql, " AND target_id = ${}", values.len());
        }
        if let Some(pipeline) = filter.pipeline {
            values.push(pipeline.as_str().into());
            let _ = write!(sql, " AND pipeline = ${}", values.len());
        }
        if let Some(state) = filter.state {
            values.push(state.as_str().into());
            let _ = write!(sql, " AND state = ${}", values.len());
        }
        values.push(i64::from(if filter.limit == 0 { 100 } else { filter.limit }).into());
        let _ = write!(sql, " ORDER BY number DESC LIMIT ${}", values.len());
        let rows: Vec<Row> = db::all(self.db().reader(), &sql, values).await.doing(LIST)?;
        rows.into_iter().map(Row::decode).collect()
    }
}

#[derive(FromQueryResult)]
struct OpenRow {
    run: Uuid,
    #[sea_orm(nested)]
    head: HeadRow,
}

#[derive(FromQueryResult)]
pub(crate) struct Row {
    number: i64,
    id: Uuid,
    target_id: Uuid,
    target: String,
    pipeline: String,
    profile: String,
    state: String,
    stage_index: i64,
    stage_name: Option<String>,
    result: Option<String>,
    overridden: bool,
    failed_stage: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    completed_at: Option<i64>,
    sealed: bool,
}

impl Row {
    pub(crate) fn decode(self) -> Result<RunRow, StoreError> {
        let unreadable =
            |why: String| StoreError::unreadable(LIST, "run", format!("run {}: {why}", self.number));
        let result = match self.result.as_deref() {
            None => None,
            Some("pass") => Some(RunResult::Pass),
            Some("fail") => Some(RunResult::Fail),
            Some(other) => return Err(unreadable(format!("`{other}` is not a result"))),
        };
        Ok(RunRow {
            state: self
                .state
                .parse()
                .map_err(|e: assay_model::state::UnknownState| unreadable(e.to_string()))?,
            stage_index: usize::try_from(self.stage_index).map_err(|e| unreadable(e.to_string()))?,
            number: self.number,
            id: RunId(self.id),
            target_id: TargetId(self.target_id),
            target: self.target,
            pipeline: self
                .pipeline
                .parse()
                .map_err(|e: assay_model::pipeline::UnknownPipeline| unreadable(e.to_string()))?,
            profile: self.profile,
            stage_name: self.stage_name,
            result,
            overridden: self.overridden,
            failed_stage: self.failed_stage,
            created_at: Micros(self.created_at),
            started_at: self.started_at.map(Micros),
            completed_at: self.completed_at.map(Micros),
            sealed: self.sealed,
        })
    }
}
