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

use sea_orm::sqlx::Connection as _;
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

/// Statements that are sent together, in order, inside a transaction; each changes a known number of rows.
///
/// An SQLite connection lives on a thread of its own, and the way there and back costs more than most
/// statements do. All of a batch goes there at once. PostgreSQL takes one prepared statement at a time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    sql: &'static str,
    values: Vec<Value>,
    rows: u64,
}

impl Batch {
    /// Adds a statement that has to change exactly `rows` rows.
    pub(crate) fn push(&mut self, rows: u64, sql: &'static str, values: Vec<Value>) {
        self.steps.push(Step { sql, values, rows });
    }

    /// Runs them; fails if they do not change what they have to. The caller then rolls back.
    pub(crate) async fn run(self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        if db.get_database_backend() == DbBackend::Postgres {
            for Step { sql, values, rows } in self.steps {
                expect_rows(rows, execute(db, sql, values).await?, sql)?;
            }
            return Ok(());
        }
        let Some(first) = self.steps.first() else { return Ok(()) };
        let first = first.sql;
        let rows = self.steps.iter().map(|step| step.rows).sum();
        let mut sql = String::with_capacity(self.steps.iter().map(|step| step.sql.len() + 16).sum());
        let mut values = Vec::with_capacity(self.steps.iter().map(|step| step.values.len()).sum());
        for step in self.steps {
            renumber(step.sql, values.len(), &mut sql);
            sql.push(';');
            values.extend(step.values);
        }
        expect_rows(rows, execute(db, &sql, values).await?, first)
    }
}

fn expect_rows(expected: u64, changed: u64, sql: &str) -> Result<(), DbErr> {
    if changed == expected {
        return Ok(());
    }
    // What they change is locked since it was read; this would be a bug here, never a race.
    Err(DbErr::Custom(format!("{changed} rows changed instead of {expected}, from `{sql}` on")))
}

/// Appends `sql` with every parameter `$n` as `$(n + offset)`. Our statements hold no `$` in a text.
fn renumber(sql: &str, offset: usize, out: &mut String) {
    let mut parts = sql.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        out.push('$');
        match number.parse::<usize>() {
            Ok(number) => out.push_str(&(number + offset).to_string()),
            Err(_) => out.push_str(number),
        }
        out.push_str(rest);
    }
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
    options.map_sqlx_sqlite_before_acquire(|connection, _| {
        // SQLite ends a transaction by itself when the disk is full. The driver's own rollback then
        // fails, and it goes on counting the transaction as open: the next one would be nested in it
        // and its commit would commit nothing. Such a connection is thrown away; the pool opens another.
        let usable = !connection.is_in_transaction();
        Box::pin(std::future::ready(Ok(usable)))
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
    fn parameters_of_a_later_statement_follow_those_of_an_earlier_one() {
        let mut sql = String::new();
        renumber("UPDATE t SET a = $2, b = $10 WHERE c = $1", 0, &mut sql);
        sql.push(';');
        renumber("DELETE FROM t WHERE a = $1 AND b > $2", 10, &mut sql);
        renumber("SELECT 1", 12, &mut sql);
        let expected =
            "UPDATE t SET a = $2, b = $10 WHERE c = $1;DELETE FROM t WHERE a = $11 AND b > $12SELECT 1";
        assert_eq!(sql, expected);
    }

    /// What SQLite does by itself when the disk is full, and what followed: see [`sqlite`].
    #[tokio::test]
    async fn after_a_rollback_behind_the_drivers_back_a_commit_still_commits() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::connect(&format!("sqlite://{}/t.db", folder.path().display())).await.expect("opens");
        db.writer().execute_unprepared("CREATE TABLE t (a bigint)").await.expect("made");

        let ended = db.begin("test").await.expect("begun");
        ended.execute_unprepared("ROLLBACK").await.expect("as SQLite does");
        drop(ended);
        drop(db.begin("test").await.expect("begun, and given up"));
        let tx = db.begin("test").await.expect("begun");
        tx.execute_unprepared("INSERT INTO t VALUES (1)").await.expect("inserted");
        tx.commit().await.expect("committed");

        let row = db.reader().query_one_raw(Statement::from_string(DbBackend::Sqlite, "SELECT a FROM t"));
        assert!(row.await.expect("read").is_some(), "what was committed can be read by others");
    }

    #[tokio::test]
    async fn a_batch_is_whole_or_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = Db::connect(&format!("sqlite://{}/t.db", folder.path().display())).await.expect("opens");
        db.writer().execute_unprepared("CREATE TABLE t (a bigint PRIMARY KEY, b text)").await.expect("made");
        let insert = "INSERT INTO t (a, b) VALUES ($1, $2)";
        let two = || {
            let mut batch = Batch::default();
            batch.push(1, insert, values![1_i64, "one"]);
            batch.push(1, insert, values![2_i64, "two"]);
            batch
        };
        let tx = db.begin("test").await.expect("begun");
        let mut batch = two();
        batch.push(2, "UPDATE t SET b = b || $2 WHERE a > $1", values![0_i64, "!"]);
        batch.run(&tx).await.expect("four rows");
        tx.commit().await.expect("committed");
        let texts = async || {
            #[derive(FromQueryResult)]
            struct Row {
                b: String,
            }
            let rows: Vec<Row> =
                all(db.reader(), "SELECT b FROM t ORDER BY a", values![]).await.expect("read");
            rows.into_iter().map(|row| row.b).collect::<Vec<_>>()
        };
        assert_eq!(texts().await, ["one!", "two!"]);

        let tx = db.begin("test").await.expect("begun");
        let mut batch = Batch::default();
        batch.push(1, "UPDATE t SET b = $2 WHERE a = $1", values![7_i64, "nobody"]);
        let problem = batch.run(&tx).await.expect_err("no such row").to_string();
        assert!(problem.contains("0 rows changed instead of 1"), "{problem}");
        drop(tx);

        let tx = db.begin("test").await.expect("begun");
        let mut batch = Batch::default();
        batch.push(1, insert, values![3_i64, "three"]);
        batch.push(1, insert, values![1_i64, "again"]);
        batch.run(&tx).await.expect_err("the key is taken");
        drop(tx);
        assert_eq!(texts().await, ["one!", "two!"], "nothing of it stays");
        db.close().await.expect("closes");
    }

    #[test]
    fn column_types_follow_the_database() {
        let sql = "CREATE TABLE t (a {uuid}, b {blob}) {clustered}";
        assert_eq!(schema(DbBackend::Postgres, sql), "CREATE TABLE t (a uuid, b bytea) ");
        assert_eq!(schema(DbBackend::Sqlite, sql), "CREATE TABLE t (a blob, b blob) WITHOUT ROWID");
    }
}
