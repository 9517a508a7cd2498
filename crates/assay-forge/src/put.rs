//! Puts the comment where it belongs, once: edits the one that is there, and makes one only after having looked.
//!
//! A forge that was told to make a comment and did not answer may have made it. So before making one, and again after an
//! answer was lost, the pull request's comments are searched for our marker; one lost answer costs two more questions and
//! never a second comment. (A forge that makes it *after* we looked would still do so; no interface offers to forbid that.)

use crate::comment::find_ours;
use crate::error::{Advice, ForgeError};
use crate::forge::Forge;
use crate::name::{Login, RepoName};

/// What became of the comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The one that we knew has the new text.
    Edited(u64),
    /// One of ours was there that we did not know of; it has the new text.
    Found(u64),
    /// There was none.
    Made(u64),
}

impl Put {
    /// The comment's number, to be kept.
    pub const fn id(self) -> u64 {
        match self {
            Self::Edited(id) | Self::Found(id) | Self::Made(id) => id,
        }
    }
}

/// Sees to it that the pull request has this text from us. `known` is the comment that had it last, as far as we know;
/// `body` begins with `marker`.
pub async fn comment(
    forge: &dyn Forge,
    us: &Login,
    repo: &RepoName,
    number: u64,
    known: Option<u64>,
    marker: &str,
    body: &str,
) -> Result<Put, ForgeError> {
    if let Some(id) = known {
        match forge.edit_comment(repo, id, body).await {
            // Somebody has deleted it.
            Err(ForgeError::NotFound { .. }) => {}
            outcome => return outcome.map(|()| Put::Edited(id)),
        }
    }
    if let Some(put) = look(forge, us, repo, number, marker, body).await? {
        return Ok(put);
    }
    match forge.create_comment(repo, number, body).await {
        Ok(made) => Ok(Put::Made(made.id)),
        Err(error) if error.advice() == Advice::Look => {
            if let Some(put) = look(forge, us, repo, number, marker, body).await? {
                return Ok(put);
            }
            forge.create_comment(repo, number, body).await.map(|made| Put::Made(made.id))
        }
        Err(error) => Err(error),
    }
}

async fn look(
    forge: &dyn Forge,
    us: &Login,
    repo: &RepoName,
    number: u64,
    marker: &str,
    body: &str,
) -> Result<Option<Put>, ForgeError> {
    let comments = forge.comments_of(repo, number).await?;
    let Some(ours) = find_ours(&comments, us, marker) else { return Ok(None) };
    forge.edit_comment(repo, ours.id, body).await?;
    Ok(Some(Put::Found(ours.id)))
}
