//! The only database code: what is stored, and the questions that may be asked of it.
//!
//! The journal is the truth ([`journal`](crate::Store::transact)); every other row about a run is a
//! fold of it, written in the same transaction. Bulk rows (sensor batches, log chunks) live outside
//! the chain and enter it by digest ([`Store::bulk_unsealed`]). SQLite and PostgreSQL run the same
//! statements and the same migrations.
//!
//! Nothing here reads a clock: every time is passed in. Nothing here decides: whether an event may
//! happen is `assay_model::state::next`, and when it happens is the engine's business.

mod audit;
mod bulk;
mod cache;
mod db;
mod error;
mod hosts;
mod journal;
mod kill;
mod leases;
mod logs;
mod measurements;
mod migrations;
mod operators;
mod outbox;
mod packed;
mod projection;
mod rollups;
mod runners;
mod runs;
mod settings;
mod tokens;
mod unknown;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use audit::AUDIT_CHAIN;
pub use bulk::{Bulk, BulkRange};
pub use error::{StoreError, StoreErrorKind};
pub use hosts::{HostError, HostRow};
pub use journal::{Changed, Changes, Committed, CreateError, TransactError, Write};
pub use leases::LeaseRow;
pub use logs::{LogChunk, LogLine};
pub use measurements::{SensorRow, Summary};
pub use operators::{ApiToken, Operator, Role, Session, UnknownRole};
pub use outbox::{Outgoing, OutboxRow, OutboxState};
pub use runners::RunnerRow;
pub use runs::{RunFilter, RunRow};
pub use tokens::{BootToken, BootTokenState};
pub use unknown::UnknownRow;

use crate::bulk::BulkWriter;
use crate::cache::Views;
use crate::db::Db;
use crate::kill::KillPoint;

/// How many changes a slow subscriber may fall behind before it is told that it missed some.
const SUBSCRIBER_BACKLOG: usize = 4096;

/// The store. Cheap to clone; all clones share connections, cache and subscribers.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) views: Views,
    pub(crate) changes: broadcast::Sender<Changed>,
    pub(crate) kill: KillPoint,
    pub(crate) bulk: BulkWriter,
}

impl Store {
    /// Opens the database (`sqlite:///path/assay.db` or `postgres://user@host/name`), creates the
    /// file if there is none, and brings the schema up to date. Needs a Tokio runtime.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let kill = KillPoint::from_env()?;
        let db = Db::connect(url).await?;
        migrations::migrate(&db).await?;
        let bulk = BulkWriter::start(db.clone());
        let (changes, _) = broadcast::channel(SUBSCRIBER_BACKLOG);
        let shared = Shared { db, views: Views::default(), changes, kill, bulk };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells of every commit to a journal made through this store (not of those that another
    /// control plane makes: poll to be right). A receiver that lags is told so, and re-reads.
    pub fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.shared.changes.subscribe()
    }

    /// Closes every connection. Later calls on any clone fail.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.db.close().await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.shared.db
    }
}
