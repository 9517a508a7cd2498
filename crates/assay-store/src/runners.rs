//! Runners that have been heard of, and what is wrong with them.

use assay_model::Micros;
use sea_orm::FromQueryResult;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};

/// A runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Why it cannot work, if it cannot.
    pub problem: Option<String>,
    /// When it was first heard.
    pub first_seen: Micros,
    /// When it was last heard.
    pub last_seen: Micros,
}

impl Store {
    /// Notes that a runner was heard.
    pub async fn runner_seen(
        &self,
        name: &str,
        version: &str,
        problem: Option<&str>,
        at: Micros,
    ) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO runners (name, version, problem, first_seen, last_seen) VALUES ($1, $2, $3, $4, $4)
            ON CONFLICT (name) DO UPDATE SET version = excluded.version, problem = excluded.problem,
                last_seen = excluded.last_seen";
        let values = values![printable(name), printable(version), problem.map(printable), at.0];
        execute(self.db().writer(), sql, values).await.doing("note a runner").map(drop)
    }

    /// Notes what a known runner says of its netboot service.
    pub async fn runner_problem(&self, name: &str, problem: Option<&str>) -> Result<(), StoreError> {
        let sql = "UPDATE runners SET problem = $2 WHERE name = $1";
        let values = values![printable(name), problem.map(printable)];
        execute(self.db().writer(), sql, values).await.doing("note a runner's problem").map(drop)
    }

    /// Every runner, by name.
    pub async fn runners(&self) -> Result<Vec<RunnerRow>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            name: String,
            version: String,
            problem: Option<String>,
            first_seen: i64,
            last_seen: i64,
        }
        let sql = "SELECT name, version, problem, first_seen, last_seen FROM runners ORDER BY name";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![]).await.doing("list runners")?;
        let runner = |r: Row| RunnerRow {
            name: r.name,
            version: r.version,
            problem: r.problem,
            first_seen: Micros(r.first_seen),
            last_seen: Micros(r.last_seen),
        };
        Ok(rows.into_iter().map(runner).collect())
    }
}
