//! The two databases behind one face: how each is opened, and how a statement reaches it.
//!
//! Statements are constant SQL in the subset that SQLite (3.35 and later) and PostgreSQL share,
//! with `$n` parameters, so each is prepared once per connection and nothing is built per call.
//! What differs is named here and nowhere else: column types and `FOR UPDATE`.
//!
//! SQLite takes one writer at a time. A pool of exactly one connection is the queue for it: fair,
//! and without the sleeping and polling of SQLite's own busy handler. `BEGIN IMMEDIATE` and the
//! busy timeout still guard against other processes.

use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, FromQueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    Value,
};

use crate::error::{Doing as _, StoreError, StoreErrorKind};

const OPEN: &str = "open the database";
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long to wait for a lock or a free connection before it is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connections of a store.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
}

impl Db {
    /// Opens the database; does not migrate it.
    pub(crate) async fn connect(url: &str) -> Result<Self, StoreError> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => {
                // The writer first: it creates the file and switches it to WAL.
                let writer = Database::connect(sqlite(url, 1)).await.doing(OPEN)?;
                let reader = Database::connect(sqlite(url, READERS)).await.doing(OPEN)?;
                Ok(Self { writer, reader })
            }
            "postgres" | "postgresql" => {
                let writer = Database::connect(options(url, POSTGRES_CONNECTIONS)).await.doing(OPEN)?;
                Ok(Self { reader: writer.clone(), writer })
            }
            _ => {
                // The URL may hold a password; its scheme says enough.
                let shown = scheme.chars().take(40).collect();
                Err(StoreError::new(OPEN, StoreErrorKind::Url(shown)))
            }
        }
    }

    /// For statements that only read.
    pub(crate) const fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single statements that write, and for migrations.
    pub(crate) const fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// A write transaction. Rolled back when dropped.
    pub(crate) async fn begin(&self, operation: &'static str) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.writer.begin_with_options(options).await.doing(operation)
    }

    /// Whether this is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        self.writer.get_database_backend() == DbBackend::Postgres
    }

    /// Closes every connection, so that the file can be moved or the server stopped.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.reader.clone().close().await.doing("close the database")?;
        self.writer.clone().close().await.doing("close the database")
    }
}

/// Values for a statement, in the order of its parameters.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(::sea_orm::Value::from($value)),*] };
}
pub(crate) use values;

/// Runs a statement; returns how many rows it changed.
pub(crate) async fn execute(db: &impl ConnectionTrait, sql: &str, values: Vec<Value>) -> Result<u64, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.execute_raw(statement).await.map(|done: ExecResult| done.rows_affected())
}

/// Reads at most one row.
pub(crate) async fn one<T: FromQueryResult>(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<Option<T>, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.query_one_raw(statement).await?.map(|row| T::from_query_result(&row, "")).transpose()
}

/// Reads every row.
pub(crate) async fn all<T: FromQueryResult>(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    db.query_all_raw(statement).await?.iter().map(|row| T::from_query_result(row, "")).collect()
}

/// The next number of a gapless sequence. Its row stays locked until the transaction ends.
pub(crate) async fn next_number(tx: &DatabaseTransaction, name: &str) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Next {
        value: i64,
    }
    let sql = "UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value";
    let next: Option<Next> = one(tx, sql, values![name]).await?;
    next.map(|n| n.value).ok_or_else(|| DbErr::RecordNotFound(format!("the counter `{name}`")))
}

/// Adds the row lock that PostgreSQL needs; an SQLite write transaction has the whole file.
pub(crate) fn for_update(db: &impl ConnectionTrait, sql: &'static str, locked: &'static str) -> &'static str {
    if db.get_database_backend() == DbBackend::Postgres { locked } else { sql }
}

/// Text that the machine under test may have chosen, made fit for a text column: PostgreSQL
/// refuses NUL, and a machine must not be able to stop its own verdict with one.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Translates the column types of a schema: `{uuid}`, `{blob}`, and `{clustered}` for a table that
/// SQLite keeps in the order of its primary key (one page less to write per row).
pub(crate) fn schema(backend: DbBackend, sql: &str) -> String {
    let (uuid, blob, clustered) = match backend {
        DbBackend::Postgres => ("uuid", "bytea", ""),
        _ => ("blob", "blob", "WITHOUT ROWID"),
    };
    sql.replace("{uuid}", uuid).replace("{blob}", blob).replace("{clustered}", clustered)
}

fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = options(url, connections);
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
    });
    options
}

fn options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .connect_timeout(PATIENCE)
        .test_before_acquire(false)
        .sqlx_logging(false);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_from_a_machine_does_not_reach_a_text_column() {
        assert_eq!(printable("ok\0\u{7}é"), "ok\u{fffd}\u{7}é");
    }

    #[test]
    fn column_types_follow_the_database() {
        let sql = "CREATE TABLE t (a {uuid}, b {blob}) {clustered}";
        assert_eq!(schema(DbBackend::Postgres, sql), "CREATE TABLE t (a uuid, b bytea) ");
        assert_eq!(schema(DbBackend::Sqlite, sql), "CREATE TABLE t (a blob, b blob) WITHOUT ROWID");
    }
}
