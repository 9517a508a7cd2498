//! GitHub's dialect, at github.com and on an enterprise server.
//!
//! What is particular: answers have tags, and "unchanged" is not counted against the limit, so the same question is asked
//! in the same words as long as there is nothing new. A long list is read by time, not by page number: each page begins
//! where the one before ended, so nothing that is deleted meanwhile moves the rest.

use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, Limits, Meter};
use crate::common::{PAGE, not_found_is, on};
use crate::error::{Doing, ForgeError};
use crate::forge::{Asking, Forge, ForgeKind};
use crate::name::{Login, Name, RepoName};
use crate::secret::Secret;
use crate::status::CommitStatus;
use crate::time;
use crate::what::{
    ChangedFiles, Comment, Heard, HookKept, HookWanted, Membership, Posted, Pull, Resume, Since,
};
use crate::wire::WireComment;

/// What a webhook is to tell.
const EVENTS: [&str; 2] = ["issue_comment", "pull_request"];
/// Of a pull request's comments, so many pages are read.
const MOST_PAGES: u32 = 60;

/// GitHub.
#[derive(Clone, Debug)]
pub struct GitHub(Client);

#[derive(Deserialize)]
struct TeamMember {
    state: String,
}

impl GitHub {
    /// `api` is `https://api.github.com`, or `https://HOST/api/v3`. The error says what is wrong with the settings.
    pub fn new(api: &str, token: Secret, limits: Limits) -> Result<Self, String> {
        Client::new(ForgeKind::GitHub, api.trim_end_matches('/'), token, limits).map(Self)
    }

    async fn hear(&self, repo: &RepoName, since: &Since) -> Result<Heard, ForgeError> {
        let doing = Doing::ReadComments;
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", "comments"];
        let (mut at, mut page) = (since.at, since.page.max(1));
        let mut heard = Heard {
            comments: None,
            etag: None,
            server_time: None,
            more: None,
            calls: 0,
            counted: 0,
            too_large: 0,
        };
        let mut comments: Vec<Comment> = Vec::new();
        loop {
            if heard.calls >= self.0.limits.pages.max(1) {
                heard.more = Some(if page > 1 { Resume::Page(page) } else { Resume::Since(at) });
                break;
            }
            let is_first = heard.calls == 0;
            let reply = self
                .0
                .get(doing, repo, &segments)
                .query("since", &time::write(at))
                .query("sort", "updated")
                .query("direction", "asc")
                .query("per_page", &PAGE.to_string())
                .query("page", &page.to_string())
                .unless(since.etag.as_deref().filter(|_| is_first))
                .send()
                .await?;
            heard.calls += 1;
            heard.server_time = heard.server_time.or(reply.server_time);
            if reply.is_unchanged() {
                heard.etag.clone_from(&since.etag);
                return Ok(heard);
            }
            heard.counted += 1;
            if is_first {
                heard.etag.clone_from(&reply.etag);
            }
            let found: Vec<WireComment> = reply.read()?;
            let (count, last) = (found.len(), found.last().map(|comment| comment.updated_at));
            for comment in found {
                let comment = comment.comment(None).map_err(|why| self.0.odd(doing, why))?;
                // The next page begins with the moment in which this one ended.
                if !comments.iter().rev().take(PAGE).any(|had| *had == comment) {
                    comments.push(comment);
                }
            }
            if count < PAGE {
                break;
            }
            // A tag speaks for one page only.
            heard.etag = None;
            match last {
                Some(last) if last > at => (at, page) = (last, 1),
                _ => page += 1,
            }
        }
        if let Some(Resume::Page(_)) = heard.more {
            // The page belongs to a time that the caller does not know unless it is the one that it gave.
            heard.more = Some(if at == since.at { Resume::Page(page) } else { Resume::Since(at) });
        }
        heard.comments = Some(comments);
        Ok(heard)
    }

    async fn hear_pull(&self, repo: &RepoName, number: u64) -> Result<Vec<Comment>, ForgeError> {
        let doing = Doing::ReadComments;
        let digits = number.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", &digits, "comments"];
        let mut comments = Vec::new();
        for page in 1..=MOST_PAGES {
            let found: Vec<WireComment> = self
                .0
                .get(doing, &on(repo, number), &segments)
                .query("per_page", &PAGE.to_string())
                .query("page", &page.to_string())
                .read()
                .await?;
            let is_last = found.len() < PAGE;
            for comment in found {
                let comment = comment.comment(Some((number, true))).map_err(|why| self.0.odd(doing, why))?;
                comments.push(comment);
            }
            if is_last {
                break;
            }
        }
        Ok(comments)
    }

    async fn in_team(&self, org: &Name, team: &Name, login: &Login) -> Result<Membership, ForgeError> {
        let segments = ["orgs", org.as_str(), "teams", team.as_str(), "memberships", login.as_str()];
        let asked =
            self.0.get(Doing::ReadTeam, &format!("{org}/{team}"), &segments).read::<TeamMember>().await;
        match asked {
            Ok(member) if member.state == "active" => Ok(Membership::Member),
            // Invited, and has not said yes.
            Ok(_) => Ok(Membership::NotMember),
            Err(error) => not_found_is(error, Membership::NotMember),
        }
    }

    async fn hook(&self, repo: &RepoName, hook: &HookWanted) -> Result<HookKept, ForgeError> {
        let new = json!({
            "name": "web", "active": true, "events": EVENTS,
            "config": {
                "url": hook.url, "content_type": "json", "insecure_ssl": "0", "secret": hook.secret.reveal(),
            },
        });
        self.0.see_to_hook(repo, hook, "per_page", &EVENTS, new).await
    }
}

impl Forge for GitHub {
    fn kind(&self) -> ForgeKind {
        ForgeKind::GitHub
    }

    fn meter(&self) -> Meter {
        self.0.meter()
    }

    fn who_am_i(&self) -> Asking<'_, Login> {
        Box::pin(self.0.whoever_this_is())
    }

    fn comments<'a>(&'a self, repo: &'a RepoName, since: &'a Since) -> Asking<'a, Heard> {
        Box::pin(self.hear(repo, since))
    }

    fn comments_of<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, Vec<Comment>> {
        Box::pin(self.hear_pull(repo, number))
    }

    fn pull<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, Pull> {
        Box::pin(self.0.read_pull(repo, number))
    }

    fn changed_files<'a>(&'a self, repo: &'a RepoName, number: u64) -> Asking<'a, ChangedFiles> {
        Box::pin(self.0.read_files(repo, number, "per_page"))
    }

    fn membership<'a>(&'a self, org: &'a Name, login: &'a Login) -> Asking<'a, Membership> {
        Box::pin(self.0.ask_membership(org, login))
    }

    fn team_membership<'a>(
        &'a self,
        org: &'a Name,
        team: &'a Name,
        login: &'a Login,
    ) -> Asking<'a, Membership> {
        Box::pin(self.in_team(org, team, login))
    }

    fn create_comment<'a>(&'a self, repo: &'a RepoName, number: u64, body: &'a str) -> Asking<'a, Posted> {
        Box::pin(self.0.write_comment(repo, number, body))
    }

    fn edit_comment<'a>(&'a self, repo: &'a RepoName, id: u64, body: &'a str) -> Asking<'a, ()> {
        Box::pin(self.0.rewrite_comment(repo, id, body))
    }

    fn set_status<'a>(
        &'a self,
        repo: &'a RepoName,
        commit: &'a str,
        status: &'a CommitStatus,
    ) -> Asking<'a, ()> {
        Box::pin(self.0.write_status(repo, commit, status))
    }

    fn keep_hook<'a>(&'a self, repo: &'a RepoName, hook: &'a HookWanted) -> Asking<'a, HookKept> {
        Box::pin(self.hook(repo, hook))
    }
}
