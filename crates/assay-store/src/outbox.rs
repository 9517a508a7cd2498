//! Notifications on their way out. Written with the event that they tell of, sent at most once.
//!
//! `pending → sending → sent | failed`. A row is marked before it is sent, so a crash between the
//! two leaves it in `sending`: whether it went out cannot be known. At the next start it becomes
//! `unknown`, is shown, and is never sent a second time by itself.

use assay_model::{Micros, RunId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, for_update, printable, values};
use crate::error::{Doing as _, StoreError};

const PUT: &str = "put a notification into the outbox";
const CLAIM: &str = "claim a notification";
const READ: &str = "read the outbox";
const STUCK: &str = "mark interrupted notifications";

/// A claimed notification: to be sent now.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Names it.
    pub id: String,
    /// Which kind of news.
    pub event: String,
    /// What sinks are told.
    pub payload: Value,
    /// The run it is about.
    pub run: RunId,
}

/// A notification with what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// The notification.
    pub outgoing: Outgoing,
    /// When it was decided on.
    pub created_at: Micros,
    /// What became of it.
    pub state: OutboxState,
    /// What the sink said.
    pub message: Option<String>,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// Waits.
    Pending,
    /// Claimed; being sent.
    Sending,
    /// A sink took it.
    Sent,
    /// No sink took it.
    Failed,
    /// The server stopped while it was being sent; it may have gone out.
    Unknown,
}

impl OutboxState {
    const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Failed, Self::Unknown];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Store {
    /// Takes the oldest pending notification, if there is one, and marks it as being sent.
    pub async fn outbox_claim(&self, now: Micros) -> Result<Option<Outgoing>, StoreError> {
        let tx = self.db().begin(CLAIM).await?;
        let oldest = for_update(
            &tx,
            "SELECT id, run, event, payload, created_at, state, message FROM outbox
                WHERE state = 'pending' ORDER BY created_at, id LIMIT 1",
            "SELECT id, run, event, payload, created_at, state, message FROM outbox
                WHERE state = 'pending' ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
        );
        let row: Option<Row> = db::one(&tx, oldest, values![]).await.doing(CLAIM)?;
        let Some(row) = row else { return Ok(None) };
        let sql = "UPDATE outbox SET state = 'sending', claimed_at = $2 WHERE id = $1";
        execute(&tx, sql, values![row.id.as_str(), now.0]).await.doing(CLAIM)?;
        let outgoing = row.decode()?.outgoing;
        tx.commit().await.doing(CLAIM)?;
        Ok(Some(outgoing))
    }

    /// Says what became of a claimed notification. False when it is not being sent.
    pub async fn outbox_done(&self, id: &str, ok: bool, message: &str) -> Result<bool, StoreError> {
        let state = if ok { OutboxState::Sent } else { OutboxState::Failed };
        let sql =
            "UPDATE outbox SET state = $2, message = $3 WHERE id = $1 AND state IN ('sending', 'unknown')";
        let values = values![id, state.as_str(), printable(message)];
        Ok(execute(self.db().writer(), sql, values).await.doing("close a notification")? == 1)
    }

    /// To be called once, at the start, before anything is claimed: marks what was being sent when
    /// the server stopped as `unknown`, and returns it.
    pub async fn outbox_stuck(&self) -> Result<Vec<OutboxRow>, StoreError> {
        let tx = self.db().begin(STUCK).await?;
        let sql = "UPDATE outbox SET state = 'unknown' WHERE state = 'sending'
            RETURNING id, run, event, payload, created_at, state, message";
        let rows: Vec<Row> = db::all(&tx, sql, values![]).await.doing(STUCK)?;
        let mut rows: Vec<_> = rows.into_iter().map(Row::decode).collect::<Result<_, _>>()?;
        tx.commit().await.doing(STUCK)?;
        rows.sort_by(|a, b| (a.created_at, &a.outgoing.id).cmp(&(b.created_at, &b.outgoing.id)));
        Ok(rows)
    }

    /// The notifications about a run, oldest first.
    pub async fn outbox_of(&self, run: RunId) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = "SELECT id, run, event, payload, created_at, state, message FROM outbox
            WHERE run = $1 ORDER BY created_at, id";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![run.0]).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }
}

pub(crate) async fn put(
    tx: &DatabaseTransaction,
    run: RunId,
    at: Micros,
    id: &str,
    event: &str,
    payload: &Value,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO outbox (id, run, event, payload, created_at, state)
        VALUES ($1, $2, $3, $4, $5, 'pending') ON CONFLICT (id) DO NOTHING";
    let values = values![id, run.0, event, payload.to_string(), at.0];
    execute(tx, sql, values).await.doing(PUT).map(drop)
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    run: Uuid,
    event: String,
    payload: String,
    created_at: i64,
    state: String,
    message: Option<String>,
}

impl Row {
    fn decode(self) -> Result<OutboxRow, StoreError> {
        let unreadable =
            |why: String| StoreError::unreadable(READ, "notification", format!("`{}`: {why}", self.id));
        let state = OutboxState::ALL
            .into_iter()
            .find(|state| state.as_str() == self.state)
            .ok_or_else(|| unreadable(format!("`{}` is not a state", self.state)))?;
        let payload = serde_json::from_str(&self.payload).map_err(|e| unreadable(e.to_string()))?;
        Ok(OutboxRow {
            outgoing: Outgoing { id: self.id, event: self.event, payload, run: RunId(self.run) },
            created_at: Micros(self.created_at),
            state,
            message: self.message,
        })
    }
}
