//! Batches: many targets that are tested again, some at a time.
//!
//! Each has an id for its run from the beginning. Whether it has begun is whether there is a run of that id, so nothing
//! has to be written down beside the run, and a crash in between cannot make two of one or none.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::{HostId, Micros, RunId, TargetId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::outbox::{self, Outgoing};
use crate::runs::{Row as RunColumns, RunRow};
use crate::schedules::gone;

const PUT: &str = "store a batch";
const READ: &str = "read batches";
const LABEL: &str = "label a host";

/// A batch that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// What is tested and what holds it back: the engine's.
    pub body: Value,
    /// Who asks, as its runs say it.
    pub asked_by: String,
    /// What is tested, the first one first.
    pub items: Vec<NewItem>,
}

/// One of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Which.
    pub target_id: TargetId,
    /// Its name.
    pub target: String,
    /// The id that its run will have.
    pub run: RunId,
    /// Why it is not tested, if it is not.
    pub left_out: Option<String>,
}

/// Where a batch is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// More is begun as there is room.
    Running,
    /// Nothing more is begun; what was begun goes on.
    Stopped {
        /// Who stopped it.
        by: String,
        /// Why.
        why: String,
    },
    /// Nothing is left to be done.
    Ended,
}

impl BatchState {
    /// The stored spelling.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped { .. } => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// Its number.
    pub number: i64,
    /// What is tested and what holds it back: the engine's.
    pub body: Value,
    /// Who asked, as its runs say it.
    pub asked_by: String,
    /// The schedule that it came of, if it did.
    pub schedule: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// Where it is.
    pub state: BatchState,
    /// Since when.
    pub since: Micros,
}

/// One of a batch's targets, with its run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchItemRow {
    /// Its batch.
    pub batch: i64,
    /// Its place, from 0.
    pub ordinal: i64,
    /// What is tested.
    pub target_id: TargetId,
    /// Its name.
    pub target: String,
    /// The id that its run has, or will have.
    pub run_id: RunId,
    /// Its run, once it has begun.
    pub run: Option<RunRow>,
    /// Why it is not tested, if it is not.
    pub left_out: Option<String>,
    /// Whether an operator went on after it had failed.
    pub forgiven: bool,
}

impl Store {
    /// Stores a batch that an operator asks for; its number.
    pub async fn batch_create(&self, batch: &NewBatch, at: Micros) -> Result<i64, StoreError> {
        let tx = self.db().begin(PUT).await?;
        let number = insert(&tx, batch, None, at).await?;
        self.commit_journal(tx, PUT).await?;
        Ok(number)
    }

    /// The batches with a smaller number than this one, the newest first.
    pub async fn batches(&self, before: Option<i64>, limit: u32) -> Result<Vec<BatchRow>, StoreError> {
        let sql = "SELECT number, body, asked_by, schedule, created_at, state, state_by, why, since
            FROM batches WHERE number < $1 ORDER BY number DESC LIMIT $2";
        let values = values![before.unwrap_or(i64::MAX), i64::from(limit)];
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// Those that have not ended, the oldest first.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        let sql = "SELECT number, body, asked_by, schedule, created_at, state, state_by, why, since
            FROM batches WHERE state <> 'ended' ORDER BY number";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// The batch of this number.
    pub async fn batch(&self, number: i64) -> Result<Option<BatchRow>, StoreError> {
        let sql = "SELECT number, body, asked_by, schedule, created_at, state, state_by, why, since
            FROM batches WHERE number = $1";
        let row: Option<Row> = db::one(self.db().reader(), sql, values![number]).await.doing(READ)?;
        row.map(Row::decode).transpose()
    }

    /// A batch's targets in their order, each with its run as it stands.
    pub async fn batch_items(&self, batch: i64) -> Result<Vec<BatchItemRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Item {
            batch: i64,
            ordinal: i64,
            target_id: Uuid,
            target: String,
            run: Uuid,
            left_out: Option<String>,
            forgiven: bool,
        }
        let sql = "SELECT batch, ordinal, target_id, target, run, left_out, forgiven
            FROM batch_items WHERE batch = $1 ORDER BY ordinal";
        let items: Vec<Item> = db::all(self.db().reader(), sql, values![batch]).await.doing(READ)?;
        let sql =
            "SELECT number, id, target_id, target, pipeline, profile, state, stage_index, stage_name, result,
                overridden, failed_stage, created_at, started_at, completed_at, sealed
            FROM runs WHERE id IN (SELECT run FROM batch_items WHERE batch = $1)";
        let runs: Vec<RunColumns> = db::all(self.db().reader(), sql, values![batch]).await.doing(READ)?;
        let runs: Vec<RunRow> = runs.into_iter().map(RunColumns::decode).collect::<Result<_, _>>()?;
        let mut runs: BTreeMap<RunId, RunRow> = runs.into_iter().map(|run| (run.id, run)).collect();
        let decode = |item: Item| BatchItemRow {
            batch: item.batch,
            ordinal: item.ordinal,
            target_id: TargetId(item.target_id),
            target: item.target,
            run_id: RunId(item.run),
            run: runs.remove(&RunId(item.run)),
            left_out: item.left_out,
            forgiven: item.forgiven,
        };
        Ok(items.into_iter().map(decode).collect())
    }

    /// Says why a target is not tested after all. What was said already stays.
    pub async fn batch_leave_out(&self, batch: i64, ordinal: i64, why: &str) -> Result<(), StoreError> {
        let sql =
            "UPDATE batch_items SET left_out = $3 WHERE batch = $1 AND ordinal = $2 AND left_out IS NULL";
        execute(self.db().writer(), sql, values![batch, ordinal, printable(why)]).await.doing(PUT).map(drop)
    }

    /// Moves a batch from where it was seen to another state. False when it is not there any more: then nothing was done.
    pub async fn batch_move(
        &self,
        number: i64,
        from: &BatchState,
        to: &BatchState,
        at: Micros,
    ) -> Result<bool, StoreError> {
        let (by, why) = match to {
            BatchState::Stopped { by, why } => (Some(by.clone()), Some(printable(why))),
            BatchState::Running | BatchState::Ended => (None, None),
        };
        let sql = "UPDATE batches SET state = $3, state_by = $4, why = $5, since = $6
            WHERE number = $1 AND state = $2";
        let values = values![number, from.as_str(), to.as_str(), by, why, at.0];
        Ok(execute(self.db().writer(), sql, values).await.doing(PUT)? == 1)
    }

    /// Stops a batch that is running, and puts what is to be told of it into the outbox; both or neither. False when it is not running.
    pub async fn batch_stop(
        &self,
        number: i64,
        (by, why): (&str, &str),
        news: Option<&Outgoing>,
        at: Micros,
    ) -> Result<bool, StoreError> {
        let tx = self.db().begin(PUT).await?;
        let sql = "UPDATE batches SET state = 'stopped', state_by = $2, why = $3, since = $4
            WHERE number = $1 AND state = 'running'";
        if execute(&tx, sql, values![number, by, printable(why), at.0]).await.doing(PUT)? == 0 {
            return Ok(false);
        }
        if let Some(Outgoing { id, event, payload, run }) = news {
            outbox::put(&tx, *run, at, id, event, payload).await?;
        }
        self.commit_journal(tx, PUT).await?;
        Ok(true)
    }

    /// Lets a stopped batch go on; the failures of these targets do not count any more. False when it is not stopped.
    pub async fn batch_resume(&self, number: i64, forgiven: &[i64], at: Micros) -> Result<bool, StoreError> {
        let tx = self.db().begin(PUT).await?;
        let sql = "UPDATE batches SET state = 'running', state_by = NULL, why = NULL, since = $2
            WHERE number = $1 AND state = 'stopped'";
        if execute(&tx, sql, values![number, at.0]).await.doing(PUT)? == 0 {
            return Ok(false);
        }
        for ordinal in forgiven {
            let sql = "UPDATE batch_items SET forgiven = $3 WHERE batch = $1 AND ordinal = $2";
            if execute(&tx, sql, values![number, *ordinal, true]).await.doing(PUT)? == 0 {
                return Err(gone(PUT, "one of the batch's targets"));
            }
        }
        self.commit_journal(tx, PUT).await?;
        Ok(true)
    }

    /// The labels of all hosts that have any.
    pub async fn host_labels(&self) -> Result<BTreeMap<HostId, BTreeSet<String>>, StoreError> {
        #[derive(FromQueryResult)]
        struct Label {
            host: Uuid,
            label: String,
        }
        let sql = "SELECT host, label FROM host_labels ORDER BY host, label";
        let rows: Vec<Label> = db::all(self.db().reader(), sql, values![]).await.doing(LABEL)?;
        let mut labels: BTreeMap<HostId, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            labels.entry(HostId(row.host)).or_default().insert(row.label);
        }
        Ok(labels)
    }

    /// Gives a host these labels and no others.
    pub async fn host_label(&self, host: HostId, labels: &BTreeSet<String>) -> Result<(), StoreError> {
        let tx = self.db().begin(LABEL).await?;
        execute(&tx, "DELETE FROM host_labels WHERE host = $1", values![host.0]).await.doing(LABEL)?;
        for label in labels {
            let sql = "INSERT INTO host_labels (host, label) VALUES ($1, $2)";
            execute(&tx, sql, values![host.0, label.as_str()]).await.doing(LABEL)?;
        }
        tx.commit().await.doing(LABEL)
    }
}

/// Stores a batch within a transaction; its number.
pub(crate) async fn insert(
    tx: &DatabaseTransaction,
    batch: &NewBatch,
    schedule: Option<&str>,
    at: Micros,
) -> Result<i64, StoreError> {
    let number = db::next_number(tx, "batch").await.doing(PUT)?;
    let sql =
        "INSERT INTO batches (number, body, asked_by, schedule, created_at, state, state_by, why, since)
        VALUES ($1, $2, $3, $4, $5, 'running', NULL, NULL, $5)";
    let schedule = schedule.map(str::to_owned);
    let values = values![number, batch.body.to_string(), batch.asked_by.as_str(), schedule, at.0];
    execute(tx, sql, values).await.doing(PUT)?;
    for (ordinal, item) in (0_i64..).zip(&batch.items) {
        let sql = "INSERT INTO batch_items (batch, ordinal, target_id, target, run, left_out, forgiven)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let left_out = item.left_out.as_deref().map(printable);
        let target = printable(&item.target);
        let values = values![number, ordinal, item.target_id.0, target, item.run.0, left_out, false];
        execute(tx, sql, values).await.doing(PUT)?;
    }
    Ok(number)
}

#[derive(FromQueryResult)]
struct Row {
    number: i64,
    body: String,
    asked_by: String,
    schedule: Option<String>,
    created_at: i64,
    state: String,
    state_by: Option<String>,
    why: Option<String>,
    since: i64,
}

impl Row {
    fn decode(self) -> Result<BatchRow, StoreError> {
        let unreadable =
            |why: String| StoreError::unreadable(READ, "batch", format!("{}: {why}", self.number));
        let state = match (self.state.as_str(), self.state_by.clone(), self.why.clone()) {
            ("running", None, None) => BatchState::Running,
            ("stopped", Some(by), Some(why)) => BatchState::Stopped { by, why },
            ("ended", None, None) => BatchState::Ended,
            (other, ..) => return Err(unreadable(format!("its state `{other}` is none, or half of one"))),
        };
        Ok(BatchRow {
            body: serde_json::from_str(&self.body).map_err(|e| unreadable(e.to_string()))?,
            number: self.number,
            asked_by: self.asked_by,
            schedule: self.schedule,
            created_at: Micros(self.created_at),
            state,
            since: Micros(self.since),
        })
    }
}
