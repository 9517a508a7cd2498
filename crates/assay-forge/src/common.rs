//! The calls that both dialects have in common, word for word.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::{Doing, ForgeError};
use crate::name::{Login, Name, RepoName};
use crate::status::CommitStatus;
use crate::what::{ChangedFiles, HookKept, HookWanted, Membership, Posted, Pull};
use crate::wire::{OnlyId, User, WireFile, WireHook, WirePull, is_commit};

/// GitHub lists no more.
const MOST_FILES: usize = 3000;
/// A page, in either dialect.
pub(crate) const PAGE: usize = 50;

impl Client {
    pub(crate) async fn whoever_this_is(&self) -> Result<Login, ForgeError> {
        let doing = Doing::WhoAmI;
        let user: User = self.get(doing, "the token", &["user"]).read().await?;
        user.login().ok_or_else(|| self.odd(doing, "an account without a login"))
    }

    pub(crate) async fn read_pull(&self, repo: &RepoName, number: u64) -> Result<Pull, ForgeError> {
        let doing = Doing::ReadPull;
        let digits = number.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "pulls", &digits];
        let pull: WirePull = self.get(doing, &on(repo, number), &segments).read().await?;
        pull.pull(repo).map_err(|why| self.odd(doing, why))
    }

    /// `size` is what this dialect calls the number of entries in a page.
    pub(crate) async fn read_files(
        &self,
        repo: &RepoName,
        number: u64,
        size: &str,
    ) -> Result<ChangedFiles, ForgeError> {
        let digits = number.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "pulls", &digits, "files"];
        let mut paths = Vec::new();
        let (mut count, mut is_complete) = (0, false);
        for page in 1..=MOST_FILES / PAGE {
            let files: Vec<WireFile> = self
                .get(Doing::ReadFiles, &on(repo, number), &segments)
                .query(size, &PAGE.to_string())
                .query("page", &page.to_string())
                .read()
                .await?;
            count += files.len();
            let is_last = files.len() < PAGE;
            for file in files {
                paths.extend(file.previous_filename.filter(|path| !path.is_empty()));
                paths.push(file.filename);
            }
            if is_last {
                is_complete = count < MOST_FILES;
                break;
            }
        }
        paths.sort();
        paths.dedup();
        Ok(ChangedFiles { paths, is_complete })
    }

    /// 204, 404, or a way to the public members for those who do not belong themselves. That way is ours to know: where
    /// the answer points is not followed.
    pub(crate) async fn ask_membership(&self, org: &Name, login: &Login) -> Result<Membership, ForgeError> {
        let doing = Doing::ReadMembers;
        let public = match self
            .get(doing, org, &["orgs", org.as_str(), "members", login.as_str()])
            .may_lead_on()
            .send()
            .await
        {
            Ok(reply) => matches!(reply.status, StatusCode::FOUND | StatusCode::SEE_OTHER),
            Err(no) => return not_found_is(ForgeError::from(no), Membership::NotMember),
        };
        if !public {
            return Ok(Membership::Member);
        }
        let segments = ["orgs", org.as_str(), "public_members", login.as_str()];
        match self.get(doing, org, &segments).send().await {
            Ok(reply) if reply.status == StatusCode::NO_CONTENT => Ok(Membership::Member),
            Ok(_) => Err(self.odd(doing, "neither yes nor no")),
            Err(no) => not_found_is(ForgeError::from(no), Membership::NotSeen),
        }
    }

    pub(crate) async fn write_comment(
        &self,
        repo: &RepoName,
        number: u64,
        body: &str,
    ) -> Result<Posted, ForgeError> {
        let digits = number.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", &digits, "comments"];
        let request = self.request(Doing::Comment, &on(repo, number), Method::POST, &segments);
        let made: OnlyId = request.json(json!({ "body": body })).read().await?;
        Ok(Posted { id: made.id })
    }

    pub(crate) async fn rewrite_comment(
        &self,
        repo: &RepoName,
        id: u64,
        body: &str,
    ) -> Result<(), ForgeError> {
        let digits = id.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", "comments", &digits];
        let request =
            self.request(Doing::EditComment, &format!("comment {id} in {repo}"), Method::PATCH, &segments);
        let edited: OnlyId = request.json(json!({ "body": body })).read().await?;
        if edited.id == id {
            Ok(())
        } else {
            Err(self.odd(Doing::EditComment, "another comment than was asked for"))
        }
    }

    pub(crate) async fn write_status(
        &self,
        repo: &RepoName,
        commit: &str,
        status: &CommitStatus,
    ) -> Result<(), ForgeError> {
        let doing = Doing::SetStatus;
        if !is_commit(commit) {
            return Err(self.odd(doing, "the commit is no full object id"));
        }
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "statuses", commit];
        let mut body = json!({
            "context": status.context, "state": status.state.as_str(), "description": status.description,
        });
        if let Some(url) = &status.url {
            body["target_url"] = json!(url);
        }
        let _: OnlyId = self.request(doing, repo, Method::POST, &segments).json(body).read().await?;
        Ok(())
    }

    /// Looks for the webhook by its address first; `new` is what this dialect makes one from.
    pub(crate) async fn see_to_hook(
        &self,
        repo: &RepoName,
        wanted: &HookWanted,
        size: &str,
        events: &[&str],
        new: Value,
    ) -> Result<HookKept, ForgeError> {
        if !self.limits.register_webhooks {
            return Err(ForgeError::HooksNotAskedFor);
        }
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "hooks"];
        let mut page = 1_u32;
        let found = loop {
            let hooks: Vec<WireHook> = self
                .get(Doing::ReadHooks, repo, &segments)
                .query(size, &PAGE.to_string())
                .query("page", &page.to_string())
                .read()
                .await?;
            let is_last = hooks.len() < PAGE || page >= self.limits.pages;
            let ours = hooks.into_iter().find(|hook| hook.config.url.as_deref() == Some(wanted.url.as_str()));
            if ours.is_some() || is_last {
                break ours;
            }
            page += 1;
        };
        let Some(found) = found else {
            let _: OnlyId =
                self.request(Doing::SetHook, repo, Method::POST, &segments).json(new).read().await?;
            return Ok(HookKept::Made);
        };
        let hears = events.iter().all(|event| found.events.iter().any(|there| there == event));
        if found.active && hears && found.config.content_type.as_deref() == Some("json") {
            return Ok(HookKept::There);
        }
        let id = found.id.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "hooks", &id];
        let _: OnlyId = self.request(Doing::SetHook, repo, Method::PATCH, &segments).json(new).read().await?;
        Ok(HookKept::Changed)
    }
}

/// `o/r#7`.
pub(crate) fn on(repo: &RepoName, number: u64) -> String {
    format!("{repo}#{number}")
}

pub(crate) fn not_found_is<T>(error: ForgeError, answer: T) -> Result<T, ForgeError> {
    match error {
        ForgeError::NotFound { .. } => Ok(answer),
        other => Err(other),
    }
}
