//! The commit status: what a forge shows beside a commit and can gate a merge with.
//!
//! Not every token may set one. That is found out once per repository, remembered for a day, and said in the comment. A
//! commit that was told `pending` is always told how it ended: a run that was superseded or stopped leaves no commit waiting.

use std::collections::BTreeMap;

use assay_model::text::clean_to;
use assay_model::{Micros, RunResult};
use serde::{Deserialize, Serialize};

use crate::command::Wanted;
use crate::comment::{About, Standing};
use crate::error::ForgeError;
use crate::name::RepoName;

/// GitHub takes no more characters.
const LONGEST: usize = 140;
/// After so long it is tried again: somebody may have given the token the right.
const ASKED_AGAIN: Micros = Micros::seconds(24 * 3600);

/// A commit's status in one context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitStatus {
    /// Whose it is: `assay/recipe`.
    pub context: String,
    /// What it says.
    pub state: StatusState,
    /// One line, at most 140 characters.
    pub description: String,
    /// The run's page.
    pub url: Option<String>,
}

/// What a commit status says. Both dialects have these four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusState {
    /// Waits or runs.
    Pending,
    /// May go in, as far as we are concerned.
    Success,
    /// May not.
    Failure,
    /// Says nothing about the change: superseded, stopped, or our own failure.
    Error,
}

impl StatusState {
    /// The forges' spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
}

/// The context of a run's status. A run that leaves something out has one of its own, so that it cannot stand for a whole
/// one where a forge asks for that.
pub fn context(pipeline: &str, wanted: &Wanted) -> String {
    let part = match (wanted.quick, wanted.stages.is_empty()) {
        (true, _) => "-quick",
        (false, false) => "-part",
        (false, true) => "",
    };
    format!("assay/{pipeline}{part}")
}

/// The context of an image's status, by the name that it has in the settings.
pub fn image_context(name: &str) -> String {
    format!("assay/image-{name}")
}

/// The status that goes with a comment; `None` where no commit is concerned.
pub fn of(about: &About, context: &str) -> Option<CommitStatus> {
    if about.commit.is_empty() {
        return None;
    }
    let (state, words) = match &about.stage {
        Standing::Queued { position: Some(n), .. } => {
            (StatusState::Pending, format!("queued, place {n} in line"))
        }
        Standing::Queued { position: None, .. } => (StatusState::Pending, "queued".to_owned()),
        Standing::Running { stage, place: (place, of), .. } => {
            (StatusState::Pending, format!("running: {stage}, {place} of {of}"))
        }
        Standing::Finished(finished) => {
            let level =
                finished.level.map(|(level, of)| format!(", level {level} of {of}")).unwrap_or_default();
            let quick = if finished.is_quick { ", quick" } else { "" };
            let waived = if finished.is_overridden { ", overridden" } else { "" };
            let head = finished.head.as_ref().map(|head| format!("; sealed {head}")).unwrap_or_default();
            let (state, word) = match finished.result {
                Some(RunResult::Pass) => (StatusState::Success, "pass"),
                Some(RunResult::Fail) => (StatusState::Failure, "fail"),
                None => (StatusState::Error, "no verdict"),
            };
            (state, format!("{word}{level}{quick}{waived}{head}"))
        }
        Standing::Superseded { by, .. } => {
            (StatusState::Error, format!("superseded by {}", by.get(..12).unwrap_or(by)))
        }
        Standing::Cancelled { .. } => (StatusState::Error, "cancelled".to_owned()),
        Standing::Error { .. } => (StatusState::Error, "Assay could not do its work".to_owned()),
        // Nothing of ours is under way; the comment says why not.
        Standing::Awaits { .. } | Standing::Refused(_) => return None,
    };
    let url = about.run.as_ref().and_then(|run| run.page.clone());
    Some(CommitStatus { context: context.to_owned(), state, description: clean_to(&words, LONGEST - 1), url })
}

/// Where statuses may not be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    refused_at: BTreeMap<RepoName, Micros>,
}

impl Permission {
    /// Whether to try.
    pub fn may_try(&self, repo: &RepoName, now: Micros) -> bool {
        self.refused_at.get(repo).is_none_or(|at| now.since(*at) >= ASKED_AGAIN)
    }

    /// Takes the outcome of a try. Returns whether it has been refused for the first time.
    pub fn tried(&mut self, repo: &RepoName, outcome: &Result<(), ForgeError>, now: Micros) -> bool {
        match outcome {
            Ok(()) => {
                self.refused_at.remove(repo);
                false
            }
            // A forge may deny that there is such a thing to those who may not write to it.
            Err(ForgeError::Forbidden { .. } | ForgeError::NotFound { .. }) => {
                self.refused_at.insert(repo.clone(), now).is_none()
            }
            Err(_) => false,
        }
    }

    /// The sentence for the comment, where statuses may not be set.
    pub fn note(&self, repo: &RepoName) -> Option<String> {
        self.refused_at.contains_key(repo).then(|| {
            "there is no commit status: the token that Assay has may not set one here (it needs to write to the repository)"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Doing;

    #[test]
    fn what_leaves_something_out_stands_for_nothing_whole() {
        let whole = Wanted { extra: true, ..Wanted::default() };
        assert_eq!(context("recipe", &whole), "assay/recipe");
        assert_eq!(context("recipe", &Wanted { quick: true, ..Wanted::default() }), "assay/recipe-quick");
        assert_eq!(context("recipe", &Wanted { stages: vec!["lint".into()], ..whole }), "assay/recipe-part");
    }

    #[test]
    fn a_refusal_is_remembered_for_a_day_and_said() {
        let repo: RepoName = "a/b".parse().expect("a name");
        let mut permission = Permission::default();
        let refused = Err(ForgeError::Forbidden {
            host: "h".into(),
            doing: Doing::SetStatus,
            of: "a/b".into(),
            needs: "x",
            said: String::new(),
        });
        let now = Micros::seconds(1000);
        assert!(permission.may_try(&repo, now) && permission.note(&repo).is_none());
        assert!(permission.tried(&repo, &refused, now));
        assert!(!permission.tried(&repo, &refused, now), "said once");
        assert!(permission.note(&repo).expect("said").starts_with("there is no commit status"));
        assert!(!permission.may_try(&repo, now.plus(Micros::seconds(3600))));
        assert!(permission.may_try(&repo, now.plus(ASKED_AGAIN)));
        permission.tried(&repo, &Ok(()), now);
        assert_eq!(permission.note(&repo), None);
        let slow = Err(ForgeError::Slow { host: "h".into(), doing: Doing::SetStatus, seconds: 20 });
        assert!(!permission.tried(&repo, &slow, now) && permission.may_try(&repo, now));
    }
}
