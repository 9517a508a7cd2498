//! What finished runs over recipes came to, as boards and badges read it: a row per run, written with the run's seal.
//!
//! Rungs are a fold of the journal, the version and what runs are compared by stand in the evidence. Reading both for
//! thousands of runs takes minutes; here it is one question.

use assay_model::recipe::{Rung, RungStatus};
use assay_model::{Micros, RunId, TargetId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::runs::{Row, RunRow};

const LIST: &str = "list what recipes came to";
const PUT: &str = "store what a recipe's run came to";

/// The columns of a run and of what it came to.
const COLUMNS: &str =
    "r.number, r.id, r.target_id, r.target, r.pipeline, r.profile, r.state, r.stage_index, r.stage_name,
    r.result, r.overridden, r.failed_stage, r.created_at, r.started_at, r.completed_at, r.sealed,
    r.whole, r.pull_request, c.rungs, c.messages, c.code, c.checks_off, c.stages_left_out, c.release, c.commit_id, c.changed, c.baseline";

/// What a finished run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeSeen {
    /// Every rung's status, the lowest first.
    pub rungs: Vec<RungStatus>,
    /// For each of them, the sentence that decided it; one line.
    pub messages: Vec<String>,
    /// The code that says most about why it failed.
    pub code: Option<String>,
    /// Whether checks were switched off.
    pub checks_off: bool,
    /// Whether stages were left out.
    pub stages_left_out: bool,
    /// The version under test; none where it was not read.
    pub version: Option<RecipeVersion>,
    /// Whether later runs are held against it.
    pub baseline: bool,
}

/// The version under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeVersion {
    /// The release, where a tag says so.
    pub release: Option<String>,
    /// The commit, in full; none where the recipe is no checkout.
    pub commit: Option<String>,
    /// Whether files differ from the commit.
    pub changed: bool,
}

/// A run of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeRun {
    /// The run.
    pub run: RunRow,
    /// Whether it goes through all stages with all checks on.
    pub whole: bool,
    /// The pull request that it is of.
    pub pull_request: Option<String>,
    /// What it came to; none of one that is not over.
    pub seen: Option<RecipeSeen>,
}

/// Which version of a recipe is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeRef<'a> {
    /// This release.
    Release(&'a str),
    /// A commit that begins so, in lower-case digits.
    Commit(&'a str),
}

impl Store {
    /// Of every recipe its latest runs, at most `each` of it; newest first.
    pub async fn recipe_runs(&self, each: u32) -> Result<Vec<RecipeRun>, StoreError> {
        // Which they are is found out before their columns are read: sorting whole rows costs as much again.
        let sql = format!(
            "SELECT {COLUMNS} FROM (
                SELECT id, ROW_NUMBER() OVER (PARTITION BY target_id ORDER BY number DESC) AS place
                FROM runs WHERE pipeline = 'recipe'
            ) AS latest JOIN runs r ON r.id = latest.id LEFT JOIN recipe_runs c ON c.run = r.id
            WHERE latest.place <= $1 ORDER BY r.number DESC"
        );
        let rows: Vec<SeenRow> =
            db::all(self.db().reader(), &sql, values![i64::from(each)]).await.doing(LIST)?;
        rows.into_iter().map(SeenRow::decode).collect()
    }

    /// Of every recipe the latest run that others are held against.
    pub async fn recipe_greens(&self) -> Result<Vec<RecipeRun>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM (
                SELECT MAX(r.number) AS number FROM recipe_runs c JOIN runs r ON r.id = c.run
                WHERE c.baseline GROUP BY r.target_id
            ) AS latest JOIN runs r ON r.number = latest.number JOIN recipe_runs c ON c.run = r.id
            ORDER BY r.number DESC"
        );
        let rows: Vec<SeenRow> = db::all(self.db().reader(), &sql, values![]).await.doing(LIST)?;
        rows.into_iter().map(SeenRow::decode).collect()
    }

    /// The latest runs of one recipe that are over, of a version of it where one is asked for; newest first.
    pub async fn recipe_runs_of(
        &self,
        recipe: TargetId,
        of: Option<RecipeRef<'_>>,
        limit: u32,
    ) -> Result<Vec<RecipeRun>, StoreError> {
        let (only, wanted) = match of {
            None => ("", None),
            // What files were changed in is no version.
            Some(RecipeRef::Release(name)) => {
                (" AND c.release = $3 AND NOT c.changed", Some(name.to_owned()))
            }
            Some(RecipeRef::Commit(digits)) => {
                (" AND c.commit_id LIKE $3 AND NOT c.changed", Some(format!("{digits}%")))
            }
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM runs r JOIN recipe_runs c ON c.run = r.id
            WHERE r.pipeline = 'recipe' AND r.target_id = $1{only} ORDER BY r.number DESC LIMIT $2"
        );
        let mut values = values![recipe.0, i64::from(limit)];
        values.extend(wanted.map(sea_orm::Value::from));
        let rows: Vec<SeenRow> = db::all(self.db().reader(), &sql, values).await.doing(LIST)?;
        rows.into_iter().map(SeenRow::decode).collect()
    }

    /// What runs are compared by, of those that ended from `from` on and before `to`: at most `limit`, the latest of them,
    /// oldest first.
    pub async fn recipe_results(
        &self,
        from: Micros,
        to: Micros,
        limit: u32,
    ) -> Result<Vec<Value>, StoreError> {
        #[derive(FromQueryResult)]
        struct Kept {
            number: i64,
            results: String,
        }
        let sql = "SELECT r.number, c.results FROM runs r JOIN recipe_runs c ON c.run = r.id
            WHERE r.completed_at >= $1 AND r.completed_at < $2 AND c.results IS NOT NULL
            ORDER BY r.number DESC LIMIT $3";
        let values = values![from.0, to.0, i64::from(limit)];
        let rows: Vec<Kept> = db::all(self.db().reader(), sql, values).await.doing(LIST)?;
        let read = |row: &Kept| {
            serde_json::from_str(&row.results)
                .map_err(|e| StoreError::unreadable(LIST, "run", format!("run {}: {e}", row.number)))
        };
        rows.iter().rev().map(read).collect()
    }

    /// Sealed runs over recipes of which there is no row: an older version has sealed them. Oldest first.
    pub async fn recipe_runs_without_row(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, RunId)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Numbered {
            number: i64,
            run: Uuid,
        }
        let sql = "SELECT r.number, r.id AS run FROM runs r LEFT JOIN recipe_runs c ON c.run = r.id
            WHERE r.pipeline = 'recipe' AND r.sealed AND c.run IS NULL AND r.number > $1 ORDER BY r.number LIMIT $2";
        let rows: Vec<Numbered> =
            db::all(self.db().reader(), sql, values![after, i64::from(limit)]).await.doing(LIST)?;
        Ok(rows.into_iter().map(|row| (row.number, RunId(row.run))).collect())
    }

    /// Stores what a run came to that an older version has sealed.
    pub async fn put_recipe_run(
        &self,
        run: RunId,
        seen: &RecipeSeen,
        results: Option<&Value>,
    ) -> Result<(), StoreError> {
        put(self.db().writer(), run, seen, results).await.doing(PUT)
    }
}

/// Said again, the later one counts.
pub(crate) async fn put(
    db: &impl ConnectionTrait,
    run: RunId,
    seen: &RecipeSeen,
    results: Option<&Value>,
) -> Result<(), DbErr> {
    let sql = "INSERT INTO recipe_runs (run, rungs, messages, code, checks_off, stages_left_out, release, commit_id,
            changed, baseline, results)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (run) DO UPDATE SET rungs = excluded.rungs, messages = excluded.messages, code = excluded.code,
            checks_off = excluded.checks_off, stages_left_out = excluded.stages_left_out,
            release = excluded.release, commit_id = excluded.commit_id, changed = excluded.changed,
            baseline = excluded.baseline, results = excluded.results";
    let rungs: Vec<&str> = seen.rungs.iter().map(|status| status.as_str()).collect();
    let messages: Vec<String> = seen.messages.iter().map(|message| message.replace('\n', " ")).collect();
    let version = seen.version.as_ref();
    let values = values![
        run.0,
        rungs.join(" "),
        printable(&messages.join("\n")),
        seen.code.as_deref().map(printable),
        seen.checks_off,
        seen.stages_left_out,
        version.and_then(|version| version.release.as_deref()).map(printable),
        version.and_then(|version| version.commit.as_deref()).map(printable),
        version.is_some_and(|version| version.changed),
        seen.baseline,
        results.map(|results| printable(&results.to_string())),
    ];
    execute(db, sql, values).await.map(drop)
}

#[derive(FromQueryResult)]
struct SeenRow {
    #[sea_orm(nested)]
    run: Row,
    whole: bool,
    pull_request: Option<String>,
    rungs: Option<String>,
    messages: Option<String>,
    code: Option<String>,
    checks_off: Option<bool>,
    stages_left_out: Option<bool>,
    release: Option<String>,
    commit_id: Option<String>,
    changed: Option<bool>,
    baseline: Option<bool>,
}

impl SeenRow {
    fn decode(self) -> Result<RecipeRun, StoreError> {
        let run = self.run.decode()?;
        let unreadable =
            |why: String| StoreError::unreadable(LIST, "run", format!("run {}: {why}", run.number));
        // All or nothing: a row has its columns together.
        let flags = [self.checks_off, self.stages_left_out, self.changed, self.baseline];
        let seen = match (self.rungs, self.messages, flags) {
            (
                Some(rungs),
                Some(messages),
                [Some(checks_off), Some(stages_left_out), Some(changed), Some(baseline)],
            ) => {
                let rungs: Result<Vec<RungStatus>, _> = rungs.split(' ').map(str::parse).collect();
                let rungs = rungs.map_err(|e| unreadable(e.to_string()))?;
                if rungs.len() != Rung::ALL.len() {
                    return Err(unreadable(format!("{} rungs instead of {}", rungs.len(), Rung::ALL.len())));
                }
                let (release, commit) = (self.release, self.commit_id);
                let told = release.is_some() || commit.is_some();
                let version = told.then_some(RecipeVersion { release, commit, changed });
                let messages = messages.split('\n').map(str::to_owned).collect();
                let code = self.code;
                Some(RecipeSeen { rungs, messages, code, checks_off, stages_left_out, version, baseline })
            }
            (None, None, [None, None, None, None]) => None,
            _ => return Err(unreadable("half of what it came to is missing".to_owned())),
        };
        Ok(RecipeRun { run, whole: self.whole, pull_request: self.pull_request, seen })
    }
}
