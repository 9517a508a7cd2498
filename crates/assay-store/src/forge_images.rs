//! Images that pull requests ask for: by what a push touches, or by a comment.
//!
//! That a commit was looked at is stored with what it asks for ([`Store::forge_pushed`]), so each commit asks once, whenever the
//! server dies. An ask has the id of its run from the beginning, as a command has.
//!
//! ```text
//! waits ──→ open → closed        refused, given up, cancelled; a newer commit is there
//!   │         └──→ run → settled a run was created; settled once its commit was told how it ended
//!   └──→ closed
//! ```
//!
//! What the texts mean is the control plane's business: `standing` is JSON, kept as it was given.

use assay_model::{Micros, RunId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::forges::PullKey;

const READ: &str = "read what pull requests ask for";
const PUSHED: &str = "store what a push asks for";
const ANSWER: &str = "store what became of an image that was asked for";

const IMAGE: &str =
    "run, forge, repo, pull, image, head, author, said, heard_at, state, attempts, standing, outcome, status";

/// An image that a pull request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewForgeImage {
    /// The id of the run that it will get, if it gets one.
    pub run: RunId,
    /// The pull request's number.
    pub pull: i64,
    /// The image's name in the settings.
    pub image: String,
    /// The commit.
    pub head: String,
    /// Who asks; none when that account is gone.
    pub author: Option<String>,
    /// What was said, in words.
    pub said: String,
    /// Where it stands.
    pub state: ForgeImageState,
    /// What the pull request is told of it, as JSON.
    pub standing: String,
}

/// Where an image that was asked for stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgeImageState {
    /// For the word of somebody who may ask.
    Waits,
    /// It is to be answered.
    Open,
    /// A run was created.
    Run,
    /// It has ended, and its commit was told so.
    Settled,
    /// There is no run and will be none.
    Closed,
}

/// Commits of a repository that were looked at, and what they ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The forge's name in the settings.
    pub forge: String,
    /// `OWNER/REPOSITORY`.
    pub repo: String,
    /// Pull requests with their latest commits.
    pub heads: Vec<(i64, String)>,
    /// What they ask for.
    pub images: Vec<NewForgeImage>,
}

/// An image that was asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeImage {
    /// The id of its run, which may not exist.
    pub run: RunId,
    /// The pull request.
    pub pull: PullKey,
    /// The image's name in the settings.
    pub image: String,
    /// The commit.
    pub head: String,
    /// Who asked.
    pub author: Option<String>,
    /// What was said, in words.
    pub said: String,
    /// When it was asked for, or allowed.
    pub heard_at: Micros,
    /// Where it stands.
    pub state: ForgeImageState,
    /// How often an answer was tried without success.
    pub attempts: u32,
    /// What the pull request is told where there is no run, as JSON.
    pub standing: String,
    /// What became of it, in words.
    pub outcome: Option<String>,
    /// What its commit was told last.
    pub status: Option<String>,
}

impl ForgeImageState {
    const ALL: [Self; 5] = [Self::Waits, Self::Open, Self::Run, Self::Settled, Self::Closed];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Open => "open",
            Self::Run => "run",
            Self::Settled => "settled",
            Self::Closed => "closed",
        }
    }
}

impl Store {
    /// Up to which commit each pull request of a repository was looked at. Empty where the repository never was; otherwise
    /// there is pull request 0, too.
    pub async fn forge_heads(&self, forge: &str, repo: &str) -> Result<Vec<(i64, String)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            pull: i64,
            head: String,
        }
        let sql = "SELECT pull, head FROM forge_heads WHERE forge = $1 AND repo = $2 ORDER BY pull";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![forge, repo]).await.doing(READ)?;
        Ok(rows.into_iter().map(|row| (row.pull, row.head)).collect())
    }

    /// Stores that commits were looked at, with what they ask for; all of it or nothing. What older commits of the same pull
    /// requests ask for and has not begun is closed.
    pub async fn forge_pushed(&self, pushed: &Pushed, now: Micros) -> Result<(), StoreError> {
        let tx = self.db().begin(PUSHED).await?;
        let (forge, repo) = (pushed.forge.as_str(), pushed.repo.as_str());
        for (pull, head) in pushed.heads.iter().map(|(pull, head)| (*pull, head.as_str())).chain([(0, "")]) {
            let sql = "INSERT INTO forge_heads (forge, repo, pull, head) VALUES ($1, $2, $3, $4)
                ON CONFLICT (forge, repo, pull) DO UPDATE SET head = excluded.head";
            execute(&tx, sql, values![forge, repo, pull, head]).await.doing(PUSHED)?;
            close_older(&tx, &pull_key(forge, repo, pull), head, now).await?;
        }
        for image in &pushed.images {
            insert(&tx, forge, repo, image, now).await?;
            touch(&tx, &pull_key(forge, repo, image.pull), now).await?;
        }
        tx.commit().await.doing(PUSHED)
    }

    /// Somebody who may asks for images of a pull request's commit. What waits for such a word goes on; what older commits asked
    /// for and has not begun is closed.
    pub async fn forge_images_asked(
        &self,
        pull: &PullKey,
        head: &str,
        images: &[NewForgeImage],
        now: Micros,
    ) -> Result<(), StoreError> {
        let tx = self.db().begin(PUSHED).await?;
        close_older(&tx, pull, head, now).await?;
        for image in images {
            let sql = "UPDATE forge_images SET state = 'open', author = $6, said = $7, heard_at = $8, due_at = $8,
                    standing = $9
                WHERE forge = $1 AND repo = $2 AND pull = $3 AND image = $4 AND head = $5 AND state = 'waits'";
            let values = values![
                pull.forge.as_str(),
                pull.repo.as_str(),
                pull.pull,
                image.image.as_str(),
                head,
                image.author.as_deref().map(printable),
                printable(&image.said),
                now.0,
                printable(&image.standing),
            ];
            if execute(&tx, sql, values).await.doing(PUSHED)? == 0 {
                insert(&tx, &pull.forge, &pull.repo, image, now).await?;
            }
        }
        touch(&tx, pull, now).await?;
        tx.commit().await.doing(PUSHED)
    }

    /// Images of a forge that wait for an answer and are due, in the order in which they were asked for.
    pub async fn forge_images_due(
        &self,
        forge: &str,
        now: Micros,
        limit: u32,
    ) -> Result<Vec<ForgeImage>, StoreError> {
        let sql = format!(
            "SELECT {IMAGE} FROM forge_images WHERE forge = $1 AND state = 'open' AND due_at <= $2
            ORDER BY heard_at, image LIMIT $3"
        );
        self.forge_images(&sql, values![forge, now.0, i64::from(limit)]).await
    }

    /// Images of a forge whose run's commit was not yet told how it ended, oldest first.
    pub async fn forge_images_running(&self, forge: &str) -> Result<Vec<ForgeImage>, StoreError> {
        let sql = format!(
            "SELECT {IMAGE} FROM forge_images WHERE forge = $1 AND state = 'run' ORDER BY heard_at, image"
        );
        self.forge_images(&sql, values![forge]).await
    }

    /// The images that a pull request has asked for, the latest first.
    pub async fn forge_images_of(&self, pull: &PullKey, limit: u32) -> Result<Vec<ForgeImage>, StoreError> {
        let sql = format!(
            "SELECT {IMAGE} FROM forge_images WHERE forge = $1 AND repo = $2 AND pull = $3
            ORDER BY heard_at DESC, image LIMIT $4"
        );
        let values = values![pull.forge.as_str(), pull.repo.as_str(), pull.pull, i64::from(limit)];
        self.forge_images(&sql, values).await
    }

    /// The images that were asked for latest in all forges, newest first.
    pub async fn forge_images_latest(&self, limit: u32) -> Result<Vec<ForgeImage>, StoreError> {
        let sql = format!("SELECT {IMAGE} FROM forge_images ORDER BY heard_at DESC, image LIMIT $1");
        self.forge_images(&sql, values![i64::from(limit)]).await
    }

    /// There is no answer yet: again then, and what is told meanwhile. `failed` counts.
    pub async fn forge_image_later(
        &self,
        image: &ForgeImage,
        standing: &str,
        outcome: &str,
        failed: bool,
        (due_at, now): (Micros, Micros),
    ) -> Result<(), StoreError> {
        let tx = self.db().begin(ANSWER).await?;
        let sql = "UPDATE forge_images SET attempts = attempts + $2, due_at = $3, standing = $4, outcome = $5
            WHERE run = $1 AND state = 'open'";
        let values =
            values![image.run.0, i64::from(failed), due_at.0, printable(standing), printable(outcome)];
        let changed = execute(&tx, sql, values).await.doing(ANSWER)?;
        if changed == 1 && standing != image.standing {
            touch(&tx, &image.pull, now).await?;
        }
        tx.commit().await.doing(ANSWER)
    }

    /// Stores what became of an image that was asked for, and that its pull request is to be told. One that was answered already
    /// stays as it is. Returns whether it was.
    pub async fn forge_image_answered(
        &self,
        image: &ForgeImage,
        state: ForgeImageState,
        standing: &str,
        outcome: &str,
        now: Micros,
    ) -> Result<bool, StoreError> {
        let tx = self.db().begin(ANSWER).await?;
        let sql = "UPDATE forge_images SET state = $2, standing = $3, outcome = $4
            WHERE run = $1 AND state IN ('waits', 'open')";
        let values = values![image.run.0, state.as_str(), printable(standing), printable(outcome)];
        let changed = execute(&tx, sql, values).await.doing(ANSWER)? == 1;
        if changed {
            touch(&tx, &image.pull, now).await?;
        }
        tx.commit().await.doing(ANSWER)?;
        Ok(changed)
    }

    /// What a run's commit was told; `settled` once that is how the run ended.
    pub async fn forge_image_status(
        &self,
        run: RunId,
        status: Option<&str>,
        settled: bool,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE forge_images SET status = COALESCE($2, status), state = $3
            WHERE run = $1 AND state = 'run'";
        let state = if settled { ForgeImageState::Settled } else { ForgeImageState::Run };
        let values = values![run.0, status.map(printable), state.as_str()];
        execute(self.db().writer(), sql, values).await.doing(ANSWER).map(drop)
    }

    async fn forge_images(
        &self,
        sql: &str,
        values: Vec<sea_orm::Value>,
    ) -> Result<Vec<ForgeImage>, StoreError> {
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values).await.doing(READ)?;
        rows.into_iter().map(Row::decode).collect()
    }
}

async fn close_older(
    tx: &DatabaseTransaction,
    pull: &PullKey,
    head: &str,
    now: Micros,
) -> Result<(), StoreError> {
    let sql = "UPDATE forge_images SET state = 'closed', standing = '', outcome = 'a newer commit is there'
        WHERE forge = $1 AND repo = $2 AND pull = $3 AND head <> $4 AND state IN ('waits', 'open')";
    let values = values![pull.forge.as_str(), pull.repo.as_str(), pull.pull, head];
    if execute(tx, sql, values).await.doing(PUSHED)? > 0 {
        touch(tx, pull, now).await?;
    }
    Ok(())
}

async fn insert(
    tx: &DatabaseTransaction,
    forge: &str,
    repo: &str,
    image: &NewForgeImage,
    now: Micros,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO forge_images
        (run, forge, repo, pull, image, head, author, said, heard_at, state, attempts, due_at, standing)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $9, $11) ON CONFLICT (run) DO NOTHING";
    let values = values![
        image.run.0,
        forge,
        repo,
        image.pull,
        image.image.as_str(),
        image.head.as_str(),
        image.author.as_deref().map(printable),
        printable(&image.said),
        now.0,
        image.state.as_str(),
        printable(&image.standing),
    ];
    execute(tx, sql, values).await.doing(PUSHED).map(drop)
}

/// The pull request's comment has to be looked at.
async fn touch(tx: &DatabaseTransaction, pull: &PullKey, now: Micros) -> Result<(), StoreError> {
    let sql = "INSERT INTO forge_pulls (forge, repo, pull, standing, notes, shown_at, attempts, due_at)
        VALUES ($1, $2, $3, '', '[]', $4, 0, $4)
        ON CONFLICT (forge, repo, pull) DO UPDATE SET attempts = 0, due_at = excluded.due_at";
    let values = values![pull.forge.as_str(), pull.repo.as_str(), pull.pull, now.0];
    execute(tx, sql, values).await.doing(PUSHED).map(drop)
}

fn pull_key(forge: &str, repo: &str, pull: i64) -> PullKey {
    PullKey { forge: forge.to_owned(), repo: repo.to_owned(), pull }
}

#[derive(FromQueryResult)]
struct Row {
    run: Uuid,
    forge: String,
    repo: String,
    pull: i64,
    image: String,
    head: String,
    author: Option<String>,
    said: String,
    heard_at: i64,
    state: String,
    attempts: i64,
    standing: String,
    outcome: Option<String>,
    status: Option<String>,
}

impl Row {
    fn decode(self) -> Result<ForgeImage, StoreError> {
        let state = ForgeImageState::ALL.into_iter().find(|state| state.as_str() == self.state);
        let state = state.ok_or_else(|| StoreError::unreadable(READ, "image", &self.state))?;
        Ok(ForgeImage {
            run: RunId(self.run),
            pull: pull_key(&self.forge, &self.repo, self.pull),
            image: self.image,
            head: self.head,
            author: self.author,
            said: self.said,
            heard_at: Micros(self.heard_at),
            state,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            standing: self.standing,
            outcome: self.outcome,
            status: self.status,
        })
    }
}
