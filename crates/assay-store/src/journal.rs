//! The journal: the one place where events are appended, and what is committed together with them.
//!
//! [`Store::transact`] is the whole write path of a run. Inside one write transaction it gives the
//! caller the run as it is, takes the caller's decision, chains the events, writes the rows that are
//! a fold of them and the caller's side writes, commits, and only then tells the subscribers. A
//! decision is therefore never made on an old state, and a token is never spent without its event.

use std::sync::Arc;

use assay_model::event::RunCreated;
use assay_model::journal::{self, StoredEvent};
use assay_model::{Event, EventBody, IllegalEvent, Mac, Micros, RunId, RunState, RunView, Sha256};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::compat::MachineSeen;
use crate::db::{self, Batch, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::images::ImageSeen;
use crate::kill::Moment;
use crate::projection::Written;
use crate::recipe_runs::RecipeSeen;
use crate::{Store, bulk, compat, images, outbox, projection, recipe_runs, tokens};

pub(crate) const APPEND: &str = "append to a run's journal";
const CREATE: &str = "create a run";
const READ: &str = "read a run's journal";
const ADDENDUM: &str = "append to a run's addendum";

/// What a decision comes to: events to append, and writes to commit with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// In order.
    pub events: Vec<EventBody>,
    /// In order, after the events.
    pub writes: Vec<Write>,
}

/// A row that is committed together with the events that say why.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Stores a boot token and voids the run's older live ones.
    MintBootToken {
        /// SHA-256 of the token.
        hash: Sha256,
        /// Which boot.
        boot: u32,
        /// Who fetched it.
        mac: Mac,
        /// Until when it may be exchanged.
        expires: Micros,
    },
    /// Spends a live boot token of this run. If it is not live any more, the whole transaction
    /// fails with [`StoreErrorKind::Conflict`]: of two that race, one enrols.
    SpendBootToken {
        /// SHA-256 of the token.
        hash: Sha256,
    },
    /// Replaces the run's agent credential.
    AgentCredential {
        /// SHA-256 of the credential.
        hash: Sha256,
        /// Fencing token of the enrolment.
        generation: i64,
    },
    /// Replaces the run's runner token.
    RunnerToken {
        /// SHA-256 of the token.
        hash: Sha256,
        /// Who holds it.
        runner: String,
    },
    /// Voids every token and credential of the run.
    VoidTokens,
    /// Puts a notification into the outbox; ignored if the id is there already.
    Notify {
        /// Names it: the same id is sent once.
        id: String,
        /// Which kind of news.
        event: String,
        /// What sinks are told.
        payload: Value,
    },
    /// Says which image the run tests.
    Image(ImageSeen),
    /// Says what kind of machine the run is on.
    Machine(MachineSeen),
    /// Says what a run over a recipe came to.
    Recipe {
        /// For boards and badges.
        seen: Box<RecipeSeen>,
        /// What other runs are compared by; none where it did not read.
        results: Option<Value>,
    },
}

/// What was committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The run with the events folded in.
    pub view: Arc<RunView>,
    /// The events with their numbers; empty when nothing was to be done.
    pub events: Vec<Event>,
}

/// A run's journal has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which run.
    pub run: RunId,
    /// Number of its last event.
    pub seq: i64,
}

/// A run was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The host is being tested already.
    #[error("the host has run {number} ({state}); wait for it, or cancel it")]
    HostBusy {
        /// The other run's number.
        number: i64,
        /// Its state.
        state: RunState,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] StoreError),
}

/// Nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The caller's decision was not to.
    #[error("{0}")]
    Refused(E),
    /// The decision held an event that may not happen in this state.
    #[error(transparent)]
    Illegal(IllegalEvent),
    /// There is no such run.
    #[error("there is no such run")]
    NoSuchRun,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An append that was decided on and is not written yet.
pub(crate) struct Plan {
    pub(crate) batch: Batch,
    pub(crate) writes: Vec<Write>,
    pub(crate) grown: Grown,
}

/// A run before and after an append.
pub(crate) struct Grown {
    head: Sha256,
    before: Arc<RunView>,
    view: Arc<RunView>,
    events: Vec<Event>,
}

impl Store {
    /// Creates a run: its row, its first event, its number (whatever `created.number` says).
    pub async fn create_run(
        &self,
        id: RunId,
        at: Micros,
        mut created: RunCreated,
    ) -> Result<Arc<RunView>, CreateError> {
        let tx = self.db().begin(CREATE).await?;
        // Taking the number first also makes creations wait for each other.
        created.number = db::next_number(&tx, "run").await.doing(CREATE)?;
        if !created.may_wait_for_its_target() {
            refuse_if_busy(&tx, &created).await?;
        }
        bulk::ensure_day(&tx, at).await.doing(CREATE)?;

        let event = Event { seq: 1, at, body: EventBody::RunCreated(Box::new(created)) };
        let view = RunView::begin(id, &event)
            .map_err(|illegal| StoreError::new(CREATE, StoreErrorKind::Invalid(illegal.to_string())))?;
        let (kind, body) = event.body.encode();
        let stored = StoredEvent::chain(id, 1, at, kind, body, Sha256::ZERO);
        projection::create(&tx, &view, stored.hash).await.doing(CREATE)?;
        let head = stored.hash;
        insert(&tx, INSERT_EVENT, id, stored).await.doing(CREATE)?;
        self.commit_journal(tx, CREATE).await?;

        let view = Arc::new(view);
        self.published(head, &view);
        Ok(view)
    }

    /// Decides about a run and commits the decision, all in one write transaction.
    ///
    /// `decide` sees the run as it is. What it returns is chained, folded and committed at `at`;
    /// when it refuses, when an event is illegal or when there is nothing to do, nothing is written.
    pub async fn transact<E, F>(
        &self,
        run: RunId,
        at: Micros,
        decide: F,
    ) -> Result<Committed, TransactError<E>>
    where
        F: FnOnce(&RunView) -> Result<Changes, E>,
    {
        if let Some(appender) = &self.shared.appender {
            return appender.append(self, run, at, decide).await;
        }
        let tx = self.db().begin(APPEND).await?;
        let head = lock_head(&tx, run).await?.ok_or(TransactError::NoSuchRun)?;
        let before = self.view_at(&tx, run, &head).await?;
        let Some(plan) = self.plan(head.hash, &before, at, decide)? else {
            return Ok(Committed { view: before, events: Vec::new() });
        };
        let Plan { batch, writes, grown } = plan;
        batch.run(&tx).await.doing(APPEND)?;
        apply_all(&tx, run, at, writes).await?;
        self.commit_journal(tx, APPEND).await?;
        Ok(self.publish(grown))
    }

    /// What a decision comes to on this state: statements, and the run as it will be. Nothing is written yet;
    /// `None` when there is nothing to do.
    pub(crate) fn plan<E, F>(
        &self,
        mut hash: Sha256,
        before: &Arc<RunView>,
        at: Micros,
        decide: F,
    ) -> Result<Option<Plan>, TransactError<E>>
    where
        F: FnOnce(&RunView) -> Result<Changes, E>,
    {
        let changes = decide(before).map_err(TransactError::Refused)?;
        if changes == Changes::default() {
            return Ok(None);
        }
        let written = Written::of(before);
        let mut batch = Batch::default();
        let mut view = self.shared.views.own(before);
        let mut events = Vec::with_capacity(changes.events.len());
        for body in changes.events {
            refuse_old_seal(&body, hash)?;
            let event = Event { seq: view.seq + 1, at, body };
            view.apply(&event).map_err(TransactError::Illegal)?;
            let (kind, bytes) = event.body.encode();
            let stored = StoredEvent::chain(view.id, event.seq, at, kind, bytes, hash);
            hash = stored.hash;
            batch.push(1, INSERT_EVENT, event_values(view.id, stored));
            events.push(event);
        }
        if !events.is_empty() {
            projection::update(&mut batch, &written, &view, hash).doing(APPEND)?;
        }
        let grown = Grown { head: hash, before: Arc::clone(before), view: Arc::new(view), events };
        Ok(Some(Plan { batch, writes: changes.writes, grown }))
    }

    /// Makes a committed append known: to the cache, and to whoever listens.
    pub(crate) fn publish(&self, grown: Grown) -> Committed {
        let Grown { head, before, view, events } = grown;
        if !events.is_empty() {
            self.shared.views.advance(head, &view, &before, &events);
            self.tell(&view);
        }
        Committed { view, events }
    }

    /// Appends to the chain that begins where a sealed journal ends. The body is kept verbatim.
    pub async fn addendum(&self, run: RunId, at: Micros, kind: &str, body: &Value) -> Result<(), StoreError> {
        let tx = self.db().begin(ADDENDUM).await?;
        let conflict = |why: &str| StoreError::new(ADDENDUM, StoreErrorKind::Conflict(why.to_owned()));
        let head = lock_head(&tx, run).await?.ok_or_else(|| conflict("there is no such run"))?;
        if !head.sealed {
            return Err(conflict("the run is not sealed yet; until then its news go to the journal"));
        }
        let sql = "SELECT seq, hash FROM addenda WHERE run = $1 ORDER BY seq DESC LIMIT 1";
        let last: Option<Link> = db::one(&tx, sql, values![run.0]).await.doing(ADDENDUM)?;
        let (seq, prev) = match last {
            Some(link) => (link.seq, digest(ADDENDUM, &link.hash)?),
            None => (0, head.hash),
        };
        let stored =
            StoredEvent::chain(run, seq + 1, at, kind.to_owned(), body.to_string().into_bytes(), prev);
        insert(&tx, INSERT_ADDENDUM, run, stored).await.doing(ADDENDUM)?;
        self.commit_journal(tx, ADDENDUM).await
    }

    /// A run, folded.
    pub async fn view(&self, run: RunId) -> Result<Option<Arc<RunView>>, StoreError> {
        // Two statements outside a transaction: a commit between them would make the journal
        // longer than the head says, so the journal is read up to the head and no further.
        let Some(head) = read_head(self.db().reader(), run, HEAD).await? else { return Ok(None) };
        self.view_at(self.db().reader(), run, &head).await.map(Some)
    }

    /// The number and hash of a run's last event: what a seal signs.
    pub async fn head(&self, run: RunId) -> Result<Option<(i64, Sha256)>, StoreError> {
        Ok(read_head(self.db().reader(), run, HEAD).await?.map(|head| (head.seq, head.hash)))
    }

    /// A run's whole journal as it is stored.
    pub async fn journal(&self, run: RunId) -> Result<Vec<StoredEvent>, StoreError> {
        read_events(self.db().reader(), EVENTS, run, 0, i64::MAX).await
    }

    /// A run's addendum chain as it is stored; its first event follows the sealed head.
    pub async fn addenda(&self, run: RunId) -> Result<Vec<StoredEvent>, StoreError> {
        read_events(self.db().reader(), ADDENDA, run, 0, i64::MAX).await
    }

    /// The events after `seq`, oldest first, at most `limit`.
    pub async fn events_after(&self, run: RunId, seq: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let to = seq.saturating_add(i64::from(limit));
        read_events(self.db().reader(), EVENTS, run, seq, to).await?.iter().map(|e| decode(run, e)).collect()
    }

    /// The run as of `head`, from the cache where it can be. What is read is verified.
    pub(crate) async fn view_at(
        &self,
        db: &impl ConnectionTrait,
        run: RunId,
        head: &Head,
    ) -> Result<Arc<RunView>, StoreError> {
        let broken = |source| StoreError::new(READ, StoreErrorKind::Broken { run, source });
        let cached = self.shared.views.get(run);
        if let Some((hash, view)) = &cached
            && *hash == head.hash
        {
            return Ok(Arc::clone(view));
        }
        // Another control plane has appended: fold what is new, if it follows what is here.
        if let Some((hash, view)) = cached.filter(|(_, view)| view.seq < head.seq) {
            let news = read_events(db, EVENTS, run, view.seq, head.seq).await?;
            if verify_after(run, view.seq, hash, &news) == Some(head.hash) {
                let mut view = RunView::clone(&view);
                for stored in &news {
                    view.apply(&decode(run, stored)?)
                        .map_err(|e| StoreError::unreadable(READ, "journal", e))?;
                }
                let view = Arc::new(view);
                self.shared.views.put(head.hash, Arc::clone(&view));
                return Ok(view);
            }
        }
        let stored = read_events(db, EVENTS, run, 0, head.seq).await?;
        if journal::verify(run, Sha256::ZERO, &stored).map_err(broken)? != head.hash {
            return Err(broken(journal::BrokenChain::Unlinked { seq: head.seq }));
        }
        let events: Vec<_> = stored.iter().map(|e| decode(run, e)).collect::<Result<_, _>>()?;
        let view = RunView::fold(run, &events)
            .map_err(|e| StoreError::unreadable(READ, "journal", e))?
            .ok_or_else(|| StoreError::unreadable(READ, "journal", "it is empty"))?;
        let view = Arc::new(view);
        self.shared.views.put(head.hash, Arc::clone(&view));
        Ok(view)
    }

    pub(crate) async fn commit_journal(
        &self,
        tx: DatabaseTransaction,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        let commit = self.shared.kill.next();
        self.shared.kill.pass(Moment::Before, commit);
        tx.commit().await.doing(operation)?;
        self.shared.kill.pass(Moment::After, commit);
        Ok(())
    }

    fn published(&self, head: Sha256, view: &Arc<RunView>) {
        self.shared.views.put(head, Arc::clone(view));
        self.tell(view);
    }

    fn tell(&self, view: &RunView) {
        // Nobody listening is fine.
        let _ = self.shared.changes.send(Changed { run: view.id, seq: view.seq });
    }
}

/// A seal signs a head; if the journal has moved on meanwhile, the signature covers too little.
fn refuse_old_seal(body: &EventBody, head: Sha256) -> Result<(), StoreError> {
    match body {
        EventBody::Sealed(sealed) if sealed.head != head => {
            let message = "the journal has moved on since the seal was signed; sign its new head".to_owned();
            Err(StoreError::new(APPEND, StoreErrorKind::Conflict(message)))
        }
        _ => Ok(()),
    }
}

async fn refuse_if_busy(tx: &DatabaseTransaction, created: &RunCreated) -> Result<(), CreateError> {
    #[derive(FromQueryResult)]
    struct Busy {
        number: i64,
        state: String,
    }
    let sql = "SELECT number, state FROM runs
        WHERE target_id = $1 AND state NOT IN ('Completed', 'Released', 'Cancelled', 'Superseded')";
    let busy: Option<Busy> = db::one(tx, sql, values![created.target.id.0]).await.doing(CREATE)?;
    match busy {
        None => Ok(()),
        Some(Busy { number, state }) => {
            let state = state.parse().map_err(|e| StoreError::unreadable(CREATE, "run", e))?;
            Err(CreateError::HostBusy { number, state })
        }
    }
}

/// Does the side writes of an append, in order.
pub(crate) async fn apply_all(
    tx: &DatabaseTransaction,
    run: RunId,
    at: Micros,
    writes: Vec<Write>,
) -> Result<(), StoreError> {
    for write in writes {
        apply(tx, run, at, write).await?;
    }
    Ok(())
}

async fn apply(tx: &DatabaseTransaction, run: RunId, at: Micros, write: Write) -> Result<(), StoreError> {
    match write {
        Write::MintBootToken { hash, boot, mac, expires } => {
            tokens::mint(tx, run, hash, boot, mac, expires).await
        }
        Write::SpendBootToken { hash } => tokens::spend(tx, run, hash).await,
        Write::AgentCredential { hash, generation } => {
            tokens::put_credential(tx, run, hash, generation).await
        }
        Write::RunnerToken { hash, runner } => tokens::put_runner_token(tx, run, hash, &runner).await,
        Write::VoidTokens => tokens::void(tx, run).await,
        Write::Notify { id, event, payload } => outbox::put(tx, run, at, &id, &event, &payload).await,
        Write::Image(seen) => images::put(tx, run, seen).await,
        Write::Machine(seen) => compat::put(tx, run, &seen).await,
        Write::Recipe { seen, results } => {
            recipe_runs::put(tx, run, &seen, results.as_ref()).await.doing(APPEND)
        }
    }
}

/// The end of a run's chain, as its row says.
pub(crate) struct Head {
    seq: i64,
    pub(crate) hash: Sha256,
    sealed: bool,
}

/// The same as it is stored.
#[derive(FromQueryResult)]
pub(crate) struct HeadRow {
    head_seq: i64,
    head_hash: Vec<u8>,
    sealed: bool,
}

impl HeadRow {
    pub(crate) fn decode(self) -> Result<Head, StoreError> {
        Ok(Head { seq: self.head_seq, hash: digest(READ, &self.head_hash)?, sealed: self.sealed })
    }
}

const HEAD: &str = "SELECT head_seq, head_hash, sealed FROM runs WHERE id = $1";
const HEAD_LOCKED: &str = "SELECT head_seq, head_hash, sealed FROM runs WHERE id = $1 FOR UPDATE";

pub(crate) async fn lock_head(tx: &DatabaseTransaction, run: RunId) -> Result<Option<Head>, StoreError> {
    read_head(tx, run, db::for_update(tx, HEAD, HEAD_LOCKED)).await
}

async fn read_head(db: &impl ConnectionTrait, run: RunId, sql: &str) -> Result<Option<Head>, StoreError> {
    let row: Option<HeadRow> = db::one(db, sql, values![run.0]).await.doing(READ)?;
    row.map(HeadRow::decode).transpose()
}

#[derive(FromQueryResult)]
struct Link {
    seq: i64,
    hash: Vec<u8>,
}

/// An event's row; the audit trail has the same columns.
#[derive(FromQueryResult)]
pub(crate) struct EventRow {
    seq: i64,
    at: i64,
    kind: String,
    body: Vec<u8>,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl EventRow {
    pub(crate) fn stored(self) -> Result<StoredEvent, StoreError> {
        Ok(StoredEvent {
            seq: self.seq,
            at: Micros(self.at),
            kind: self.kind,
            body: self.body,
            prev_hash: digest(READ, &self.prev_hash)?,
            hash: digest(READ, &self.hash)?,
        })
    }
}

const EVENTS: &str = "SELECT seq, at, kind, body, prev_hash, hash FROM events
    WHERE run = $1 AND seq > $2 AND seq <= $3 ORDER BY seq";
const ADDENDA: &str = "SELECT seq, at, kind, body, prev_hash, hash FROM addenda
    WHERE run = $1 AND seq > $2 AND seq <= $3 ORDER BY seq";
const INSERT_EVENT: &str = "INSERT INTO events (run, seq, at, kind, body, prev_hash, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const INSERT_ADDENDUM: &str = "INSERT INTO addenda (run, seq, at, kind, body, prev_hash, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

async fn read_events(
    db: &impl ConnectionTrait,
    sql: &str,
    run: RunId,
    after: i64,
    to: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let rows: Vec<EventRow> = db::all(db, sql, values![run.0, after, to]).await.doing(READ)?;
    rows.into_iter().map(EventRow::stored).collect()
}

async fn insert(
    tx: &DatabaseTransaction,
    sql: &str,
    run: RunId,
    event: StoredEvent,
) -> Result<(), sea_orm::DbErr> {
    db::execute(tx, sql, event_values(run, event)).await.map(drop)
}

fn event_values(run: RunId, event: StoredEvent) -> Vec<sea_orm::Value> {
    values![
        run.0,
        event.seq,
        event.at.0,
        event.kind,
        event.body,
        event.prev_hash.0.to_vec(),
        event.hash.0.to_vec(),
    ]
}

fn decode(run: RunId, stored: &StoredEvent) -> Result<Event, StoreError> {
    let body = EventBody::decode(&stored.kind, &stored.body).map_err(|e| {
        StoreError::unreadable(READ, "event", format!("run {run}, event {}: {e}", stored.seq))
    })?;
    Ok(Event { seq: stored.seq, at: stored.at, body })
}

/// The head after `news`, if they follow event `seq` with hash `head` without a gap.
fn verify_after(run: RunId, seq: i64, mut head: Sha256, news: &[StoredEvent]) -> Option<Sha256> {
    for (expected, event) in (seq + 1..).zip(news) {
        let hash = journal::hash(run, event.seq, event.at, &event.kind, &event.body, event.prev_hash);
        if event.seq != expected || event.prev_hash != head || event.hash != hash {
            return None;
        }
        head = event.hash;
    }
    Some(head)
}

/// A stored digest.
pub(crate) fn digest(operation: &'static str, bytes: &[u8]) -> Result<Sha256, StoreError> {
    bytes.try_into().map(Sha256).map_err(|_| {
        StoreError::unreadable(operation, "digest", format!("{} bytes instead of 32", bytes.len()))
    })
}

/// A stored run id.
#[derive(FromQueryResult)]
pub(crate) struct RunRef {
    pub(crate) run: Uuid,
}
