//! What can go wrong with the database, told apart by what the operator has to do about it.

use std::fmt;

use assay_model::journal::BrokenChain;
use sea_orm::sqlx::error::DatabaseError;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};

/// A database operation failed. Nothing of it was written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not {operation}: {kind}")]
pub struct StoreError {
    /// What was being done, as the rest of "could not …".
    pub operation: &'static str,
    /// What went wrong.
    #[source]
    pub kind: StoreErrorKind,
}

/// Why a database operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreErrorKind {
    /// No room is left where the database lives.
    #[error("the disk that holds the database is full; free some space, nothing was lost ({0})")]
    DiskFull(DbErr),
    /// Another process kept the database locked for longer than we wait.
    #[error("the database stayed locked by another process; is a second server using the same file? ({0})")]
    Locked(DbErr),
    /// The file or its folder may not be written.
    #[error("the database may not be written; check the owner and mode of the file and its folder ({0})")]
    ReadOnly(DbErr),
    /// The file is damaged, or is no database.
    #[error("the database file is damaged or is no database; restore it from a backup ({0})")]
    Corrupt(DbErr),
    /// The database cannot be reached or opened.
    #[error("the database cannot be reached; check its URL, and that it runs ({0})")]
    Unreachable(DbErr),
    /// A newer Assay has migrated this database.
    #[error(
        "a newer Assay wrote this database (it has migration `{migration}`, unknown here); start that version, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The first migration that is not known here.
        migration: String,
    },
    /// The URL is of a kind that is not supported.
    #[error(
        "`{0}` is no database URL for Assay; write sqlite:///path/to/assay.db or postgres://user@host/name"
    )]
    Url(String),
    /// A stored journal does not hold together any more.
    #[error("the journal of run {run} was altered in the database: {source}; restore it from a backup")]
    Broken {
        /// The run.
        run: assay_model::RunId,
        /// What is wrong, and where.
        source: BrokenChain,
    },
    /// A stored row does not read; it was changed by hand, or by something else.
    #[error("a stored {what} does not read: {message}")]
    Unreadable {
        /// What kind of row.
        what: &'static str,
        /// Why not.
        message: String,
    },
    /// What was asked does not fit what is stored; read again and decide again.
    #[error("{0}")]
    Conflict(String),
    /// What was given cannot be stored as it is.
    #[error("{0}")]
    Invalid(String),
    /// The rows were dropped by retention.
    #[error("the rows of that day were dropped by retention")]
    Pruned,
    /// The row that it belongs to does not exist.
    #[error("what it belongs to does not exist ({0})")]
    Orphan(DbErr),
    /// The part of this process that writes bulk rows has ended.
    #[error("the store is closing; send it again")]
    Closing,
    /// Anything else that the database says.
    #[error("the database says: {0}")]
    Database(DbErr),
}

impl StoreError {
    pub(crate) const fn new(operation: &'static str, kind: StoreErrorKind) -> Self {
        Self { operation, kind }
    }

    pub(crate) fn unreadable(operation: &'static str, what: &'static str, why: impl fmt::Display) -> Self {
        Self::new(operation, StoreErrorKind::Unreadable { what, message: format!("{why}") })
    }

    /// Whether waiting a moment and asking again may help.
    pub const fn is_transient(&self) -> bool {
        use StoreErrorKind as K;
        matches!(self.kind, K::Locked(_) | K::Unreachable(_) | K::DiskFull(_) | K::Closing)
    }
}

impl From<DbErr> for StoreErrorKind {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(what)) => {
                return Self::Conflict(format!("something like it is stored already ({what})"));
            }
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => return Self::Orphan(error),
            _ => {}
        }
        match code(&error) {
            Code::DiskFull => Self::DiskFull(error),
            Code::Locked => Self::Locked(error),
            Code::ReadOnly => Self::ReadOnly(error),
            Code::Corrupt => Self::Corrupt(error),
            Code::Unreachable => Self::Unreachable(error),
            Code::Other => Self::Database(error),
        }
    }
}

/// Names the operation of a failed database call.
pub(crate) trait Doing<T> {
    fn doing(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, DbErr> {
    fn doing(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::new(operation, error.into()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Code {
    DiskFull,
    Locked,
    ReadOnly,
    Corrupt,
    Unreachable,
    Other,
}

fn code(error: &DbErr) -> Code {
    let (DbErr::Conn(RuntimeErr::SqlxError(inner))
    | DbErr::Exec(RuntimeErr::SqlxError(inner))
    | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Code::Locked,
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Code::Unreachable,
            _ => Code::Other,
        };
    };
    let Some(code) = inner.as_database_error().and_then(DatabaseError::code) else {
        return if matches!(**inner, sea_orm::sqlx::Error::Io(_)) { Code::Unreachable } else { Code::Other };
    };
    match code.parse::<i32>() {
        Ok(sqlite) if code.len() < 5 => sqlite_code(sqlite),
        _ => postgres_code(&code),
    }
}

/// <https://sqlite.org/rescode.html>: the low byte is the primary code.
const fn sqlite_code(extended: i32) -> Code {
    match extended & 0xff {
        5 | 6 => Code::Locked,
        8 => Code::ReadOnly,
        11 | 26 => Code::Corrupt,
        13 => Code::DiskFull,
        14 => Code::Unreachable,
        _ => Code::Other,
    }
}

/// PostgreSQL, appendix A: the first two characters are the class.
fn postgres_code(state: &str) -> Code {
    match state {
        "53100" => Code::DiskFull,
        "55P03" | "40P01" | "40001" => Code::Locked,
        "25006" | "42501" => Code::ReadOnly,
        "XX001" | "XX002" => Code::Corrupt,
        _ if state.starts_with("08")
            || state.starts_with("57P")
            || state.starts_with("28")
            || state == "3D000" =>
        {
            Code::Unreachable
        }
        _ => Code::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_by_what_to_do_about_them() {
        // SQLITE_BUSY_SNAPSHOT, SQLITE_READONLY_DIRECTORY, SQLITE_CORRUPT_INDEX, SQLITE_NOTADB, SQLITE_FULL
        let sqlite = [517, 1544, 779, 26, 13, 1].map(sqlite_code);
        assert_eq!(
            sqlite,
            [Code::Locked, Code::ReadOnly, Code::Corrupt, Code::Corrupt, Code::DiskFull, Code::Other]
        );
        let postgres = ["53100", "55P03", "25006", "XX001", "57P03", "08006", "42601"].map(postgres_code);
        assert_eq!(
            postgres,
            [
                Code::DiskFull,
                Code::Locked,
                Code::ReadOnly,
                Code::Corrupt,
                Code::Unreachable,
                Code::Unreachable,
                Code::Other
            ]
        );
    }
}
