//! Bulk rows: what is too much for the chain (sensor batches, log chunks), and how it is bound to it.
//!
//! **Group commit.** Thousands of machines report every few seconds, and each wants its row on disk
//! before it forgets it. One writer gathers what arrives within a short window, commits it together,
//! and only then answers everyone.
//!
//! **Days.** Rows live in a table per day, so that retention drops whole tables. The day is that of
//! the *run's creation*, not of the row: a run's rows stay together, its uniqueness by `(run, boot,
//! seq)` holds whatever times a machine claims, and no machine can make tables.
//!
//! **Binding.** A run's rows of a kind are numbered from 1 in the order of their commit. Every
//! minute the dispatcher puts the digest of the new ones into the journal ([`Store::bulk_unsealed`]).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use assay_model::{Micros, RunId, Sha256};
use chrono::DateTime;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};
use sha2::Digest as _;
use tokio::sync::{mpsc, oneshot};

use crate::Store;
use crate::db::{self, Db, execute, schema, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::packed::PackedBatch;
use crate::rollups::{Dictionary, Rollups};

const APPEND: &str = "store a bulk row";
const BIND: &str = "bind bulk rows to the chain";
const DROP: &str = "drop old bulk rows";

/// How long the first of a group waits for others. Well under the 50 ms that an agent may wait.
const WINDOW: Duration = Duration::from_millis(20);
/// At most so many rows in one transaction.
const GROUP: usize = 2048;
/// So many may wait; more wait to wait.
const BACKLOG: usize = 8192;
/// At most so many rows are bound by one event; the next tick takes the rest.
const BOUND_AT_ONCE: i64 = 20_000;
const MICROS_PER_DAY: i64 = 86_400 * 1_000_000;

/// A kind of bulk rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bulk {
    /// Readings of sensors.
    Sensors,
    /// Chunks of log lines.
    Log,
}

impl Bulk {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Sensors, Self::Log];

    /// As it stands in `BulkSealed` events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sensors => "sensors",
            Self::Log => "log",
        }
    }

    /// Reads the spelling of `BulkSealed` events.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }

    /// The table of a day. Made of a number and fixed words: nothing in it comes from outside.
    pub(crate) fn table(self, day: i64) -> String {
        let date =
            DateTime::from_timestamp(day.saturating_mul(86_400), 0).map(|t| t.format("%Y%m%d").to_string());
        format!("{}_{}", self.as_str(), date.unwrap_or_else(|| format!("day{}", day.unsigned_abs())))
    }
}

impl fmt::Display for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Rows to bind to the chain: the fields of a `BulkSealed` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkRange {
    /// Number of the first row.
    pub from: i64,
    /// Number of the last row.
    pub to: i64,
    /// How many.
    pub rows: u64,
    /// Over their stored bytes, in order.
    pub digest: Sha256,
}

impl Store {
    /// The rows that no `BulkSealed` event covers yet; none when there are none.
    pub async fn bulk_unsealed(&self, run: RunId, what: Bulk) -> Result<Option<BulkRange>, StoreError> {
        let Some(view) = self.view(run).await? else { return Ok(None) };
        let bound = view.bulk.iter().filter(|b| b.what == what.as_str()).map(|b| b.to).max().unwrap_or(0);
        self.bulk_range(run, what, bound + 1, bound + BOUND_AT_ONCE).await
    }

    /// The digest of a range of rows as they are stored now, to compare with the one in the chain.
    /// None when retention has dropped them, or when none of them is there.
    pub async fn bulk_digest(
        &self,
        run: RunId,
        what: Bulk,
        from: i64,
        to: i64,
    ) -> Result<Option<BulkRange>, StoreError> {
        self.bulk_range(run, what, from, to).await
    }

    /// Drops the bulk rows of one kind of every run created before the day of `at`, whole days at a
    /// time. Days that still have an unsealed run are kept. Returns the names of the tables dropped.
    pub async fn bulk_drop_before(&self, what: Bulk, at: Micros) -> Result<Vec<String>, StoreError> {
        #[derive(FromQueryResult)]
        struct Day {
            day: i64,
        }
        let tx = self.db().begin(DROP).await?;
        let sql = "SELECT day FROM bulk_days WHERE what = $1 AND NOT dropped AND day < $2
            AND NOT EXISTS (SELECT 1 FROM runs WHERE NOT sealed
                AND created_at >= bulk_days.day * $3 AND created_at < (bulk_days.day + 1) * $3)
            ORDER BY day";
        let values = values![what.as_str(), day_of(at), MICROS_PER_DAY];
        let days: Vec<Day> = db::all(&tx, sql, values).await.doing(DROP)?;
        let mut tables = Vec::with_capacity(days.len());
        for Day { day } in days {
            let table = what.table(day);
            tx.execute_unprepared(&format!("DROP TABLE {table}")).await.doing(DROP)?;
            let sql = "UPDATE bulk_days SET dropped = $3 WHERE what = $1 AND day = $2";
            execute(&tx, sql, values![what.as_str(), day, true]).await.doing(DROP)?;
            tables.push(table);
        }
        tx.commit().await.doing(DROP)?;
        Ok(tables)
    }

    /// The table that holds a run's rows; none when the run is unknown or the table was dropped.
    pub(crate) async fn bulk_table(&self, run: RunId, what: Bulk) -> Result<Option<String>, StoreError> {
        Ok(match place(self.db().reader(), run, what).await.doing("find a run's bulk rows")? {
            Place::Table(table) => Some(table),
            Place::Dropped | Place::NoSuchRun => None,
        })
    }

    async fn bulk_range(
        &self,
        run: RunId,
        what: Bulk,
        from: i64,
        to: i64,
    ) -> Result<Option<BulkRange>, StoreError> {
        let Some(table) = self.bulk_table(run, what).await? else { return Ok(None) };
        let sql = format!(
            "SELECT id, boot, seq, body FROM {table} WHERE run = $1 AND id >= $2 AND id <= $3 ORDER BY id"
        );
        let rows: Vec<Bound> =
            db::all(self.db().reader(), &sql, values![run.0, from, to]).await.doing(BIND)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
        let mut hash = sha2::Sha256::new();
        for row in &rows {
            for number in [row.id, row.boot, row.seq, row.body.len() as i64] {
                hash.update(number.to_be_bytes());
            }
            hash.update(&row.body);
        }
        let digest = Sha256(hash.finalize().into());
        Ok(Some(BulkRange { from: first.id, to: last.id, rows: rows.len() as u64, digest }))
    }
}

#[derive(FromQueryResult)]
struct Bound {
    id: i64,
    boot: i64,
    seq: i64,
    body: Vec<u8>,
}

/// Makes the tables of a day, with the day's first run. The caller holds the lock on run numbers,
/// so two servers do not both try.
pub(crate) async fn ensure_day(tx: &DatabaseTransaction, at: Micros) -> Result<(), DbErr> {
    let day = day_of(at);
    for what in Bulk::ALL {
        let sql = "INSERT INTO bulk_days (what, day, dropped) VALUES ($1, $2, $3) ON CONFLICT (what, day) DO NOTHING";
        if execute(tx, sql, values![what.as_str(), day, false]).await? == 0 {
            continue;
        }
        let table = what.table(day);
        let sql = format!(
            "CREATE TABLE {table} (
                run {{uuid}} NOT NULL REFERENCES runs (id),
                id bigint NOT NULL,
                boot bigint NOT NULL,
                seq bigint NOT NULL,
                body {{blob}} NOT NULL,
                PRIMARY KEY (run, id),
                UNIQUE (run, boot, seq)
            ) {{clustered}}"
        );
        tx.execute_unprepared(&schema(tx.get_database_backend(), &sql)).await?;
    }
    Ok(())
}

enum Place {
    Table(String),
    Dropped,
    NoSuchRun,
}

async fn place(db: &impl ConnectionTrait, run: RunId, what: Bulk) -> Result<Place, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        day: i64,
        dropped: bool,
    }
    let sql = "SELECT d.day AS day, d.dropped AS dropped FROM runs r
        JOIN bulk_days d ON d.what = $2 AND r.created_at >= d.day * $3 AND r.created_at < (d.day + 1) * $3
        WHERE r.id = $1";
    let row: Option<Row> = db::one(db, sql, values![run.0, what.as_str(), MICROS_PER_DAY]).await?;
    Ok(match row {
        None => Place::NoSuchRun,
        Some(Row { dropped: true, .. }) => Place::Dropped,
        Some(Row { day, .. }) => Place::Table(what.table(day)),
    })
}

const fn day_of(at: Micros) -> i64 {
    at.0.div_euclid(MICROS_PER_DAY)
}

/// A row on its way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) run: RunId,
    pub(crate) boot: u32,
    pub(crate) seq: i64,
    pub(crate) payload: Payload,
}

#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Sensors(PackedBatch),
    Log(Vec<u8>),
}

/// The way to the task that commits bulk rows in groups.
#[derive(Debug)]
pub(crate) struct BulkWriter {
    queue: mpsc::Sender<Request>,
}

struct Request {
    row: NewRow,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl BulkWriter {
    /// Starts the task; it ends when the store is dropped and everything queued is answered.
    pub(crate) fn start(db: Db) -> Self {
        let (queue, requests) = mpsc::channel(BACKLOG);
        tokio::spawn(write_groups(db, requests));
        Self { queue }
    }

    /// Resolves once the row is committed, or was committed before.
    pub(crate) async fn append(&self, row: NewRow) -> Result<(), StoreError> {
        let closing = || StoreError::new(APPEND, StoreErrorKind::Closing);
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request { row, reply }).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }
}

async fn write_groups(db: Db, mut requests: mpsc::Receiver<Request>) {
    let mut known = Known::default();
    while let Some(first) = requests.recv().await {
        let mut group = vec![first];
        // A closed queue or a full group ends the wait early; so does the window.
        let _ = tokio::time::timeout(WINDOW, async {
            while group.len() < GROUP {
                match requests.recv().await {
                    Some(more) => group.push(more),
                    None => break,
                }
            }
        })
        .await;
        commit_group(&db, &mut known, group).await;
    }
}

/// Commits all rows together; if that fails, each by itself, so that a bad row fails alone.
async fn commit_group(db: &Db, known: &mut Known, group: Vec<Request>) {
    let (rows, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|r| (r.row, r.reply)).unzip();
    let together = commit(db, known, &rows).await;
    if together.is_err() {
        // A table may have been dropped, or another server may have numbered sensors meanwhile.
        *known = Known::default();
    }
    for (row, reply) in rows.iter().zip(replies) {
        let result = match &together {
            Ok(()) => Ok(()),
            Err(error) if error.is_transient() => Err(error.clone()),
            Err(_) => commit(db, known, std::slice::from_ref(row)).await,
        };
        // Who no longer waits will send it again, and it will be found committed.
        let _ = reply.send(result);
    }
}

/// What the writer need not ask the database again. Only ever holds what is committed.
#[derive(Debug, Default)]
struct Known {
    tables: HashMap<(RunId, Bulk), String>,
    dictionary: Dictionary,
}

/// Beyond so many runs it is cheaper to forget all than to keep track of which are over.
const KNOWN_RUNS: usize = 20_000;

async fn commit(db: &Db, known: &mut Known, rows: &[NewRow]) -> Result<(), StoreError> {
    if known.tables.len() > KNOWN_RUNS {
        *known = Known::default();
    }
    let tx = db.begin(APPEND).await?;
    let mut rollups = Rollups::default();
    for row in rows {
        let (what, body) = match &row.payload {
            Payload::Sensors(batch) => (Bulk::Sensors, &batch.body),
            Payload::Log(body) => (Bulk::Log, body),
        };
        let table = known_table(&tx, known, row.run, what).await?;
        // Number and row in one statement; the WHERE lets SQLite tell ON CONFLICT from a join's ON.
        let sql = format!(
            "INSERT INTO {table} (run, id, boot, seq, body)
                SELECT $1, COALESCE(MAX(id), 0) + 1, $2, $3, $4 FROM {table} WHERE run = $1
                ON CONFLICT (run, boot, seq) DO NOTHING"
        );
        let values = values![row.run.0, i64::from(row.boot), row.seq, body.clone()];
        let new = execute(&tx, &sql, values).await.doing(APPEND)? == 1;
        if new && let Payload::Sensors(batch) = &row.payload {
            rollups.add(row.run, batch);
        }
    }
    let learned = rollups.write(&tx, &known.dictionary).await?;
    tx.commit().await.doing(APPEND)?;
    known.dictionary.learn(learned);
    Ok(())
}

async fn known_table(
    tx: &DatabaseTransaction,
    known: &mut Known,
    run: RunId,
    what: Bulk,
) -> Result<String, StoreError> {
    if let Some(table) = known.tables.get(&(run, what)) {
        return Ok(table.clone());
    }
    match place(tx, run, what).await.doing(APPEND)? {
        Place::Table(table) => {
            known.tables.insert((run, what), table.clone());
            Ok(table)
        }
        Place::Dropped => Err(StoreError::new(APPEND, StoreErrorKind::Pruned)),
        Place::NoSuchRun => {
            Err(StoreError::new(APPEND, StoreErrorKind::Conflict(format!("there is no run {run}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_table_name() {
        let noon = Micros(20_778 * MICROS_PER_DAY + MICROS_PER_DAY / 2);
        assert_eq!(Bulk::Sensors.table(day_of(noon)), "sensors_20261121");
        assert_eq!(Bulk::Log.table(day_of(Micros(0))), "log_19700101");
        assert_eq!(Bulk::Log.table(day_of(Micros(-1))), "log_19691231");
        assert_eq!(Bulk::parse("sensors"), Some(Bulk::Sensors));
        assert_eq!(Bulk::parse("Sensors"), None);
    }
}
