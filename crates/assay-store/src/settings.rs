//! Small settings that the server itself makes and keeps: JSON by key.

use sea_orm::FromQueryResult;
use serde_json::Value;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};

const GET: &str = "read a setting";
const SET: &str = "store a setting";

impl Store {
    /// A setting's value.
    pub async fn setting(&self, key: &str) -> Result<Option<Value>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            value: String,
        }
        let sql = "SELECT value FROM settings WHERE key = $1";
        let row: Option<Row> = db::one(self.db().reader(), sql, values![key]).await.doing(GET)?;
        row.map(|r| serde_json::from_str(&r.value).map_err(|e| StoreError::unreadable(GET, "setting", e)))
            .transpose()
    }

    /// Stores a setting.
    pub async fn set_setting(&self, key: &str, value: &Value) -> Result<(), StoreError> {
        let sql = "INSERT INTO settings (key, value) VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        execute(self.db().writer(), sql, values![key, value.to_string()]).await.doing(SET).map(drop)
    }

    /// Stores a setting unless there is one; returns what is stored. Of two servers that start at
    /// once and each make a key, both end up with the same one.
    pub async fn setting_or_insert(&self, key: &str, value: &Value) -> Result<Value, StoreError> {
        let sql = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        execute(self.db().writer(), sql, values![key, value.to_string()]).await.doing(SET)?;
        self.setting(key).await?.ok_or_else(|| StoreError::unreadable(SET, "setting", "it is gone again"))
    }
}
