//! The people and programs that may ask for things: operators, their sessions, API tokens.
//!
//! Passwords are stored as Argon2 strings made by the caller, tokens as digests.

use std::fmt;
use std::str::FromStr;

use assay_model::{Micros, Sha256};
use sea_orm::FromQueryResult;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::digest;

const OPERATOR: &str = "read an operator";
const SESSION: &str = "read a session";
const TOKEN: &str = "read an API token";

/// What someone may do. Ordered: each may do what the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Starts runs and decides about them.
    Operator,
    /// Registers hosts, people and tokens.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; write viewer, operator or admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == s);
        role.ok_or_else(|| UnknownRole(s.chars().take(40).collect()))
    }
}

/// Someone who signs in with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name they sign in with.
    pub name: String,
    /// Argon2, in PHC form.
    pub password_hash: String,
    /// What they may do.
    pub role: Role,
}

/// A browser that has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie.
    pub hash: Sha256,
    /// Whose.
    pub operator: String,
    /// What a form has to send along.
    pub csrf: String,
    /// When it ends; the caller compares.
    pub expires: Micros,
}

/// A program's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// SHA-256 of the token.
    pub hash: Sha256,
    /// What it is called; unique for ever, so that the audit trail stays readable.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Micros,
    /// When it was revoked; a revoked one opens nothing.
    pub revoked_at: Option<Micros>,
}

impl Store {
    /// Stores an operator, or replaces password and role. A changed password ends their sessions.
    pub async fn operator_put(&self, operator: &Operator) -> Result<(), StoreError> {
        const PUT: &str = "store an operator";
        let tx = self.db().begin(PUT).await?;
        let sql = "DELETE FROM sessions WHERE operator IN
            (SELECT name FROM operators WHERE name = $1 AND password_hash <> $2)";
        execute(&tx, sql, values![operator.name.as_str(), operator.password_hash.as_str()])
            .await
            .doing(PUT)?;
        let sql = "INSERT INTO operators (name, password_hash, role) VALUES ($1, $2, $3)
            ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, role = excluded.role";
        let values = values![operator.name.as_str(), operator.password_hash.as_str(), operator.role.as_str()];
        execute(&tx, sql, values).await.doing(PUT)?;
        tx.commit().await.doing(PUT)
    }

    /// The operator of this name.
    pub async fn operator(&self, name: &str) -> Result<Option<Operator>, StoreError> {
        let sql = "SELECT name, password_hash, role FROM operators WHERE name = $1";
        let row: Option<OperatorRow> =
            db::one(self.db().reader(), sql, values![name]).await.doing(OPERATOR)?;
        row.map(OperatorRow::decode).transpose()
    }

    /// Every operator, by name.
    pub async fn operators(&self) -> Result<Vec<Operator>, StoreError> {
        let sql = "SELECT name, password_hash, role FROM operators ORDER BY name";
        let rows: Vec<OperatorRow> = db::all(self.db().reader(), sql, values![]).await.doing(OPERATOR)?;
        rows.into_iter().map(OperatorRow::decode).collect()
    }

    /// Removes an operator and their sessions. False when there is none of this name.
    pub async fn operator_remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed =
            execute(self.db().writer(), "DELETE FROM operators WHERE name = $1", values![name]).await;
        Ok(removed.doing("remove an operator")? == 1)
    }

    /// Stores a session.
    pub async fn session_put(&self, session: &Session) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions (hash, operator, csrf, expires) VALUES ($1, $2, $3, $4)";
        let values = values![
            session.hash.0.to_vec(),
            session.operator.as_str(),
            session.csrf.as_str(),
            session.expires.0
        ];
        execute(self.db().writer(), sql, values).await.doing("store a session").map(drop)
    }

    /// The session with this digest, expired or not.
    pub async fn session(&self, hash: Sha256) -> Result<Option<Session>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            operator: String,
            csrf: String,
            expires: i64,
        }
        let sql = "SELECT operator, csrf, expires FROM sessions WHERE hash = $1";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![hash.0.to_vec()]).await.doing(SESSION)?;
        Ok(row.map(|r| Session { hash, operator: r.operator, csrf: r.csrf, expires: Micros(r.expires) }))
    }

    /// Signs a browser out. False when it was not signed in.
    pub async fn session_remove(&self, hash: Sha256) -> Result<bool, StoreError> {
        let removed =
            execute(self.db().writer(), "DELETE FROM sessions WHERE hash = $1", values![hash.0.to_vec()])
                .await;
        Ok(removed.doing("remove a session")? == 1)
    }

    /// Removes the sessions that ended before `now`; returns how many.
    pub async fn sessions_expire(&self, now: Micros) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE expires <= $1";
        execute(self.db().writer(), sql, values![now.0]).await.doing("remove expired sessions")
    }

    /// Stores an API token. A name that was ever used is refused.
    pub async fn api_token_put(&self, token: &ApiToken) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO api_tokens (hash, name, role, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5)";
        let values = values![
            token.hash.0.to_vec(),
            token.name.as_str(),
            token.role.as_str(),
            token.created_at.0,
            token.revoked_at.map(|t| t.0),
        ];
        execute(self.db().writer(), sql, values).await.doing("store an API token").map(drop)
    }

    /// The API token with this digest, revoked or not.
    pub async fn api_token(&self, hash: Sha256) -> Result<Option<ApiToken>, StoreError> {
        let sql = "SELECT hash, name, role, created_at, revoked_at FROM api_tokens WHERE hash = $1";
        let row: Option<ApiTokenRow> =
            db::one(self.db().reader(), sql, values![hash.0.to_vec()]).await.doing(TOKEN)?;
        row.map(ApiTokenRow::decode).transpose()
    }

    /// Every API token, by name.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = "SELECT hash, name, role, created_at, revoked_at FROM api_tokens ORDER BY name";
        let rows: Vec<ApiTokenRow> = db::all(self.db().reader(), sql, values![]).await.doing(TOKEN)?;
        rows.into_iter().map(ApiTokenRow::decode).collect()
    }

    /// Revokes an API token. False when there is none of this name, or it is revoked already.
    pub async fn api_token_revoke(&self, name: &str, at: Micros) -> Result<bool, StoreError> {
        let sql = "UPDATE api_tokens SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL";
        Ok(execute(self.db().writer(), sql, values![name, at.0]).await.doing("revoke an API token")? == 1)
    }
}

#[derive(FromQueryResult)]
struct OperatorRow {
    name: String,
    password_hash: String,
    role: String,
}

impl OperatorRow {
    fn decode(self) -> Result<Operator, StoreError> {
        let role = self.role.parse().map_err(|e| StoreError::unreadable(OPERATOR, "operator", e))?;
        Ok(Operator { name: self.name, password_hash: self.password_hash, role })
    }
}

#[derive(FromQueryResult)]
struct ApiTokenRow {
    hash: Vec<u8>,
    name: String,
    role: String,
    created_at: i64,
    revoked_at: Option<i64>,
}

impl ApiTokenRow {
    fn decode(self) -> Result<ApiToken, StoreError> {
        Ok(ApiToken {
            hash: digest(TOKEN, &self.hash)?,
            role: self.role.parse().map_err(|e| StoreError::unreadable(TOKEN, "API token", e))?,
            name: self.name,
            created_at: Micros(self.created_at),
            revoked_at: self.revoked_at.map(Micros),
        })
    }
}
