//! What goes when its time is over: pins that exempt a run, and rows that nobody can use any more.

use assay_model::{Micros, RunId};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};

const PIN: &str = "pin a run";
const SWEEP: &str = "remove what sealed runs left";

/// A run that retention leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRow {
    /// Which run.
    pub run: RunId,
    /// Who wants it kept.
    pub by: String,
    /// Since when.
    pub at: Micros,
}

/// Rows that were left over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases of runs that are sealed.
    pub leases: u64,
    /// Boot tokens, and credentials of agents and runners, of runs that are sealed.
    pub tokens: u64,
    /// Checkpoints of runs that are sealed.
    pub checkpoints: u64,
    /// Browser sessions that have ended.
    pub sessions: u64,
}

impl Store {
    /// Keeps a run whatever retention says. Pinned again, it keeps its first pin.
    pub async fn pin(&self, run: RunId, by: &str, at: Micros) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO pins (run, pinned_by, pinned_at) VALUES ($1, $2, $3) ON CONFLICT (run) DO NOTHING";
        execute(self.db().writer(), sql, values![run.0, by, at.0]).await.doing(PIN).map(drop)
    }

    /// Lets retention have a run again. False when it was not pinned.
    pub async fn unpin(&self, run: RunId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM pins WHERE run = $1";
        Ok(execute(self.db().writer(), sql, values![run.0]).await.doing(PIN)? == 1)
    }

    /// Every pin, the oldest first.
    pub async fn pins(&self) -> Result<Vec<PinRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            run: Uuid,
            pinned_by: String,
            pinned_at: i64,
        }
        let sql = "SELECT run, pinned_by, pinned_at FROM pins ORDER BY pinned_at, run";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing("list pins")?;
        Ok(rows
            .into_iter()
            .map(|r| PinRow { run: RunId(r.run), by: r.pinned_by, at: Micros(r.pinned_at) })
            .collect())
    }

    /// Counts, and unless `only_count` removes, what runs that were sealed and ended before `before` left behind, and
    /// sessions that ended before `now`.
    pub async fn sweep(&self, before: Micros, now: Micros, only_count: bool) -> Result<Swept, StoreError> {
        const OVER: &str = "run IN (SELECT id FROM runs WHERE sealed AND completed_at < $1)";
        let tx = self.db().begin(SWEEP).await?;
        let mut counts = [0_u64; 6];
        for (place, (table, which, time)) in [
            ("leases", OVER, before),
            ("boot_tokens", OVER, before),
            ("agent_credentials", OVER, before),
            ("runner_tokens", OVER, before),
            ("checkpoints", OVER, before),
            ("sessions", "expires <= $1", now),
        ]
        .into_iter()
        .enumerate()
        {
            counts[place] = execute(&tx, &format!("DELETE FROM {table} WHERE {which}"), values![time.0])
                .await
                .doing(SWEEP)?;
        }
        if !only_count {
            tx.commit().await.doing(SWEEP)?;
        }
        let [leases, boot, agents, runners, checkpoints, sessions] = counts;
        Ok(Swept { leases, tokens: boot + agents + runners, checkpoints, sessions })
    }
}
