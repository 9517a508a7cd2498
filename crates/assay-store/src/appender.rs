//! Appends of many runs in one SQLite transaction.
//!
//! SQLite has one writer, and a commit that is synced costs more than the rows in it. So the appends that wait while
//! one commit is under way go together into the next: each decided on its own run's fresh state, each whole or not
//! at all, none acknowledged before the commit that it is in. A run appears at most once in a group, and whoever
//! comes alone is committed alone, at once: nothing ever waits for company.
//!
//! The caller decides, in its own task, when the appender says that it is its turn; a caller that went away
//! meanwhile is left out. From the moment in which it has handed over its plan, what happens no longer depends on it.
//! PostgreSQL has many writers and needs none of this.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use assay_model::{Micros, RunId, RunView, Sha256};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, FromQueryResult};
use tokio::sync::{mpsc, oneshot};

use crate::db::{self, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::journal::{APPEND, Changes, Committed, Plan, TransactError, apply_all, lock_head};
use crate::{Shared, Store};

/// Most appends in one transaction: a group must not keep its first caller waiting for long.
const GROUP: usize = 64;
/// Callers that may queue before the next one has to wait for room.
const QUEUE: usize = 1024;

/// Where callers queue.
#[derive(Debug)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Request>,
}

/// Someone who wants to append.
struct Request {
    run: RunId,
    at: Micros,
    turn: oneshot::Sender<Result<Turn, NoTurn>>,
}

/// The caller's turn: decide on this state.
struct Turn {
    head: Sha256,
    before: Arc<RunView>,
    plan: oneshot::Sender<(Plan, oneshot::Sender<Result<Committed, StoreError>>)>,
}

/// Why there is no turn.
enum NoTurn {
    NoSuchRun,
    Failed(StoreError),
}

impl Appender {
    /// Starts the task that owns the writing; it ends with the store.
    pub(crate) fn start() -> (Self, Queue) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self { queue }, Queue { requests, left: None })
    }

    pub(crate) async fn append<E, F>(
        &self,
        store: &Store,
        run: RunId,
        at: Micros,
        decide: F,
    ) -> Result<Committed, TransactError<E>>
    where
        F: FnOnce(&RunView) -> Result<Changes, E>,
    {
        let (turn, my_turn) = oneshot::channel();
        self.queue.send(Request { run, at, turn }).await.map_err(|_| closing())?;
        let turn = match my_turn.await.map_err(|_| closing())? {
            Ok(turn) => turn,
            Err(NoTurn::NoSuchRun) => return Err(TransactError::NoSuchRun),
            Err(NoTurn::Failed(error)) => return Err(error.into()),
        };
        let Some(plan) = store.plan(turn.head, &turn.before, at, decide)? else {
            return Ok(Committed { view: turn.before, events: Vec::new() });
        };
        let (done, outcome) = oneshot::channel();
        turn.plan.send((plan, done)).map_err(|_| closing())?;
        Ok(outcome.await.map_err(|_| closing())??)
    }
}

fn closing() -> StoreError {
    StoreError::new(APPEND, StoreErrorKind::Closing)
}

/// The appender's end of the queue.
pub(crate) struct Queue {
    requests: mpsc::Receiver<Request>,
    /// Taken from the queue, and not for this group: its run is in it already.
    left: Option<Request>,
}

impl Queue {
    /// Appends until the last store is gone.
    pub(crate) async fn work(mut self, shared: std::sync::Weak<Shared>) {
        let heads = Heads::default();
        loop {
            let Some(first) = self.next().await else { return };
            let Some(shared) = shared.upgrade() else { return };
            let group = self.group(first);
            Group { store: Store { shared }, heads: &heads }.append(group).await;
        }
    }

    async fn next(&mut self) -> Option<Request> {
        match self.left.take() {
            Some(request) => Some(request),
            None => self.requests.recv().await,
        }
    }

    /// Whoever waits already, up to the second append of a run.
    fn group(&mut self, first: Request) -> Vec<Request> {
        let mut runs = HashSet::from([first.run]);
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(request) = self.requests.try_recv() else { break };
            if !runs.insert(request.run) {
                self.left = Some(request);
                break;
            }
            group.push(request);
        }
        group
    }
}

/// Whether the heads in the cache are still those in the file. SQLite changes `data_version` on a connection when
/// another one has committed; appends of this process all go through this one.
#[derive(Default)]
struct Heads {
    version: AtomicI64,
}

impl Heads {
    async fn are_known(&self, tx: &DatabaseTransaction) -> Result<bool, StoreError> {
        #[derive(FromQueryResult)]
        struct Version {
            data_version: i64,
        }
        let row: Option<Version> = db::one(tx, "PRAGMA data_version", values![]).await.doing(APPEND)?;
        let version = row.map_or(0, |row| row.data_version);
        Ok(version != 0 && self.version.swap(version, Ordering::Relaxed) == version)
    }
}

/// One transaction.
struct Group<'a> {
    store: Store,
    heads: &'a Heads,
}

/// A caller whose statements are in the transaction.
type Written = (crate::journal::Grown, oneshot::Sender<Result<Committed, StoreError>>);

impl Group<'_> {
    async fn append(&self, group: Vec<Request>) {
        let tx = match self.store.db().begin(APPEND).await {
            Ok(tx) => tx,
            Err(error) => {
                for request in group {
                    let _ = request.turn.send(Err(NoTurn::Failed(error.clone())));
                }
                return;
            }
        };
        let mut written = Vec::new();
        match self.write(&tx, group, &mut written).await {
            // Nobody had anything to write: the transaction is given up.
            Ok(()) if written.is_empty() => {}
            Ok(()) => self.commit(tx, written).await,
            Err(error) => {
                drop(tx);
                fail(written, &error);
            }
        }
    }

    /// Gives each its turn and writes what it decides. An error is the whole group's: the transaction is void.
    async fn write(
        &self,
        tx: &DatabaseTransaction,
        group: Vec<Request>,
        written: &mut Vec<Written>,
    ) -> Result<(), StoreError> {
        let known = self.heads.are_known(tx).await?;
        // All decide at the same time, each in its own task; what they decide is written in their order.
        let mut plans = Vec::with_capacity(group.len());
        for Request { run, at, turn } in group {
            match self.turn(tx, run, known).await {
                Ok(Some((head, before))) => {
                    let (plan, planned) = oneshot::channel();
                    if turn.send(Ok(Turn { head, before, plan })).is_ok() {
                        plans.push((run, at, planned));
                    }
                }
                Ok(None) => drop(turn.send(Err(NoTurn::NoSuchRun))),
                Err(error) => drop(turn.send(Err(NoTurn::Failed(error)))),
            }
        }
        let alone = plans.len() == 1;
        let mut plans = plans.into_iter();
        while let Some((run, at, planned)) = plans.next() {
            // Refused, nothing to do, or gone.
            let Ok((plan, done)) = planned.await else { continue };
            let Plan { batch, writes, grown } = plan;
            // Side writes may lose a race (a token is spent once): that costs only the one who lost it.
            let fenced = !alone && !writes.is_empty();
            if fenced {
                tx.execute_unprepared("SAVEPOINT one").await.doing(APPEND)?;
            }
            let outcome = match batch.run(tx).await.doing(APPEND) {
                Ok(()) => apply_all(tx, run, at, writes).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => written.push((grown, done)),
                Err(error) if fenced => {
                    let undone = tx.execute_unprepared("ROLLBACK TO one").await.doing(APPEND);
                    let _ = done.send(Err(error));
                    undone?;
                }
                Err(error) => {
                    let _ = done.send(Err(error.clone()));
                    for (_, _, planned) in plans {
                        if let Ok((_, done)) = planned.await {
                            let _ = done.send(Err(error.clone()));
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The state that a run's caller is to decide on.
    async fn turn(
        &self,
        tx: &DatabaseTransaction,
        run: RunId,
        known: bool,
    ) -> Result<Option<(Sha256, Arc<RunView>)>, StoreError> {
        if known && let Some(cached) = self.store.shared.views.get(run) {
            return Ok(Some(cached));
        }
        let Some(head) = lock_head(tx, run).await? else { return Ok(None) };
        let before = self.store.view_at(tx, run, &head).await?;
        Ok(Some((head.hash, before)))
    }

    async fn commit(&self, tx: DatabaseTransaction, written: Vec<Written>) {
        match self.store.commit_journal(tx, APPEND).await {
            Ok(()) => {
                for (grown, done) in written {
                    let _ = done.send(Ok(self.store.publish(grown)));
                }
            }
            Err(error) => fail(written, &error),
        }
    }
}

fn fail(written: Vec<Written>, error: &StoreError) {
    for (_, done) in written {
        let _ = done.send(Err(error.clone()));
    }
}
