//! Notifications on their way out: one row per piece of news, one per sink that is to be told.
//!
//! News is written in the same transaction as the event that it tells of. It is then *routed*: in
//! one transaction it gets a delivery per sink. Deliveries are independent, so a sink that is down
//! holds up no other:
//!
//! ```text
//! pending → sending → sent
//!    ↑         ├────→ failed    the sink will never take it, or was away too long
//!    ├─────────┤                certainly not delivered: again later
//!    └─────────┴────→ unknown   nobody knows whether it was delivered
//! ```
//!
//! A delivery is marked before it is made, so a crash between the two leaves it in `sending`. Whether
//! it went out cannot be known: it becomes `unknown`, is shown, and is not made a second time by
//! itself; unless its sink drops repeats, then it is made again.

use assay_model::{Micros, RunId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, for_update, printable, values};
use crate::error::{Doing as _, StoreError};

const PUT: &str = "put a notification into the outbox";
const ROUTE: &str = "settle a notification's sinks";
const CLAIM: &str = "claim a delivery";

/// What is claimed next: the oldest that is due, or the oldest of all if it was not tried since another became due.
macro_rules! next {
    ($lock:literal) => {
        concat!(
            "SELECT d.notification, d.attempts FROM deliveries d JOIN outbox o ON o.id = d.notification
            WHERE d.state = 'pending' AND d.sink = $1 AND (d.due_at <= $2 OR (
                NOT EXISTS (
                    SELECT 1 FROM deliveries e JOIN outbox p ON p.id = e.notification
                    WHERE e.state = 'pending' AND e.sink = $1
                        AND (p.created_at < o.created_at OR (p.created_at = o.created_at AND p.id < o.id)))
                AND EXISTS (
                    SELECT 1 FROM deliveries x
                    WHERE x.state = 'pending' AND x.sink = $1 AND x.due_at <= $2 AND x.due_at > d.changed_at)))
            ORDER BY o.created_at, o.id LIMIT 1 ",
            $lock
        )
    };
}
const CLOSE: &str = "close a delivery";
const READ: &str = "read the outbox";
const STUCK: &str = "mark interrupted deliveries";

/// A notification.
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
    /// What became of it: of its deliveries the one that is worst off.
    pub state: OutboxState,
    /// What the sinks said.
    pub message: Option<String>,
}

/// A claimed delivery: to be made now.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// What is to be told.
    pub outgoing: Outgoing,
    /// When it was decided on.
    pub created_at: Micros,
    /// How often it was tried, this time included.
    pub attempts: u32,
}

/// A delivery as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The notification.
    pub notification: String,
    /// Which kind of news.
    pub event: String,
    /// The run it is about.
    pub run: RunId,
    /// The run's number.
    pub run_number: i64,
    /// The sink.
    pub sink: String,
    /// What became of it.
    pub state: OutboxState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it waits.
    pub due_at: Micros,
    /// When it last changed.
    pub changed_at: Micros,
    /// What the sink said last.
    pub message: Option<String>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink took it.
    Sent,
    /// Not delivered; try again then.
    Retry(Micros),
    /// Not delivered, and it will not be.
    Failed,
    /// It may have been delivered.
    Unknown,
}

/// What became of a notification or of one of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutboxState {
    /// The sink took it; of a notification: every sink that wanted it.
    Sent,
    /// The sink did not take it, and it is not tried again.
    Failed,
    /// It may have gone out.
    Unknown,
    /// Waits.
    Pending,
    /// Being sent.
    Sending,
}

impl OutboxState {
    const ALL: [Self; 5] = [Self::Sent, Self::Failed, Self::Unknown, Self::Pending, Self::Sending];

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

    fn read(text: &str) -> Result<Self, String> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| format!("`{text}` is not a state"))
    }
}

/// A sink's deliveries, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkTally {
    /// How many wait or are being made.
    pub pending: u64,
    /// How many were given up.
    pub failed: u64,
    /// Of how many nobody knows.
    pub unknown: u64,
    /// When it last took one.
    pub last_success: Option<Micros>,
    /// When a try last did not work, and why, if that was after its last success.
    pub last_error: Option<(Micros, String)>,
}

impl Store {
    /// Notifications whose sinks are not settled yet, oldest first.
    pub async fn outbox_unrouted(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = "SELECT id, run, event, payload, created_at, state, message FROM outbox
            WHERE state = 'pending' AND routed_at IS NULL ORDER BY created_at, id LIMIT $1";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![i64::from(limit)]).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// Settles a notification's sinks, and what they are told: one delivery each, due at once. False
    /// when somebody else has done so. A notification for nobody is done with.
    pub async fn outbox_route(
        &self,
        id: &str,
        payload: &Value,
        sinks: &[&str],
        now: Micros,
    ) -> Result<bool, StoreError> {
        let tx = self.db().begin(ROUTE).await?;
        let sql = "UPDATE outbox SET routed_at = $2, payload = $3 WHERE id = $1 AND routed_at IS NULL
            AND state = 'pending'";
        if execute(&tx, sql, values![id, now.0, payload.to_string()]).await.doing(ROUTE)? != 1 {
            return Ok(false);
        }
        for sink in sinks {
            let sql = "INSERT INTO deliveries (notification, sink, state, attempts, due_at, changed_at)
                VALUES ($1, $2, 'pending', 0, $3, $3)";
            execute(&tx, sql, values![id, *sink, now.0]).await.doing(ROUTE)?;
        }
        if sinks.is_empty() {
            let sql = "UPDATE outbox SET state = 'sent', message = 'no sink wants it' WHERE id = $1";
            execute(&tx, sql, values![id]).await.doing(ROUTE)?;
        }
        tx.commit().await.doing(ROUTE)?;
        Ok(true)
    }

    /// Takes a sink's oldest delivery that is due, if there is one, and marks it as being made. When a younger one is
    /// due, the oldest of all is tried first, once, though its pause is not over: a sink that is back is told in the
    /// order of the news, and one piece of news that it never takes does not hold up the others.
    pub async fn outbox_claim(&self, sink: &str, now: Micros) -> Result<Option<Claimed>, StoreError> {
        #[derive(FromQueryResult)]
        struct Due {
            notification: String,
            attempts: i64,
        }
        // Every sink asks every few seconds, nearly always for nothing: that must not take the write lock.
        let sql = "SELECT notification, attempts FROM deliveries
            WHERE state = 'pending' AND sink = $1 AND due_at <= $2 LIMIT 1";
        let any: Option<Due> = db::one(self.db().reader(), sql, values![sink, now.0]).await.doing(CLAIM)?;
        if any.is_none() {
            return Ok(None);
        }
        let tx = self.db().begin(CLAIM).await?;
        let sql = for_update(&tx, next!(""), next!("FOR UPDATE OF d SKIP LOCKED"));
        let due: Option<Due> = db::one(&tx, sql, values![sink, now.0]).await.doing(CLAIM)?;
        let Some(due) = due else { return Ok(None) };
        let attempts = u32::try_from(due.attempts).unwrap_or(u32::MAX).saturating_add(1);
        let sql = "UPDATE deliveries SET state = 'sending', attempts = $3, changed_at = $4
            WHERE notification = $1 AND sink = $2";
        let values = values![due.notification.as_str(), sink, i64::from(attempts), now.0];
        execute(&tx, sql, values).await.doing(CLAIM)?;
        settle(&tx, &due.notification, CLAIM).await?;
        let sql = "SELECT id, run, event, payload, created_at, state, message FROM outbox WHERE id = $1";
        let row: Option<Row> = db::one(&tx, sql, values![due.notification.as_str()]).await.doing(CLAIM)?;
        let row = row.ok_or_else(|| StoreError::unreadable(CLAIM, "notification", "it is gone"))?.decode()?;
        tx.commit().await.doing(CLAIM)?;
        Ok(Some(Claimed { outgoing: row.outgoing, created_at: row.created_at, attempts }))
    }

    /// Says how a claimed delivery's try ended. False when it is not being made.
    pub async fn outbox_done(
        &self,
        id: &str,
        sink: &str,
        outcome: Outcome,
        message: &str,
        now: Micros,
    ) -> Result<bool, StoreError> {
        let (state, due) = match outcome {
            Outcome::Sent => (OutboxState::Sent, now),
            Outcome::Retry(due) => (OutboxState::Pending, due),
            Outcome::Failed => (OutboxState::Failed, now),
            Outcome::Unknown => (OutboxState::Unknown, now),
        };
        let tx = self.db().begin(CLOSE).await?;
        let sql = "UPDATE deliveries SET state = $3, due_at = $4, changed_at = $5, message = $6
            WHERE notification = $1 AND sink = $2 AND state IN ('sending', 'unknown')";
        let values = values![id, sink, state.as_str(), due.0, now.0, printable(message)];
        let closed = execute(&tx, sql, values).await.doing(CLOSE)? == 1;
        settle(&tx, id, CLOSE).await?;
        tx.commit().await.doing(CLOSE)?;
        Ok(closed)
    }

    /// To be called once, at the start, before anything is claimed, with the sinks that are set up
    /// and whether each drops repeats. What was being sent when the server stopped goes back into
    /// the queue of a sink that drops repeats, and else becomes `unknown`; what waits for a sink
    /// that is no longer set up has failed. Returns what is now unknown or failed.
    pub async fn outbox_stuck(
        &self,
        sinks: &[(&str, bool)],
        now: Micros,
    ) -> Result<Vec<Delivery>, StoreError> {
        let tx = self.db().begin(STUCK).await?;
        let sql = "SELECT d.notification, d.sink, d.state, d.attempts, d.due_at, d.changed_at, d.message,
                o.event, o.run, r.number
            FROM deliveries d JOIN outbox o ON o.id = d.notification JOIN runs r ON r.id = o.run
            WHERE d.state IN ('pending', 'sending') ORDER BY o.created_at, o.id, d.sink";
        let open: Vec<DeliveryRow> = db::all(&tx, sql, values![]).await.doing(STUCK)?;
        let mut shown = Vec::new();
        for row in open {
            let mut delivery = row.decode()?;
            let known = sinks.iter().find(|(name, _)| *name == delivery.sink);
            let (state, message) = match (delivery.state, known) {
                (OutboxState::Sending, Some((_, true))) => {
                    (OutboxState::Pending, "the server stopped meanwhile; again")
                }
                (OutboxState::Sending, _) => (
                    OutboxState::Unknown,
                    "the server stopped while this was being sent: it may have arrived, and is not sent again",
                ),
                (_, None) => (OutboxState::Failed, "this sink is no longer in the settings"),
                (_, Some(_)) => continue,
            };
            let sql = "UPDATE deliveries SET state = $3, due_at = $4, changed_at = $4, message = $5
                WHERE notification = $1 AND sink = $2";
            let values = values![
                delivery.notification.as_str(),
                delivery.sink.as_str(),
                state.as_str(),
                now.0,
                message
            ];
            execute(&tx, sql, values).await.doing(STUCK)?;
            settle(&tx, &delivery.notification, STUCK).await?;
            (delivery.state, delivery.message, delivery.changed_at) = (state, Some(message.to_owned()), now);
            if state != OutboxState::Pending {
                shown.push(delivery);
            }
        }
        tx.commit().await.doing(STUCK)?;
        Ok(shown)
    }

    /// The notifications about a run, oldest first.
    pub async fn outbox_of(&self, run: RunId) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = "SELECT id, run, event, payload, created_at, state, message FROM outbox
            WHERE run = $1 ORDER BY created_at, id";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![run.0]).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }

    /// Deliveries that are not done, and the newest that were given up or are in doubt; newest first.
    pub async fn outbox_troubles(&self, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let sql = "SELECT d.notification, d.sink, d.state, d.attempts, d.due_at, d.changed_at, d.message,
                o.event, o.run, r.number
            FROM deliveries d JOIN outbox o ON o.id = d.notification JOIN runs r ON r.id = o.run
            WHERE d.state IN ('failed', 'unknown') OR (d.state = 'pending' AND d.attempts > 0)
            ORDER BY d.changed_at DESC, d.notification, d.sink LIMIT $1";
        let rows: Vec<DeliveryRow> =
            db::all(self.db().reader(), sql, values![i64::from(limit)]).await.doing(READ)?;
        rows.into_iter().map(DeliveryRow::decode).collect()
    }

    /// How a sink has been doing.
    pub async fn outbox_tally(&self, sink: &str) -> Result<SinkTally, StoreError> {
        #[derive(FromQueryResult)]
        struct Count {
            state: String,
            rows: i64,
            latest: i64,
        }
        #[derive(FromQueryResult)]
        struct Error {
            changed_at: i64,
            message: Option<String>,
        }
        let sql = "SELECT state, COUNT(*) AS rows, MAX(changed_at) AS latest FROM deliveries
            WHERE sink = $1 GROUP BY state";
        let counts: Vec<Count> = db::all(self.db().reader(), sql, values![sink]).await.doing(READ)?;
        let mut tally = SinkTally::default();
        for count in counts {
            let state = OutboxState::read(&count.state)
                .map_err(|why| StoreError::unreadable(READ, "delivery", why))?;
            let rows = u64::try_from(count.rows).unwrap_or_default();
            match state {
                OutboxState::Pending | OutboxState::Sending => tally.pending += rows,
                OutboxState::Failed => tally.failed = rows,
                OutboxState::Unknown => tally.unknown = rows,
                OutboxState::Sent => tally.last_success = Some(Micros(count.latest)),
            }
        }
        let sql = "SELECT changed_at, message FROM deliveries
            WHERE sink = $1 AND changed_at > $2 AND state IN ('pending', 'failed', 'unknown') AND message IS NOT NULL
            ORDER BY changed_at DESC LIMIT 1";
        let since = tally.last_success.map_or(i64::MIN, |at| at.0);
        let error: Option<Error> =
            db::one(self.db().reader(), sql, values![sink, since]).await.doing(READ)?;
        tally.last_error = error.map(|e| (Micros(e.changed_at), e.message.unwrap_or_default()));
        Ok(tally)
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

/// Makes a notification's own state that of its deliveries: the one that is worst off.
async fn settle(tx: &DatabaseTransaction, id: &str, operation: &'static str) -> Result<(), StoreError> {
    #[derive(FromQueryResult)]
    struct Of {
        sink: String,
        state: String,
        message: Option<String>,
    }
    let sql = "SELECT sink, state, message FROM deliveries WHERE notification = $1 ORDER BY sink";
    let all: Vec<Of> = db::all(tx, sql, values![id]).await.doing(operation)?;
    let mut worst = OutboxState::Sent;
    let mut said = Vec::new();
    for of in all {
        let state =
            OutboxState::read(&of.state).map_err(|why| StoreError::unreadable(operation, "delivery", why))?;
        worst = worst.max(state);
        said.extend(of.message.map(|message| format!("{}: {message}", of.sink)));
    }
    let said = (!said.is_empty()).then(|| said.join("; "));
    let sql = "UPDATE outbox SET state = $2, message = $3 WHERE id = $1";
    execute(tx, sql, values![id, worst.as_str(), said]).await.doing(operation).map(drop)
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
        let state = OutboxState::read(&self.state).map_err(unreadable)?;
        let payload = serde_json::from_str(&self.payload).map_err(|e| unreadable(e.to_string()))?;
        Ok(OutboxRow {
            outgoing: Outgoing { id: self.id, event: self.event, payload, run: RunId(self.run) },
            created_at: Micros(self.created_at),
            state,
            message: self.message,
        })
    }
}

#[derive(FromQueryResult)]
struct DeliveryRow {
    notification: String,
    sink: String,
    state: String,
    attempts: i64,
    due_at: i64,
    changed_at: i64,
    message: Option<String>,
    event: String,
    run: Uuid,
    number: i64,
}

impl DeliveryRow {
    fn decode(self) -> Result<Delivery, StoreError> {
        let state = OutboxState::read(&self.state).map_err(|why| {
            StoreError::unreadable(READ, "delivery", format!("`{}`: {why}", self.notification))
        })?;
        Ok(Delivery {
            notification: self.notification,
            event: self.event,
            run: RunId(self.run),
            run_number: self.number,
            sink: self.sink,
            state,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            due_at: Micros(self.due_at),
            changed_at: Micros(self.changed_at),
            message: self.message,
        })
    }
}
