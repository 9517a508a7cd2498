//! The schema, one file per step. A step that has been released is never edited.
//!
//! Each step is SQL in the common subset (see `db`); each comes with rows in `tests/migrations.rs`
//! that every later step has to carry over, on SQLite and PostgreSQL alike.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager, async_trait};

use crate::db::{self, Db, schema, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};

mod m0001_journal;
mod m0002_access;
mod m0003_hosts;
mod m0004_bulk;
mod m0005_side;

const MIGRATE: &str = "migrate the database";
/// Any number that nothing else on the same PostgreSQL server uses: `assay` in ASCII.
const MIGRATION_LOCK: i64 = 0x61_7373_6179;

/// Every step, oldest first.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_journal::Step),
            Box::new(m0002_access::Step),
            Box::new(m0003_hosts::Step),
            Box::new(m0004_bulk::Step),
            Box::new(m0005_side::Step),
        ]
    }
}

/// Brings the database to this version's schema. Refuses one that a newer version has written.
///
/// Runs in one transaction: a half-migrated database does not exist, and on PostgreSQL the
/// transaction's advisory lock lets several servers start at once.
pub(crate) async fn migrate(db: &Db) -> Result<(), StoreError> {
    let tx = db.begin(MIGRATE).await?;
    if db.is_postgres() {
        db::execute(&tx, "SELECT pg_advisory_xact_lock($1)", values![MIGRATION_LOCK]).await.doing(MIGRATE)?;
    }
    Migrator::install(&tx).await.doing(MIGRATE)?;
    let applied: Vec<Applied> =
        db::all(&tx, "SELECT version FROM seaql_migrations ORDER BY version", values![]).await.doing(MIGRATE)?;
    let known: Vec<_> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    if let Some(Applied { version: migration }) = applied.iter().find(|a| !known.contains(&a.version)).cloned() {
        return Err(StoreError::new(MIGRATE, StoreErrorKind::Newer { migration }));
    }
    if applied.len() < known.len() {
        Migrator::up(&tx, None).await.doing(MIGRATE)?;
    }
    tx.commit().await.doing(MIGRATE)
}

#[derive(Clone, FromQueryResult)]
struct Applied {
    version: String,
}

/// Runs a step's statements.
async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for statement in statements {
        db.execute_unprepared(&schema(db.get_database_backend(), statement)).await?;
    }
    Ok(())
}
