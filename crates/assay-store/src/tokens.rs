//! Tokens of machines and runners. Only digests are stored: a stolen database opens no door.

use assay_model::{Mac, Micros, RunId, Sha256};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, values};
use crate::error::{Doing as _, StoreError, StoreErrorKind};
use crate::journal::RunRef;

const FIND: &str = "look up a token";
const MINT: &str = "store a boot token";
const SPEND: &str = "spend a boot token";
const VOID: &str = "void a run's tokens";

/// A boot token as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootToken {
    /// The run it enrols into.
    pub run: RunId,
    /// Which boot it was minted for.
    pub boot: u32,
    /// Who fetched it.
    pub mac: Mac,
    /// Until when it may be exchanged; the caller compares.
    pub expires: Micros,
    /// Whether it may still be exchanged.
    pub state: BootTokenState,
}

/// What became of a boot token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootTokenState {
    /// May be exchanged once.
    Live,
    /// Was exchanged.
    Spent,
    /// A newer boot, or the end of the run, has voided it.
    Voided,
}

impl BootTokenState {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Spent => "spent",
            Self::Voided => "voided",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Live, Self::Spent, Self::Voided].into_iter().find(|state| state.as_str() == text)
    }
}

impl Store {
    /// A boot token by its digest, in whatever state.
    pub async fn boot_token(&self, hash: Sha256) -> Result<Option<BootToken>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            run: Uuid,
            boot: i64,
            mac: String,
            expires: i64,
            state: String,
        }
        let sql = "SELECT run, boot, mac, expires, state FROM boot_tokens WHERE hash = $1";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![hash.0.to_vec()]).await.doing(FIND)?;
        let Some(row) = row else { return Ok(None) };
        let unreadable = |why: String| StoreError::unreadable(FIND, "boot token", why);
        Ok(Some(BootToken {
            run: RunId(row.run),
            boot: u32::try_from(row.boot).map_err(|e| unreadable(e.to_string()))?,
            mac: row.mac.parse().map_err(|e: assay_model::mac::BadMac| unreadable(e.to_string()))?,
            expires: Micros(row.expires),
            state: BootTokenState::parse(&row.state)
                .ok_or_else(|| unreadable(format!("`{}` is not a token state", row.state)))?,
        }))
    }

    /// The run, and the generation of the enrolment, that an agent's credential opens.
    pub async fn agent_by_credential(&self, hash: Sha256) -> Result<Option<(RunId, i64)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            run: Uuid,
            generation: i64,
        }
        let sql = "SELECT run, generation FROM agent_credentials WHERE hash = $1";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![hash.0.to_vec()]).await.doing(FIND)?;
        Ok(row.map(|r| (RunId(r.run), r.generation)))
    }

    /// The run that a runner's token opens, and the runner it was given to.
    pub async fn runner_by_token(&self, hash: Sha256) -> Result<Option<(RunId, String)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            run: Uuid,
            runner: String,
        }
        let sql = "SELECT run, runner FROM runner_tokens WHERE hash = $1";
        let row: Option<Row> =
            db::one(self.db().reader(), sql, values![hash.0.to_vec()]).await.doing(FIND)?;
        Ok(row.map(|r| (RunId(r.run), r.runner)))
    }

    /// The unsealed runs that this runner holds a token of, oldest first.
    pub async fn runs_of_runner(&self, name: &str) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT r.id AS run FROM runner_tokens t JOIN runs r ON r.id = t.run
            WHERE t.runner = $1 AND NOT r.sealed ORDER BY r.number";
        let rows: Vec<RunRef> =
            db::all(self.db().reader(), sql, values![name]).await.doing("list the runs of a runner")?;
        Ok(rows.into_iter().map(|r| RunId(r.run)).collect())
    }
}

pub(crate) async fn mint(
    tx: &DatabaseTransaction,
    run: RunId,
    hash: Sha256,
    boot: u32,
    mac: Mac,
    expires: Micros,
) -> Result<(), StoreError> {
    void_boot_tokens(tx, run).await.doing(MINT)?;
    let sql =
        "INSERT INTO boot_tokens (hash, run, boot, mac, expires, state) VALUES ($1, $2, $3, $4, $5, 'live')";
    let values = values![hash.0.to_vec(), run.0, i64::from(boot), mac.to_string(), expires.0];
    execute(tx, sql, values).await.doing(MINT).map(drop)
}

pub(crate) async fn spend(tx: &DatabaseTransaction, run: RunId, hash: Sha256) -> Result<(), StoreError> {
    let sql = "UPDATE boot_tokens SET state = 'spent' WHERE hash = $1 AND run = $2 AND state = 'live'";
    if execute(tx, sql, values![hash.0.to_vec(), run.0]).await.doing(SPEND)? == 1 {
        return Ok(());
    }
    let message = "the boot token is not live any more: another boot or another enrolment came first";
    Err(StoreError::new(SPEND, StoreErrorKind::Conflict(message.to_owned())))
}

pub(crate) async fn put_credential(
    tx: &DatabaseTransaction,
    run: RunId,
    hash: Sha256,
    generation: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO agent_credentials (run, hash, generation) VALUES ($1, $2, $3)
        ON CONFLICT (run) DO UPDATE SET hash = excluded.hash, generation = excluded.generation";
    let values = values![run.0, hash.0.to_vec(), generation];
    execute(tx, sql, values).await.doing("store an agent's credential").map(drop)
}

pub(crate) async fn put_runner_token(
    tx: &DatabaseTransaction,
    run: RunId,
    hash: Sha256,
    runner: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO runner_tokens (run, hash, runner) VALUES ($1, $2, $3)
        ON CONFLICT (run) DO UPDATE SET hash = excluded.hash, runner = excluded.runner";
    let values = values![run.0, hash.0.to_vec(), runner];
    execute(tx, sql, values).await.doing("store a runner's token").map(drop)
}

pub(crate) async fn void(tx: &DatabaseTransaction, run: RunId) -> Result<(), StoreError> {
    void_boot_tokens(tx, run).await.doing(VOID)?;
    execute(tx, "DELETE FROM agent_credentials WHERE run = $1", values![run.0]).await.doing(VOID)?;
    execute(tx, "DELETE FROM runner_tokens WHERE run = $1", values![run.0]).await.doing(VOID).map(drop)
}

async fn void_boot_tokens(tx: &DatabaseTransaction, run: RunId) -> Result<u64, sea_orm::DbErr> {
    let sql = "UPDATE boot_tokens SET state = 'voided' WHERE run = $1 AND state = 'live'";
    execute(tx, sql, values![run.0]).await
}
