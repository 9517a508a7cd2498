//! What is asked of a forge and what it answers, in the same words for all of them.

use assay_model::{Micros, Sha256};
use serde::{Deserialize, Serialize};

use crate::name::{Login, RepoName};

/// Of a comment's text, so much is kept: a command is in its first line.
const MAX_BODY: usize = 4096;

/// A comment on an issue or a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// The forge's number for it.
    pub id: u64,
    /// The or pull request's number.
    pub number: u64,
    /// Whether it is on a pull request.
    pub on_pull: bool,
    /// Who wrote it; `None` when that account is gone, or has a name that no forge gives out.
    pub author: Option<Login>,
    /// Its first 4096 bytes, whole characters.
    pub body: String,
    /// SHA-256 of the whole text.
    pub digest: Sha256,
    /// By the forge's clock.
    pub created_at: Micros,
    /// By the forge's clock.
    pub updated_at: Micros,
}

impl Comment {
    /// Keeps a text's beginning and its digest.
    pub(crate) fn text(body: &str) -> (String, Sha256) {
        (body[..body.floor_char_boundary(MAX_BODY)].to_owned(), Sha256::of(body.as_bytes()))
    }
}

/// From where on comments are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Changed at this moment or later, by the forge's clock.
    pub at: Micros,
    /// A reading that was not finished goes on here.
    pub page: u32,
    /// The answer's tag when the same was asked last; unchanged costs nothing then.
    pub etag: Option<String>,
}

/// Comments of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// `None`: nothing has changed since the tag that was given.
    pub comments: Option<Vec<Comment>>,
    /// For the next time, when the same is asked.
    pub etag: Option<String>,
    /// The forge's clock.
    pub server_time: Option<Micros>,
    /// There is more, from here on.
    pub more: Option<Resume>,
    /// How many requests this took.
    pub calls: u32,
    /// How many of them the forge counts.
    pub counted: u32,
    /// Comments that were too large to be read at all.
    pub too_large: u32,
}

/// Where a reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resume {
    /// With the same time, from this page on.
    Page(u32),
    /// From this time on.
    Since(Micros),
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Open, merged or closed.
    pub state: PullState,
    /// Who opened it.
    pub author: Option<Login>,
    /// The commit to be tested: 40 or 64 hexadecimal digits.
    pub head: String,
    /// The branch that it is on.
    pub head_ref: String,
    /// Where that branch lives; `None` when the fork is gone.
    pub head_repo: Option<RepoName>,
    /// The branch that it is to go into.
    pub base_ref: String,
    /// That branch's commit, as the forge gives it.
    pub base: String,
    /// From another repository than the one it goes into.
    pub is_fork: bool,
    /// Text of the author's.
    pub title: String,
    /// By the forge's clock.
    pub updated_at: Micros,
}

/// Where a pull request is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullState {
    /// Can be tested.
    Open,
    /// Is in.
    Merged,
    /// Was given up.
    Closed,
}

/// Files that a pull request changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFiles {
    /// Paths, renamed ones with both names; sorted.
    pub paths: Vec<String>,
    /// Whether these are all. GitHub lists 3000, and so do we: what is not complete must be taken for "anything".
    pub is_complete: bool,
}

/// Whether somebody belongs to an organisation or a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Belongs.
    Member,
    /// Does not.
    NotMember,
    /// Not a public member, and more is not shown to our token: its owner does not belong to the organisation itself.
    NotSeen,
}

/// A comment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The forge's number for it.
    pub id: u64,
}

/// A webhook that should be there.
#[derive(Clone, Debug)]
pub struct HookWanted {
    /// Where deliveries go; what finds it again.
    pub url: String,
    /// What they are signed with.
    pub secret: crate::Secret,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKept {
    /// It was there, as wanted.
    There,
    /// It was there, and was put right.
    Changed,
    /// It was made.
    Made,
}
