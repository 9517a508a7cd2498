//! The schema, one file per step. A step that has been released is never edited.
//!
//! Each step is SQL in the common subset (see `db`); each comes with rows in `tests/migrations.rs`
//! that every later step has to carry over, on SQLite and PostgreSQL alike.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait};

use crate::db::{self, Db, schema, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};

mod m0001_journal;
mod m0002_access;
mod m0003_hosts;
mod m0004_bulk;
mod m0005_side;
mod m0006_deliveries;
mod m0007_stages;
mod m0008_targets;
mod m0009_images;
mod m0010_compat;
mod m0011_queue;
mod m0012_forges;
mod m0013_recipe_runs;
mod m0014_schedules;
mod m0015_forge_images;

const MIGRATE: &str = "migrate the database";
/// Any number that nothing else on the same PostgreSQL server uses: `assay` in ASCII.
const MIGRATION_LOCK: i64 = 0x61_7373_6179;

/// Every step, oldest first.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_journal::STEP),
            Box::new(m0002_access::STEP),
            Box::new(m0003_hosts::STEP),
            Box::new(m0004_bulk::STEP),
            Box::new(m0005_side::STEP),
            Box::new(m0006_deliveries::STEP),
            Box::new(m0007_stages::STEP),
            Box::new(m0008_targets::STEP),
            Box::new(m0009_images::STEP),
            Box::new(m0010_compat::STEP),
            Box::new(m0011_queue::STEP),
            Box::new(m0012_forges::STEP),
            Box::new(m0013_recipe_runs::STEP),
            Box::new(m0014_schedules::STEP),
            Box::new(m0015_forge_images::STEP),
        ]
    }
}

/// Brings the database to this version's schema, or only through its first `steps`. Refuses one that a newer version has written.
///
/// Runs in one transaction: a half-migrated database does not exist, and on PostgreSQL the
/// transaction's advisory lock lets several servers start at once.
pub(crate) async fn migrate(db: &Db, steps: Option<usize>) -> Result<(), StoreError> {
    let tx = db.begin(MIGRATE).await?;
    if db.is_postgres() {
        db::execute(&tx, "SELECT pg_advisory_xact_lock($1)", values![MIGRATION_LOCK]).await.doing(MIGRATE)?;
    }
    Migrator::install(&tx).await.doing(MIGRATE)?;
    let applied: Vec<Applied> =
        db::all(&tx, "SELECT version FROM seaql_migrations ORDER BY version", values![])
            .await
            .doing(MIGRATE)?;
    let known: Vec<_> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    if let Some(Applied { version: migration }) =
        applied.iter().find(|a| !known.contains(&a.version)).cloned()
    {
        return Err(StoreError::new(MIGRATE, StoreErrorKind::Newer { migration }));
    }
    let wanted = steps.unwrap_or(known.len()).min(known.len());
    if applied.len() < wanted {
        Migrator::up(&tx, Some((wanted - applied.len()) as u32)).await.doing(MIGRATE)?;
    }
    tx.commit().await.doing(MIGRATE)
}

#[derive(Clone, FromQueryResult)]
struct Applied {
    version: String,
}

/// One step: a name that is never reused, and its statements.
struct Step {
    name: &'static str,
    statements: &'static [&'static str],
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    #[expect(
        elided_lifetimes_in_paths,
        reason = "has to be spelled as in the trait, or async_trait's lifetimes differ"
    )]
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for statement in self.statements {
            db.execute_unprepared(&schema(db.get_database_backend(), statement)).await?;
        }
        Ok(())
    }
}
