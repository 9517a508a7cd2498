//! JSON as forges write it: the fields that we read, under the names that both dialects share.
//!
//! Everything that can be missing is optional; what is there and makes no sense is an error, never a guess.

use assay_model::Micros;
use serde::Deserialize;

use crate::name::{Login, RepoName};
use crate::time;
use crate::what::{Comment, Pull, PullState};

#[derive(Debug, Deserialize)]
pub(crate) struct User {
    login: Option<String>,
}

impl User {
    /// `None` for an account that is gone, or whose name no forge gives out.
    pub(crate) fn login(&self) -> Option<Login> {
        self.login.as_ref()?.parse().ok()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireComment {
    pub(crate) id: u64,
    body: Option<String>,
    user: Option<User>,
    #[serde(deserialize_with = "time::field")]
    created_at: Micros,
    #[serde(deserialize_with = "time::field")]
    pub(crate) updated_at: Micros,
    html_url: Option<String>,
    issue_url: Option<String>,
    /// Only Forgejo has it; empty for an issue.
    pull_request_url: Option<String>,
}

impl WireComment {
    /// Where it belongs is read from its addresses, unless the caller knows.
    pub(crate) fn comment(self, belongs: Option<(u64, bool)>) -> Result<Comment, String> {
        let belongs = belongs.or_else(|| self.belongs());
        let (number, on_pull) =
            belongs.ok_or_else(|| format!("comment {} does not say what it is on", self.id))?;
        let (body, digest) = Comment::text(self.body.as_deref().unwrap_or_default());
        Ok(Comment {
            id: self.id,
            number,
            on_pull,
            author: self.user.as_ref().and_then(User::login),
            body,
            digest,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }

    fn belongs(&self) -> Option<(u64, bool)> {
        if let Some(url) = self.pull_request_url.as_deref().filter(|url| !url.is_empty()) {
            return Some((last_number(url)?, true));
        }
        let number = last_number(self.issue_url.as_deref()?)?;
        let page = self.html_url.as_deref().unwrap_or_default();
        Some((
            number,
            page.contains(&format!("/pull/{number}#")) || page.ends_with(&format!("/pull/{number}")),
        ))
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct WirePull {
    number: u64,
    state: String,
    merged: Option<bool>,
    merged_at: Option<String>,
    user: Option<User>,
    title: Option<String>,
    head: Branch,
    base: Branch,
    #[serde(deserialize_with = "time::field")]
    updated_at: Micros,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Branch {
    #[serde(rename = "ref")]
    name: String,
    sha: String,
    repo: Option<Repo>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Repo {
    pub(crate) full_name: String,
}

impl WirePull {
    pub(crate) fn pull(self, into: &RepoName) -> Result<Pull, String> {
        let merged = self.merged == Some(true) || self.merged_at.is_some_and(|at| !at.is_empty());
        let state = match (self.state.as_str(), merged) {
            (_, true) => PullState::Merged,
            ("open", false) => PullState::Open,
            ("closed", false) => PullState::Closed,
            _ => return Err("a pull request that is neither open nor closed".to_owned()),
        };
        for sha in [&self.head.sha, &self.base.sha] {
            if !is_commit(sha) {
                return Err("a pull request without a commit".to_owned());
            }
        }
        let home = self.head.repo.map(|repo| repo.full_name.parse::<RepoName>()).transpose();
        let home = home.map_err(|e| e.to_string())?;
        let same = home.as_ref().is_some_and(|home| home.to_string().eq_ignore_ascii_case(&into.to_string()));
        Ok(Pull {
            number: self.number,
            state,
            author: self.user.as_ref().and_then(User::login),
            head: self.head.sha,
            head_ref: self.head.name,
            is_fork: !same,
            head_repo: home,
            base_ref: self.base.name,
            base: self.base.sha,
            title: self.title.unwrap_or_default(),
            updated_at: self.updated_at,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireFile {
    pub(crate) filename: String,
    pub(crate) previous_filename: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireHook {
    pub(crate) id: u64,
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) events: Vec<String>,
    pub(crate) config: HookConfig,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HookConfig {
    pub(crate) url: Option<String>,
    pub(crate) content_type: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OnlyId {
    pub(crate) id: u64,
}

/// A full object id, SHA-1 or SHA-256.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `…/issues/7`, `…/pulls/7`.
fn last_number(url: &str) -> Option<u64> {
    url.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}
