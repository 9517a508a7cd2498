//! What Assay wants of a forge; ten calls, whoever it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::client::Meter;
use crate::error::ForgeError;
use crate::name::{Login, Name, RepoName};
use crate::status::CommitStatus;
use crate::what::{ChangedFiles, Comment, Heard, HookKept, HookWanted, Membership, Posted, Pull, Since};

/// An answer that is under way.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, ForgeError>> + Send + 'a>>;

/// Which dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// Forgejo, and Gitea.
    Forgejo,
    /// github.com, and its enterprise server.
    GitHub,
}

impl ForgeKind {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forgejo => "forgejo",
            Self::GitHub => "github",
        }
    }
}

impl fmt::Display for ForgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A forge. Each call is made once: trying again is the caller's decision, by [`ForgeError::advice`].
pub trait Forge: fmt::Debug + Send + Sync {
    /// Which dialect.
    fn kind(&self) -> ForgeKind;

    /// What was asked so far, and what the forge says about its limits.
    fn meter(&self) -> Meter;

    /// Whose token this is: the author of our comments.
    fn who_am_i(&self) -> Asking<'_, Login>;

    /// All comments of a repository that changed since a time, in one request unless there are many.
    fn comments<'a>(&'a self, repo: &'a RepoName, since: &'a Since) -> Asking<'a, Heard>;

    /// All comments of one pull request.
    fn comments_of<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, Vec<Comment>>;

    /// A pull request.
    fn pull<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, Pull>;

    /// What a pull request changes.
    fn changed_files<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, ChangedFiles>;

    /// Whether somebody belongs to an organisation. Needs only to read.
    fn membership<'a>(&'a self, org: &'a Name, login: &'a Login) -> Asking<'a, Membership>;

    /// Whether somebody belongs to a team of an organisation.
    fn team_membership<'a>(
        &'a self,
        org: &'a Name,
        team: &'a Name,
        login: &'a Login,
    ) -> Asking<'a, Membership>;

    /// Writes a comment. After [`crate::Advice::Look`], see [`crate::put`].
    fn create_comment<'a>(&'a self, repo: &'a RepoName, number: u64, body: &'a str) -> Asking<'a, Posted>;

    /// Gives a comment of ours another text.
    fn edit_comment<'a>(&'a self, repo: &'a RepoName, id: u64, body: &'a str) -> Asking<'a, ()>;

    /// Sets the status of a commit in its context; the last one counts.
    fn set_status<'a>(
        &'a self,
        repo: &'a RepoName,
        commit: &'a str,
        status: &'a CommitStatus,
    ) -> Asking<'a, ()>;

    /// Sees to it that a webhook is there, once, however often this is called. An error unless the client was told that
    /// it may ([`crate::Limits::register_webhooks`]).
    fn keep_hook<'a>(&'a self, repo: &'a RepoName, hook: &'a HookWanted) -> Asking<'a, HookKept>;
}
