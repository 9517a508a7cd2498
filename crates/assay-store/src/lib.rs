//! The only database code: what is stored, and the questions that may be asked of it.
//!
//! The journal is the truth ([`journal`](crate::Store::transact)); every other row about a run is a
//! fold of it, written in the same transaction. Bulk rows (sensor batches, log chunks) live outside
//! the chain and enter it by digest ([`Store::bulk_unsealed`]). SQLite and PostgreSQL run the same
//! statements and the same migrations.
//!
//! Nothing here reads a clock: every time is passed in. Nothing here decides: whether an event may
//! happen is `assay_model::state::next`, and when it happens is the engine's business.

mod appender;
mod audit;
mod batches;
mod bulk;
mod cache;
mod checkpoints;
mod compat;
mod db;
mod digest;
mod error;
mod forge_images;
mod forges;
mod hosts;
mod images;
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
mod recipe_runs;
mod retention;
mod rollups;
mod runners;
mod runs;
mod schedules;
mod settings;
mod tokens;
mod unknown;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use audit::AUDIT_CHAIN;
pub use batches::{BatchItemRow, BatchRow, BatchState, NewBatch, NewItem};
pub use bulk::{Bulk, BulkRange};
pub use checkpoints::CheckpointRow;
pub use compat::{LastSeen, MachineSeen};
pub use digest::{EndedRun, Standing};
pub use error::{StoreError, StoreErrorKind};
pub use forge_images::{ForgeImage, ForgeImageState, NewForgeImage, Pushed};
pub use forges::{Answer, CommandKey, ForgeCommand, ForgePull, Heard, NewCommand, PullKey, Subject};
pub use hosts::{HostError, HostRow};
pub use images::{ImageRun, ImageSeen};
pub use journal::{Changed, Changes, Committed, CreateError, TransactError, Write};
pub use leases::LeaseRow;
pub use logs::{LogChunk, LogLine};
pub use measurements::{SensorRow, Summary};
pub use operators::{ApiToken, Operator, Role, Session, UnknownRole};
pub use outbox::{Claimed, Delivery, OutboxRow, OutboxState, Outcome, Outgoing, SinkTally};
pub use recipe_runs::{RecipeRef, RecipeRun, RecipeSeen, RecipeVersion};
pub use retention::{PinRow, Swept};
pub use runners::RunnerRow;
pub use runs::{RunFilter, RunRow};
pub use schedules::{NewTick, Pause, ScheduleRow, TickKind, TickRow};
pub use tokens::{BootToken, BootTokenState};
pub use unknown::UnknownRow;

use crate::appender::Appender;
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
    /// Where appends queue; none with PostgreSQL, which has many writers.
    pub(crate) appender: Option<Appender>,
}

impl Store {
    /// Opens the database (`sqlite:///path/assay.db` or `postgres://user@host/name`), creates the
    /// file if there is none, and brings the schema up to date. Needs a Tokio runtime.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let kill = KillPoint::from_env()?;
        let db = Db::connect(url).await?;
        migrations::migrate(&db, None).await?;
        let bulk = BulkWriter::start(db.clone());
        let (changes, _) = broadcast::channel(SUBSCRIBER_BACKLOG);
        let (appender, queue) = if db.is_postgres() { None } else { Some(Appender::start()) }.unzip();
        let shared = Arc::new(Shared { db, views: Views::default(), changes, kill, bulk, appender });
        if let Some(queue) = queue {
            tokio::spawn(queue.work(Arc::downgrade(&shared)));
        }
        Ok(Self { shared })
    }

    /// Brings a database through the first steps of its schema only: what an older version left.
    /// For migration tests; a store is opened with [`Store::open`].
    #[doc(hidden)]
    pub async fn migrate_first(url: &str, steps: usize) -> Result<(), StoreError> {
        let db = Db::connect(url).await?;
        migrations::migrate(&db, Some(steps)).await?;
        db.close().await
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

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;
    use serde_json::json;

    use super::*;

    async fn open(folder: &std::path::Path) -> Result<Store, StoreError> {
        Store::open(&format!("sqlite://{}/assay.db", folder.display())).await
    }

    #[tokio::test]
    async fn a_full_disk_and_a_read_only_file_say_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path()).await.expect("opens");
        let writer = store.db().writer();
        writer.execute_unprepared("PRAGMA max_page_count = 1").await.expect("as small as it is now");
        let full = store.set_setting("big", &json!("x".repeat(1 << 20))).await.expect_err("no room");
        assert!(matches!(full.kind, StoreErrorKind::DiskFull(_)), "{full:?}");
        assert!(
            full.to_string()
                .starts_with("could not store a setting: the disk that holds the database is full")
        );
        assert_eq!(store.setting("big").await.expect("still reads"), None);

        writer.execute_unprepared("PRAGMA max_page_count = 100000").await.expect("room again");
        writer.execute_unprepared("PRAGMA query_only = ON").await.expect("set");
        let read_only = store.set_setting("a", &json!(1)).await.expect_err("read-only");
        assert!(matches!(read_only.kind, StoreErrorKind::ReadOnly(_)), "{read_only:?}");
    }

    #[tokio::test]
    async fn what_is_no_database_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join("assay.db"),
            "not a database, but long enough to look at".repeat(100),
        )
        .expect("written");
        let corrupt = open(folder.path()).await.expect_err("refused");
        assert!(matches!(corrupt.kind, StoreErrorKind::Corrupt(_)), "{corrupt:?}");

        let nowhere = open(&folder.path().join("no/such/folder")).await.expect_err("refused");
        assert!(matches!(nowhere.kind, StoreErrorKind::Unreachable(_)), "{nowhere:?}");
        let url = Store::open("mysql://root:secret@host/x").await.expect_err("refused").to_string();
        assert!(url.contains("`mysql`") && !url.contains("secret"), "{url}");
    }

    #[tokio::test]
    async fn commits_are_synced_and_keys_are_checked() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path()).await.expect("opens");
        for (pragma, expected) in [("synchronous", "2"), ("foreign_keys", "1"), ("journal_mode", "wal")] {
            let sql = format!("SELECT CAST({pragma} AS text) AS value FROM pragma_{pragma}");
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
            let row = store.db().writer().query_one_raw(statement).await.expect("read").expect("a row");
            assert_eq!(row.try_get::<String>("", "value").expect("text"), expected, "{pragma}");
        }
    }
}
