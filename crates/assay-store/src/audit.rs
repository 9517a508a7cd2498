//! The audit trail: who did what, append-only and chained like a run's journal.

use assay_model::journal::StoredEvent;
use assay_model::{Micros, RunId, Sha256};
use sea_orm::FromQueryResult;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::{EventRow, digest};

const APPEND: &str = "append to the audit trail";

/// What stands in the place of the run in the audit trail's hashes.
pub const AUDIT_CHAIN: RunId = RunId(Uuid::nil());

impl Store {
    /// Appends an entry.
    pub async fn audit(&self, at: Micros, who: &str, what: &str, detail: &Value) -> Result<(), StoreError> {
        #[derive(FromQueryResult)]
        struct Last {
            hash: Vec<u8>,
        }
        let tx = self.db().begin(APPEND).await?;
        let seq = db::next_number(&tx, "audit").await.doing(APPEND)?;
        let sql = "SELECT hash FROM audit WHERE seq = $1";
        let last: Option<Last> = db::one(&tx, sql, values![seq - 1]).await.doing(APPEND)?;
        let prev = match last {
            Some(last) => digest(APPEND, &last.hash)?,
            // After removed rows this does not hide the gap: the chain restarts, and verifying fails there.
            None => Sha256::ZERO,
        };
        let body = json!({"who": who, "what": what, "detail": detail}).to_string().into_bytes();
        let entry = StoredEvent::chain(AUDIT_CHAIN, seq, at, "Audit@1".to_owned(), body, prev);
        let sql = "INSERT INTO audit (seq, at, kind, body, prev_hash, hash) VALUES ($1, $2, $3, $4, $5, $6)";
        let values = values![
            entry.seq,
            entry.at.0,
            entry.kind,
            entry.body,
            entry.prev_hash.0.to_vec(),
            entry.hash.0.to_vec(),
        ];
        execute(&tx, sql, values).await.doing(APPEND)?;
        tx.commit().await.doing(APPEND)
    }

    /// The entries after `seq`, oldest first, at most `limit`. Verify a whole trail with
    /// `assay_model::journal::verify` and [`AUDIT_CHAIN`].
    pub async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let sql =
            "SELECT seq, at, kind, body, prev_hash, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows: Vec<EventRow> = db::all(self.db().reader(), sql, values![seq, i64::from(limit)])
            .await
            .doing("read the audit trail")?;
        rows.into_iter().map(EventRow::stored).collect()
    }
}
