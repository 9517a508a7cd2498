//! Log lines of the machine under test, kept in the chunks in which they came.

use assay_model::{Micros, RunId};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::bulk::{Bulk, NewRow, Payload};
use crate::db::{self, values};
use crate::error::{Doing as _, StoreError};

const APPEND: &str = "store log lines";
const READ: &str = "read log lines";

/// One line. Its text was chosen by the machine under test: escape it wherever it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// When, in server time.
    pub at: Micros,
    /// `agent`, `kernel`, or the tool's name.
    pub source: String,
    /// The text, without its line end.
    pub text: String,
}

/// Lines that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Its place among the run's chunks, from 1, in the order of their commit; never changes. Pass
    /// the last one seen to [`Store::log_after`] to go on from there.
    pub cursor: i64,
    /// Which boot it came from.
    pub boot: u32,
    /// Its number within the boot.
    pub seq: i64,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
}

impl Store {
    /// Stores lines; resolves once they are committed. The same `(run, boot, seq)` is stored once.
    pub async fn log_append(
        &self,
        run: RunId,
        boot: u32,
        seq: i64,
        lines: &[LogLine],
    ) -> Result<(), StoreError> {
        let body = serde_json::to_vec(lines).map_err(|e| StoreError::unreadable(APPEND, "log chunk", e))?;
        self.shared.bulk.append(NewRow { run, boot, seq, payload: Payload::Log(body) }).await
    }

    /// The chunks after `cursor` (0 for all), in the order of their commit, at most `limit`. Empty
    /// when there are none or retention has dropped them.
    pub async fn log_after(&self, run: RunId, cursor: i64, limit: u32) -> Result<Vec<LogChunk>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            id: i64,
            boot: i64,
            seq: i64,
            body: Vec<u8>,
        }
        let Some(table) = self.bulk_table(run, Bulk::Log).await? else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT id, boot, seq, body FROM {table} WHERE run = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        let values = values![run.0, cursor, i64::from(limit)];
        let rows: Vec<Row> = db::all(self.db().reader(), &sql, values).await.doing(READ)?;
        let decode = |row: Row| {
            let unreadable = |why: String| {
                StoreError::unreadable(READ, "log chunk", format!("run {run}, number {}: {why}", row.id))
            };
            Ok(LogChunk {
                cursor: row.id,
                boot: u32::try_from(row.boot).map_err(|e| unreadable(e.to_string()))?,
                seq: row.seq,
                lines: serde_json::from_slice(&row.body).map_err(|e| unreadable(e.to_string()))?,
            })
        };
        rows.into_iter().map(decode).collect()
    }
}
