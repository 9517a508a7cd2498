//! Forgejo's and Gitea's dialect (`/api/v1`).
//!
//! What is particular: comments of a repository come in the order in which they were made, filtered by when they were
//! changed, a page of at most 50; `X-Total-Count` says how many there are. A comment that is deleted between two pages
//! moves the rest up by one, so a reading in which that number shrank is begun again. Nothing limits how long a comment may
//! be: a page that is too large is read in smaller ones, down to one comment, and that one is passed over and counted.

use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, Limits, Meter, NoReply};
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

/// Page sizes that are tried; each divides the one before.
const SIZES: [usize; 3] = [PAGE, 10, 1];
/// So often a reading is begun again because something was deleted meanwhile.
const TURNS: u32 = 3;
/// What a webhook is to tell.
const EVENTS: [&str; 3] = ["issue_comment", "pull_request_comment", "pull_request"];

/// A Forgejo or Gitea.
#[derive(Clone, Debug)]
pub struct Forgejo(Client);

#[derive(Deserialize)]
struct Found {
    data: Vec<Team>,
}

#[derive(Deserialize)]
struct Team {
    id: u64,
    name: String,
}

impl Forgejo {
    /// `address` is the forge's own, without `/api/v1`. The error says what is wrong with the settings.
    pub fn new(address: &str, token: Secret, limits: Limits) -> Result<Self, String> {
        let base = format!("{}/api/v1", address.trim_end_matches('/'));
        Client::new(ForgeKind::Forgejo, &base, token, limits).map(Self)
    }

    async fn hear(&self, repo: &RepoName, since: &Since) -> Result<Heard, ForgeError> {
        let mut calls = 0;
        for _ in 1..TURNS {
            if let Some(heard) = self.hear_once(repo, since, &mut calls).await? {
                return Ok(heard);
            }
        }
        // A repository in which something is deleted all the time is read again by the next poll; see `OVERLAP` there.
        let last = self.hear_once(repo, since, &mut calls).await?;
        last.ok_or_else(|| self.0.odd(Doing::ReadComments, "a list that shrinks while it is read"))
    }

    /// `None` when the list shrank meanwhile.
    async fn hear_once(
        &self,
        repo: &RepoName,
        since: &Since,
        calls: &mut u32,
    ) -> Result<Option<Heard>, ForgeError> {
        let doing = Doing::ReadComments;
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", "comments"];
        let at = time::write(since.at);
        let mut heard = Heard {
            comments: None,
            etag: None,
            server_time: None,
            more: None,
            calls: 0,
            counted: 0,
            too_large: 0,
        };
        let mut comments = Vec::new();
        let first = (since.page.max(1) as usize - 1) * PAGE;
        let last = first + self.0.limits.pages.max(1) as usize * PAGE;
        let (mut offset, mut total) = (first, None);
        // Sizes are places in `SIZES`. This forge gives no larger pages than `largest`, and none larger than `here` at
        // this offset.
        let (mut largest, mut here) = (0, 0);
        loop {
            if offset >= last {
                heard.more = Some(Resume::Page((offset / PAGE) as u32 + 1));
                break;
            }
            let fits = |size: &usize| offset.is_multiple_of(SIZES[*size]);
            let place = (here..SIZES.len()).find(fits).unwrap_or(SIZES.len() - 1);
            let size = SIZES[place];
            let asked = self
                .0
                .get(doing, repo, &segments)
                .query("since", &at)
                .query("limit", &size.to_string())
                .query("page", &(offset / size + 1).to_string());
            *calls += 1;
            let reply = match asked.send().await {
                Ok(reply) => reply,
                Err(NoReply::TooLarge(_)) if place + 1 < SIZES.len() => {
                    here = place + 1;
                    continue;
                }
                Err(NoReply::TooLarge(_)) => {
                    heard.too_large += 1;
                    offset += 1;
                    here = largest;
                    continue;
                }
                Err(NoReply::Error(error)) => return Err(error),
            };
            heard.server_time = heard.server_time.or(reply.server_time);
            if reply.total.zip(total).is_some_and(|(now, before)| now < before) {
                return Ok(None);
            }
            total = reply.total.or(total);
            let page: Vec<WireComment> = reply.read()?;
            let count = page.len();
            let expected = total.map(|total| size.min((total as usize).saturating_sub(offset)));
            // A forge may have a smaller limit than ours: then page numbers mean other places, too.
            if expected.is_some_and(|expected| expected != count) && place + 1 < SIZES.len() {
                largest = place + 1;
                here = largest;
                continue;
            }
            for comment in page {
                comments.push(comment.comment(None).map_err(|why| self.0.odd(doing, why))?);
            }
            offset += count;
            here = largest;
            if count == 0 || count < size || total.is_some_and(|total| offset as u64 >= total) {
                break;
            }
        }
        heard.comments = Some(comments);
        heard.calls = *calls;
        heard.counted = *calls;
        Ok(Some(heard))
    }

    async fn hear_pull(&self, repo: &RepoName, number: u64) -> Result<Vec<Comment>, ForgeError> {
        let doing = Doing::ReadComments;
        let digits = number.to_string();
        let segments = ["repos", repo.owner().as_str(), repo.name().as_str(), "issues", &digits, "comments"];
        // This list comes whole.
        let comments: Vec<WireComment> = self.0.get(doing, &on(repo, number), &segments).read().await?;
        let belongs = Some((number, true));
        let read = comments.into_iter().map(|comment| comment.comment(belongs));
        read.collect::<Result<_, _>>().map_err(|why| self.0.odd(doing, why))
    }

    async fn in_team(&self, org: &Name, team: &Name, login: &Login) -> Result<Membership, ForgeError> {
        let doing = Doing::ReadTeam;
        let of = format!("{org}/{team}");
        let segments = ["orgs", org.as_str(), "teams", "search"];
        let found: Found = self.0.get(doing, &of, &segments).query("q", team.as_str()).read().await?;
        let team = found.data.iter().find(|found| found.name.eq_ignore_ascii_case(team.as_str()));
        let Some(team) = team else {
            return Err(self.0.missing(doing, of, "there is no such team, or it is not shown"));
        };
        let id = team.id.to_string();
        match self.0.get(doing, &of, &["teams", &id, "members", login.as_str()]).send().await {
            Ok(_) => Ok(Membership::Member),
            Err(no) => not_found_is(ForgeError::from(no), Membership::NotMember),
        }
    }

    async fn hook(&self, repo: &RepoName, hook: &HookWanted) -> Result<HookKept, ForgeError> {
        let new = json!({
            "type": "gitea", "active": true, "events": EVENTS,
            "config": { "url": hook.url, "content_type": "json", "secret": hook.secret.reveal() },
        });
        self.0.see_to_hook(repo, hook, "limit", &EVENTS, new).await
    }
}

impl Forge for Forgejo {
    fn kind(&self) -> ForgeKind {
        ForgeKind::Forgejo
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
        Box::pin(self.0.read_files(repo, number, "limit"))
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
