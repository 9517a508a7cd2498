//! Forges, as far as they must survive a restart: how far each repository was heard, what comments asked for, and what each
//! pull request was told.
//!
//! Three tables, three promises. How far a repository was heard is stored in the transaction that stores the commands that
//! were heard ([`Store::forge_heard`]): nothing is missed and nothing is taken twice. A command has the id of its run from the
//! moment in which it is heard, so creating that run again after a crash creates nothing new. And a pull request remembers what
//! its comment says, so it is told again only when that has changed.
//!
//! ```text
//! open → answered      refused, not understood, cancelled something, given up
//!   └──→ run → settled a run was created; settled once its commit was told how it ended
//! ```
//!
//! What the texts mean is the control plane's business: here they are JSON, kept as they were given.

use assay_model::{Micros, RunId, Sha256};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use uuid::Uuid;

use crate::Store;
use crate::db::{self, execute, printable, values};
use crate::error::{Doing as _, StoreError};
use crate::journal::digest;

const READ: &str = "read what forges were asked";
const HEARD: &str = "store what a forge said";
const ANSWER: &str = "store what became of a command";
const TOLD: &str = "store what a pull request was told";

const COMMAND: &str =
    "forge, repo, comment, pull, author, said, heard_at, run, state, attempts, due_at, outcome, status";
const PULL: &str = "forge, repo, pull, comment, subject, standing, notes, shown, shown_at, attempts, due_at";

/// A comment, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandKey {
    /// The forge's name in the settings.
    pub forge: String,
    /// `OWNER/REPOSITORY`.
    pub repo: String,
    /// The comment's number there.
    pub comment: i64,
}

/// A pull request, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PullKey {
    /// The forge's name in the settings.
    pub forge: String,
    /// `OWNER/REPOSITORY`.
    pub repo: String,
    /// Its number there.
    pub pull: i64,
}

/// A comment that asks for something, as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommand {
    /// The comment's number.
    pub comment: i64,
    /// The pull request's number.
    pub pull: i64,
    /// Who wrote it; none when that account is gone.
    pub author: Option<String>,
    /// What it asks for, as JSON.
    pub said: String,
    /// The id of the run that it will get, if it gets one.
    pub run: RunId,
}

/// What an answer of a forge brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The forge's name in the settings.
    pub forge: String,
    /// `OWNER/REPOSITORY`.
    pub repo: String,
    /// How far it was heard, as JSON.
    pub part: String,
    /// Comments that ask for something; those that are known already change nothing.
    pub commands: Vec<NewCommand>,
}

/// A command and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeCommand {
    /// Where it was said.
    pub key: CommandKey,
    /// The pull request's number.
    pub pull: i64,
    /// Who said it.
    pub author: Option<String>,
    /// What it asks for, as JSON.
    pub said: String,
    /// When it was heard.
    pub heard_at: Micros,
    /// The id of its run, which may not exist.
    pub run: RunId,
    /// How often an answer was tried without success.
    pub attempts: u32,
    /// What became of it, in words.
    pub outcome: Option<String>,
    /// What its commit was told last, as JSON.
    pub status: Option<String>,
}

/// What a pull request's comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The run of the command that stands in this comment.
    Run {
        /// The command's comment.
        comment: i64,
    },
    /// What it was about before; where there is nothing, the standing that is stored.
    Kept,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In words, for operators.
    pub outcome: String,
    /// Whether there is a run.
    pub has_run: bool,
    /// What the pull request's comment is about from now on; none where nobody is told.
    pub subject: Option<Subject>,
    /// What it says where it is about no run, as JSON.
    pub standing: String,
    /// A further sentence for it, where it is about one.
    pub note: Option<String>,
}

/// A pull request and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgePull {
    /// Which.
    pub key: PullKey,
    /// Our comment's number, once it is known.
    pub comment: Option<i64>,
    /// The command whose run the comment is about.
    pub subject: Option<i64>,
    /// What it says where there is no run, as JSON.
    pub standing: String,
    /// Further sentences, oldest first.
    pub notes: Vec<String>,
    /// Digest of what the comment says.
    pub shown: Option<Sha256>,
    /// When it was told last.
    pub shown_at: Micros,
    /// How often telling it has failed since.
    pub attempts: u32,
    /// When it is to be looked at; changes with whatever there is to be told.
    pub due_at: Option<Micros>,
}

/// Sentences that are kept of a pull request.
const MOST_NOTES: usize = 3;

impl Store {
    /// How far each repository of a forge was heard: name and JSON.
    pub async fn forge_parts(&self, forge: &str) -> Result<Vec<(String, String)>, StoreError> {
        #[derive(FromQueryResult)]
        struct Row {
            repo: String,
            part: String,
        }
        let sql = "SELECT repo, part FROM forge_repos WHERE forge = $1 ORDER BY repo";
        let rows: Vec<Row> = db::all(self.db().reader(), sql, values![forge]).await.doing(READ)?;
        Ok(rows.into_iter().map(|row| (row.repo, row.part)).collect())
    }

    /// Stores how far a repository was heard, and what was asked there; all of it or nothing.
    pub async fn forge_heard(&self, heard: &Heard, now: Micros) -> Result<(), StoreError> {
        let tx = self.db().begin(HEARD).await?;
        let sql = "INSERT INTO forge_repos (forge, repo, part) VALUES ($1, $2, $3)
            ON CONFLICT (forge, repo) DO UPDATE SET part = excluded.part";
        let part = values![heard.forge.as_str(), heard.repo.as_str(), heard.part.as_str()];
        execute(&tx, sql, part).await.doing(HEARD)?;
        for command in &heard.commands {
            let sql = "INSERT INTO forge_commands
                (forge, repo, comment, pull, author, said, heard_at, run, state, attempts, due_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', 0, $7)
                ON CONFLICT (forge, repo, comment) DO NOTHING";
            let values = values![
                heard.forge.as_str(),
                heard.repo.as_str(),
                command.comment,
                command.pull,
                command.author.as_deref().map(printable),
                printable(&command.said),
                now.0,
                command.run.0,
            ];
            execute(&tx, sql, values).await.doing(HEARD)?;
        }
        tx.commit().await.doing(HEARD)
    }

    /// Commands of a forge that wait for an answer and are due, in the order in which they were said.
    pub async fn forge_commands_due(
        &self,
        forge: &str,
        now: Micros,
        limit: u32,
    ) -> Result<Vec<ForgeCommand>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND} FROM forge_commands WHERE forge = $1 AND state = 'open' AND due_at <= $2
            ORDER BY heard_at, comment LIMIT $3"
        );
        self.commands(&sql, values![forge, now.0, i64::from(limit)]).await
    }

    /// Commands of a forge whose run's commit was not yet told how it ended, oldest first.
    pub async fn forge_commands_running(&self, forge: &str) -> Result<Vec<ForgeCommand>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND} FROM forge_commands WHERE forge = $1 AND state = 'run' ORDER BY heard_at, comment"
        );
        self.commands(&sql, values![forge]).await
    }

    /// The commands of a pull request that were given a run, the latest first.
    pub async fn forge_commands_of(
        &self,
        pull: &PullKey,
        limit: u32,
    ) -> Result<Vec<ForgeCommand>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND} FROM forge_commands
            WHERE forge = $1 AND repo = $2 AND pull = $3 AND state IN ('run', 'settled')
            ORDER BY heard_at DESC, comment DESC LIMIT $4"
        );
        let values = values![pull.forge.as_str(), pull.repo.as_str(), pull.pull, i64::from(limit)];
        self.commands(&sql, values).await
    }

    /// The command that stands in a comment.
    pub async fn forge_command(&self, key: &CommandKey) -> Result<Option<ForgeCommand>, StoreError> {
        let sql =
            format!("SELECT {COMMAND} FROM forge_commands WHERE forge = $1 AND repo = $2 AND comment = $3");
        let values = values![key.forge.as_str(), key.repo.as_str(), key.comment];
        Ok(self.commands(&sql, values).await?.pop())
    }

    /// The latest commands of all forges, newest first.
    pub async fn forge_commands_latest(&self, limit: u32) -> Result<Vec<ForgeCommand>, StoreError> {
        let sql =
            format!("SELECT {COMMAND} FROM forge_commands ORDER BY heard_at DESC, comment DESC LIMIT $1");
        self.commands(&sql, values![i64::from(limit)]).await
    }

    /// An answer could not be given: again then, and why.
    pub async fn forge_command_later(
        &self,
        key: &CommandKey,
        due_at: Micros,
        why: &str,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE forge_commands SET attempts = attempts + 1, due_at = $4, outcome = $5
            WHERE forge = $1 AND repo = $2 AND comment = $3 AND state = 'open'";
        let values = values![key.forge.as_str(), key.repo.as_str(), key.comment, due_at.0, printable(why)];
        execute(self.db().writer(), sql, values).await.doing(ANSWER).map(drop)
    }

    /// Stores what became of a command, and what its pull request is to be told; all of it or nothing. A command that was
    /// answered already stays as it is.
    pub async fn forge_answered(
        &self,
        command: &ForgeCommand,
        answer: &Answer,
        now: Micros,
    ) -> Result<(), StoreError> {
        let tx = self.db().begin(ANSWER).await?;
        let sql = "UPDATE forge_commands SET state = $4, outcome = $5
            WHERE forge = $1 AND repo = $2 AND comment = $3 AND state = 'open'";
        let (forge, repo) = (command.key.forge.as_str(), command.key.repo.as_str());
        let state = if answer.has_run { "run" } else { "answered" };
        let values = values![forge, repo, command.key.comment, state, printable(&answer.outcome)];
        if execute(&tx, sql, values).await.doing(ANSWER)? != 1 {
            return Ok(());
        }
        if let Some(subject) = answer.subject {
            let pull = PullKey { forge: forge.to_owned(), repo: repo.to_owned(), pull: command.pull };
            tell(&tx, &pull, subject, answer, now).await?;
        }
        tx.commit().await.doing(ANSWER)
    }

    /// What a run's commit was told, as JSON; `settled` once that is how the run ended.
    pub async fn forge_status_told(
        &self,
        key: &CommandKey,
        status: Option<&str>,
        settled: bool,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE forge_commands SET status = COALESCE($4, status), state = $5
            WHERE forge = $1 AND repo = $2 AND comment = $3 AND state = 'run'";
        let state = if settled { "settled" } else { "run" };
        let values =
            values![key.forge.as_str(), key.repo.as_str(), key.comment, status.map(printable), state,];
        execute(self.db().writer(), sql, values).await.doing(TOLD).map(drop)
    }

    /// Pull requests of a forge that may have to be told something, those that wait longest first.
    pub async fn forge_pulls_due(
        &self,
        forge: &str,
        now: Micros,
        limit: u32,
    ) -> Result<Vec<ForgePull>, StoreError> {
        let sql = format!(
            "SELECT {PULL} FROM forge_pulls WHERE forge = $1 AND due_at <= $2 ORDER BY due_at, repo, pull LIMIT $3"
        );
        let values = values![forge, now.0, i64::from(limit)];
        let rows: Vec<PullRow> = db::all(self.db().reader(), &sql, values).await.doing(READ)?;
        rows.into_iter().map(PullRow::decode).collect()
    }

    /// What a pull request was told.
    pub async fn forge_pull(&self, key: &PullKey) -> Result<Option<ForgePull>, StoreError> {
        let sql = format!("SELECT {PULL} FROM forge_pulls WHERE forge = $1 AND repo = $2 AND pull = $3");
        let values = values![key.forge.as_str(), key.repo.as_str(), key.pull];
        let row: Option<PullRow> = db::one(self.db().reader(), &sql, values).await.doing(READ)?;
        row.map(PullRow::decode).transpose()
    }

    /// A pull request was told what it had to be told. `due` is when to look again; never with none. What was decided about it
    /// meanwhile is not overlooked: then it stays due.
    pub async fn forge_told(
        &self,
        before: &ForgePull,
        comment: Option<i64>,
        shown: Sha256,
        due: Option<Micros>,
        now: Micros,
    ) -> Result<(), StoreError> {
        // What was read to tell it is still what is there, or it has to be told again.
        let sql = "UPDATE forge_pulls SET comment = COALESCE($4, comment), shown = $5, shown_at = $6, attempts = 0,
                due_at = CASE WHEN standing = $7 AND notes = $8 AND COALESCE(subject, 0) = $9 AND COALESCE(due_at, -1) = $11
                    THEN $10 ELSE due_at END
            WHERE forge = $1 AND repo = $2 AND pull = $3";
        let key = &before.key;
        let values = values![
            key.forge.as_str(),
            key.repo.as_str(),
            key.pull,
            comment,
            shown.0.to_vec(),
            now.0,
            before.standing.as_str(),
            notes_text(&before.notes),
            before.subject.unwrap_or(0),
            due.map(|due| due.0),
            before.due_at.map_or(-1, |due| due.0),
        ];
        execute(self.db().writer(), sql, values).await.doing(TOLD).map(drop)
    }

    /// A pull request could not be told, or nothing has changed that it must be told: look again then; never with none.
    pub async fn forge_tell_later(
        &self,
        before: &ForgePull,
        failed: bool,
        due: Option<Micros>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE forge_pulls SET attempts = CASE WHEN $4 THEN attempts + 1 ELSE 0 END, due_at = $5
            WHERE forge = $1 AND repo = $2 AND pull = $3
                AND standing = $6 AND notes = $7 AND COALESCE(subject, 0) = $8 AND COALESCE(due_at, -1) = $9";
        let key = &before.key;
        let values = values![
            key.forge.as_str(),
            key.repo.as_str(),
            key.pull,
            failed,
            due.map(|due| due.0),
            before.standing.as_str(),
            notes_text(&before.notes),
            before.subject.unwrap_or(0),
            before.due_at.map_or(-1, |due| due.0),
        ];
        execute(self.db().writer(), sql, values).await.doing(TOLD).map(drop)
    }

    async fn commands(
        &self,
        sql: &str,
        values: Vec<sea_orm::Value>,
    ) -> Result<Vec<ForgeCommand>, StoreError> {
        let rows: Vec<CommandRow> = db::all(self.db().reader(), sql, values).await.doing(READ)?;
        Ok(rows.into_iter().map(CommandRow::decode).collect())
    }
}

/// Puts what a pull request is to be told beside what it was told so far.
async fn tell(
    tx: &DatabaseTransaction,
    key: &PullKey,
    subject: Subject,
    answer: &Answer,
    now: Micros,
) -> Result<(), StoreError> {
    let sql = format!("SELECT {PULL} FROM forge_pulls WHERE forge = $1 AND repo = $2 AND pull = $3");
    let values = values![key.forge.as_str(), key.repo.as_str(), key.pull];
    let row: Option<PullRow> = db::one(tx, &sql, values).await.doing(ANSWER)?;
    let before = row.map(PullRow::decode).transpose()?;
    let subject = match subject {
        Subject::Run { comment } => Some(comment),
        Subject::Kept => before.as_ref().and_then(|before| before.subject),
    };
    // What was said beside an earlier run is over with it; without a run the latest answer is all there is to say.
    let mut notes = match &before {
        Some(before) if subject.is_some() && before.subject == subject => before.notes.clone(),
        _ => Vec::new(),
    };
    if let Some(note) = answer.note.as_ref().filter(|note| subject.is_some() && !notes.contains(note)) {
        notes.push(note.clone());
        let beyond = notes.len().saturating_sub(MOST_NOTES);
        notes.drain(..beyond);
    }
    let sql =
        "INSERT INTO forge_pulls (forge, repo, pull, subject, standing, notes, shown_at, attempts, due_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $7)
        ON CONFLICT (forge, repo, pull) DO UPDATE SET subject = excluded.subject, notes = excluded.notes,
            standing = excluded.standing, attempts = 0, due_at = excluded.due_at";
    let values = values![
        key.forge.as_str(),
        key.repo.as_str(),
        key.pull,
        subject,
        printable(&answer.standing),
        notes_text(&notes),
        now.0,
    ];
    execute(tx, sql, values).await.doing(ANSWER).map(drop)
}

fn notes_text(notes: &[String]) -> String {
    let notes: Vec<String> = notes.iter().map(|note| printable(note)).collect();
    serde_json::Value::from(notes).to_string()
}

#[derive(FromQueryResult)]
struct CommandRow {
    forge: String,
    repo: String,
    comment: i64,
    pull: i64,
    author: Option<String>,
    said: String,
    heard_at: i64,
    run: Uuid,
    attempts: i64,
    outcome: Option<String>,
    status: Option<String>,
}

impl CommandRow {
    fn decode(self) -> ForgeCommand {
        ForgeCommand {
            key: CommandKey { forge: self.forge, repo: self.repo, comment: self.comment },
            pull: self.pull,
            author: self.author,
            said: self.said,
            heard_at: Micros(self.heard_at),
            run: RunId(self.run),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            outcome: self.outcome,
            status: self.status,
        }
    }
}

#[derive(FromQueryResult)]
struct PullRow {
    forge: String,
    repo: String,
    pull: i64,
    comment: Option<i64>,
    subject: Option<i64>,
    standing: String,
    notes: String,
    shown: Option<Vec<u8>>,
    shown_at: i64,
    attempts: i64,
    due_at: Option<i64>,
}

impl PullRow {
    fn decode(self) -> Result<ForgePull, StoreError> {
        let notes = serde_json::from_str(&self.notes)
            .map_err(|problem| StoreError::unreadable(READ, "pull request", problem))?;
        Ok(ForgePull {
            key: PullKey { forge: self.forge, repo: self.repo, pull: self.pull },
            comment: self.comment,
            subject: self.subject,
            standing: self.standing,
            notes,
            shown: self.shown.map(|shown| digest(READ, &shown)).transpose()?,
            shown_at: Micros(self.shown_at),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            due_at: self.due_at.map(Micros),
        })
    }
}
