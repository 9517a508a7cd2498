//! Checkpoints: where a long stage stands, so that its next try can go on from there. The newest counts.
//!
//! They are no evidence and not in the chain: a collector believes its own, and its evidence says what it did.

use assay_model::{Micros, RunId, StageName};
use sea_orm::FromQueryResult;
use serde_json::Value;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};

const PUT: &str = "store a checkpoint";
const GET: &str = "read a checkpoint";

/// A checkpoint as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    /// Which try saved it.
    pub attempt: u32,
    /// Fencing token of that try.
    pub generation: i64,
    /// When.
    pub saved_at: Micros,
    /// For the collector alone.
    pub state: Value,
}

impl Store {
    /// Replaces a stage's checkpoint. False, and nothing changes, when a newer try has saved one.
    pub async fn checkpoint_put(
        &self,
        run: RunId,
        stage: &StageName,
        row: &CheckpointRow,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO checkpoints (run, stage, attempt, generation, saved_at, state)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (run, stage) DO UPDATE SET attempt = excluded.attempt, generation = excluded.generation,
                saved_at = excluded.saved_at, state = excluded.state
            WHERE checkpoints.generation <= excluded.generation";
        let values = values![
            run.0,
            stage.as_str(),
            i64::from(row.attempt),
            row.generation,
            row.saved_at.0,
            row.state.to_string(),
        ];
        Ok(execute(self.db().writer(), sql, values).await.doing(PUT)? == 1)
    }

    /// A stage's newest checkpoint.
    pub async fn checkpoint(
        &self,
        run: RunId,
        stage: &StageName,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            attempt: i64,
            generation: i64,
            saved_at: i64,
            state: String,
        }
        let sql =
            "SELECT attempt, generation, saved_at, state FROM checkpoints WHERE run = $1 AND stage = $2";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![run.0, stage.as_str()]).await.doing(GET)?;
        let unreadable = |why: String| StoreError::unreadable(GET, "checkpoint", why);
        row.map(|row| {
            Ok(CheckpointRow {
                attempt: u32::try_from(row.attempt).map_err(|e| unreadable(e.to_string()))?,
                generation: row.generation,
                saved_at: Micros(row.saved_at),
                state: serde_json::from_str(&row.state).map_err(|e| unreadable(e.to_string()))?,
            })
        })
        .transpose()
    }
}
