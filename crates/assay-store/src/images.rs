//! Images and their runs: every name that was ever tested, and which bytes stood behind it each time.
//!
//! A name is the operator's and stays; the image behind it changes. What was tested is its digest, as the runner read it.

use assay_model::{Sha256, TargetId};
use sea_orm::{DatabaseTransaction, FromQueryResult};

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::digest;
use crate::runs::{Row, RunRow};

const LIST: &str = "list images";
const PUT: &str = "store which image was tested";

/// The columns of a run and of the image that it tested.
const COLUMNS: &str =
    "r.number, r.id, r.target_id, r.target, r.pipeline, r.profile, r.state, r.stage_index, r.stage_name,
    r.result, r.overridden, r.failed_stage, r.created_at, r.started_at, r.completed_at, r.sealed,
    i.digest, i.bytes, i.volume, i.whole";

/// What a run tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    /// The image's digest, as the runner read it.
    pub digest: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its volume id, once it was inspected.
    pub volume: Option<String>,
    /// Whether the run goes through all stages with all checks on.
    pub whole: bool,
}

/// A run of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRun {
    /// The run.
    pub run: RunRow,
    /// What it tested; none when it never came to read it.
    pub image: Option<ImageSeen>,
}

impl Store {
    /// Of every image its latest runs, at most `each` of it; newest first.
    pub async fn images(&self, each: u32) -> Result<Vec<ImageRun>, StoreError> {
        let sql = format!(
            "SELECT * FROM (
                SELECT {COLUMNS}, ROW_NUMBER() OVER (PARTITION BY r.target_id ORDER BY r.number DESC) AS place
                FROM runs r LEFT JOIN image_runs i ON i.run = r.id WHERE r.pipeline = 'image'
            ) AS latest WHERE place <= $1 ORDER BY number DESC"
        );
        let rows: Vec<ImageRow> =
            db::all(self.db().reader(), &sql, values![i64::from(each)]).await.doing(LIST)?;
        rows.into_iter().map(ImageRow::decode).collect()
    }

    /// The runs of one image, newest first: those with a smaller number than `before`, at most `limit`.
    pub async fn image_runs(
        &self,
        image: TargetId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ImageRun>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs r LEFT JOIN image_runs i ON i.run = r.id
            WHERE r.pipeline = 'image' AND r.target_id = $1 AND r.number < $2 ORDER BY r.number DESC LIMIT $3"
        );
        let values = values![image.0, before.unwrap_or(i64::MAX), i64::from(limit)];
        let rows: Vec<ImageRow> = db::all(self.db().reader(), &sql, values).await.doing(LIST)?;
        rows.into_iter().map(ImageRow::decode).collect()
    }

    /// What a run tested.
    pub async fn image_of(&self, run: assay_model::RunId) -> Result<Option<ImageSeen>, StoreError> {
        let sql = "SELECT digest, bytes, volume, whole FROM image_runs WHERE run = $1";
        let row: Option<Seen> = db::one(self.db().reader(), sql, values![run.0]).await.doing(LIST)?;
        row.map_or(Ok(None), Seen::decode)
    }
}

/// Said again (by a later stage, which knows more, or by a further try), the later one counts.
pub(crate) async fn put(
    tx: &DatabaseTransaction,
    run: assay_model::RunId,
    seen: ImageSeen,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO image_runs (run, digest, bytes, volume, whole) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (run) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes,
            volume = COALESCE(excluded.volume, image_runs.volume), whole = excluded.whole";
    let values = values![
        run.0,
        seen.digest.0.to_vec(),
        i64::try_from(seen.bytes).unwrap_or(i64::MAX),
        seen.volume.as_deref().map(printable),
        seen.whole,
    ];
    execute(tx, sql, values).await.doing(PUT).map(drop)
}

#[derive(FromQueryResult)]
struct ImageRow {
    #[sea_orm(nested)]
    run: Row,
    #[sea_orm(nested)]
    seen: Seen,
}

#[derive(FromQueryResult)]
struct Seen {
    digest: Option<Vec<u8>>,
    bytes: Option<i64>,
    volume: Option<String>,
    whole: Option<bool>,
}

impl ImageRow {
    fn decode(self) -> Result<ImageRun, StoreError> {
        Ok(ImageRun { run: self.run.decode()?, image: self.seen.decode()? })
    }
}

impl Seen {
    /// All or nothing: a row has its columns together.
    fn decode(self) -> Result<Option<ImageSeen>, StoreError> {
        let (Some(sha256), Some(bytes), Some(whole)) = (self.digest, self.bytes, self.whole) else {
            return Ok(None);
        };
        let digest = digest(LIST, &sha256)?;
        Ok(Some(ImageSeen { digest, bytes: bytes.max(0) as u64, volume: self.volume, whole }))
    }
}
