//! Schedules, and what became of each of their times.
//!
//! A time is taken in one transaction: its row, the mark up to which the schedule is done, and the batch with all that
//! is to be tested. So a crash leaves either nothing of it or all of it, and no time is taken twice.

use assay_model::Micros;
use sea_orm::FromQueryResult;
use serde_json::Value;

use crate::Store;
use crate::batches::{self, NewBatch};
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};

const PUT: &str = "store a schedule";
const READ: &str = "read schedules";
const TAKE: &str = "take a schedule's time";

/// Times of a schedule that are remembered, and with them its batches.
const KEPT: i64 = 100;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// When, and what is tested: the engine's.
    pub body: Value,
    /// Who wrote it first.
    pub created_by: String,
    /// When.
    pub created_at: Micros,
    /// When it was last written.
    pub changed_at: Micros,
    /// Who let it rest, if somebody did.
    pub paused: Option<Pause>,
    /// All its times up to this one are dealt with.
    pub done_through: Micros,
}

/// Who let a schedule rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// An operator's name.
    pub by: String,
    /// Since when.
    pub at: Micros,
}

/// Why a schedule's time was dealt with when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickKind {
    /// Its time had come.
    Due,
    /// Its time had come while nobody was there.
    CaughtUp,
    /// Its time had come so long ago that it was left out.
    Missed,
    /// An operator asked for it out of turn.
    Asked,
}

impl TickKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Due, Self::CaughtUp, Self::Missed, Self::Asked];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::CaughtUp => "caught_up",
            Self::Missed => "missed",
            Self::Asked => "asked",
        }
    }
}

/// What became of a schedule's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickRow {
    /// Which time.
    pub due: Micros,
    /// When it was dealt with.
    pub at: Micros,
    /// Why then.
    pub kind: TickKind,
    /// How many times before it were missed.
    pub missed: u32,
    /// The batch that it became; none where nothing was to be tested.
    pub batch: Option<i64>,
    /// What is to be said of it.
    pub note: String,
}

/// A schedule's time that is to be dealt with.
#[derive(Clone, Debug)]
pub struct NewTick {
    /// Which schedule.
    pub schedule: String,
    /// How far the schedule was done when this was decided. Another value by now, and nothing happens.
    pub done_through: Micros,
    /// Which time.
    pub due: Micros,
    /// When it is dealt with.
    pub at: Micros,
    /// Why now.
    pub kind: TickKind,
    /// How many times before it were missed.
    pub missed: u32,
    /// What is to be said of it.
    pub note: String,
    /// What is to be tested; none where nothing is.
    pub batch: Option<NewBatch>,
}

impl Store {
    /// Stores a schedule, or what is to be done from now on by the one of this name: it is done through `row.changed_at` then,
    /// and stays as it was paused.
    pub async fn schedule_put(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO schedules
                (name, body, created_by, created_at, changed_at, paused_by, paused_at, done_through)
            VALUES ($1, $2, $3, $4, $5, NULL, NULL, $6)
            ON CONFLICT (name) DO UPDATE SET body = excluded.body, changed_at = excluded.changed_at,
                done_through = excluded.done_through";
        let values = values![
            row.name.as_str(),
            row.body.to_string(),
            row.created_by.as_str(),
            row.created_at.0,
            row.changed_at.0,
            row.done_through.0,
        ];
        execute(self.db().writer(), sql, values).await.doing(PUT).map(drop)
    }

    /// Every schedule, by name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        let sql = "SELECT name, body, created_by, created_at, changed_at, paused_by, paused_at, done_through
            FROM schedules ORDER BY name";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// The schedule of this name.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        let sql = "SELECT name, body, created_by, created_at, changed_at, paused_by, paused_at, done_through
            FROM schedules WHERE name = $1";
        let row: Option<Row> = db::one(self.db().reader(), sql, values![name]).await.doing(READ)?;
        row.map(Row::decode).transpose()
    }

    /// Lets a schedule rest, or go on: then it is done through `at`, and what its rest left out stays left out. False when
    /// there is none of this name.
    pub async fn schedule_pause(&self, name: &str, by: Option<&str>, at: Micros) -> Result<bool, StoreError> {
        let (sql, values) = match by {
            Some(by) => (
                "UPDATE schedules SET paused_by = $2, paused_at = $3 WHERE name = $1",
                values![name, by, at.0],
            ),
            None => (
                "UPDATE schedules SET paused_by = NULL, paused_at = NULL,
                    done_through = CASE WHEN paused_by IS NULL THEN done_through ELSE $2 END
                WHERE name = $1",
                values![name, at.0],
            ),
        };
        Ok(execute(self.db().writer(), sql, values).await.doing(PUT)? == 1)
    }

    /// Forgets a schedule and what became of its times; its batches and runs stay. False when there is none of this name.
    pub async fn schedule_remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed =
            execute(self.db().writer(), "DELETE FROM schedules WHERE name = $1", values![name]).await;
        Ok(removed.doing("remove a schedule")? == 1)
    }

    /// Deals with a schedule's time, with all that comes of it; the number of its batch. False when somebody else was faster, or
    /// the schedule has changed since: then nothing was done.
    pub async fn schedule_take(&self, tick: &NewTick) -> Result<(bool, Option<i64>), StoreError> {
        let tx = self.db().begin(TAKE).await?;
        // What is asked for out of turn moves no mark, also while it rests; the same statement locks the row and sees whether it
        // is as it was.
        let (sql, through) = if tick.kind == TickKind::Asked {
            let sql = "UPDATE schedules SET done_through = $3 WHERE name = $1 AND done_through = $2";
            (sql, tick.done_through)
        } else {
            let sql = "UPDATE schedules SET done_through = $3
                WHERE name = $1 AND done_through = $2 AND paused_by IS NULL";
            (sql, tick.due)
        };
        let values = values![tick.schedule.as_str(), tick.done_through.0, through.0];
        if execute(&tx, sql, values).await.doing(TAKE)? == 0 {
            return Ok((false, None));
        }
        let batch = match &tick.batch {
            Some(new) => Some(batches::insert(&tx, new, Some(&tick.schedule), tick.at).await?),
            None => None,
        };
        let sql = "INSERT INTO schedule_ticks (schedule, due, at, kind, missed, batch, note)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = values![
            tick.schedule.as_str(),
            tick.due.0,
            tick.at.0,
            tick.kind.as_str(),
            i64::from(tick.missed),
            batch,
            printable(&tick.note),
        ];
        execute(&tx, sql, values).await.doing(TAKE)?;
        // One that comes every minute must not fill the disk.
        let sql = "DELETE FROM schedule_ticks WHERE schedule = $1 AND due < (
                SELECT MIN(due) FROM (SELECT due FROM schedule_ticks WHERE schedule = $1 ORDER BY due DESC LIMIT $2) AS kept)";
        execute(&tx, sql, values![tick.schedule.as_str(), KEPT]).await.doing(TAKE)?;
        let sql = "DELETE FROM batches WHERE schedule = $1 AND state = 'ended'
            AND NOT EXISTS (SELECT 1 FROM schedule_ticks t WHERE t.batch = batches.number)";
        execute(&tx, sql, values![tick.schedule.as_str()]).await.doing(TAKE)?;
        self.commit_journal(tx, TAKE).await?;
        Ok((true, batch))
    }

    /// What became of a schedule's times, the latest first.
    pub async fn schedule_ticks(&self, name: &str, limit: u32) -> Result<Vec<TickRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Tick {
            due: i64,
            at: i64,
            kind: String,
            missed: i64,
            batch: Option<i64>,
            note: String,
        }
        let sql = "SELECT due, at, kind, missed, batch, note FROM schedule_ticks
            WHERE schedule = $1 ORDER BY due DESC LIMIT $2";
        let rows: Vec<Tick> =
            db::all(self.db().reader(), sql, values![name, i64::from(limit)]).await.doing(READ)?;
        let decode = |row: Tick| {
            let kind = TickKind::ALL.into_iter().find(|kind| kind.as_str() == row.kind);
            Ok(TickRow {
                due: Micros(row.due),
                at: Micros(row.at),
                kind: kind.ok_or_else(|| {
                    StoreError::unreadable(READ, "schedule's time", format!("`{}` is no kind", row.kind))
                })?,
                missed: u32::try_from(row.missed.max(0)).unwrap_or(u32::MAX),
                batch: row.batch,
                note: row.note,
            })
        };
        rows.into_iter().map(decode).collect()
    }
}

#[derive(FromQueryResult)]
struct Row {
    name: String,
    body: String,
    created_by: String,
    created_at: i64,
    changed_at: i64,
    paused_by: Option<String>,
    paused_at: Option<i64>,
    done_through: i64,
}

impl Row {
    fn decode(self) -> Result<ScheduleRow, StoreError> {
        let unreadable =
            |why: String| StoreError::unreadable(READ, "schedule", format!("`{}`: {why}", self.name));
        let paused = match (self.paused_by.clone(), self.paused_at) {
            (None, None) => None,
            (Some(by), Some(at)) => Some(Pause { by, at: Micros(at) }),
            _ => return Err(unreadable("who paused it or when is missing".to_owned())),
        };
        Ok(ScheduleRow {
            body: serde_json::from_str(&self.body).map_err(|e| unreadable(e.to_string()))?,
            paused,
            created_by: self.created_by,
            created_at: Micros(self.created_at),
            changed_at: Micros(self.changed_at),
            done_through: Micros(self.done_through),
            name: self.name,
        })
    }
}

/// That a row which must be there is gone.
pub(crate) fn gone(operation: &'static str, what: &str) -> StoreError {
    StoreError::new(operation, StoreErrorKind::Conflict(format!("{what} is gone; read again")))
}
