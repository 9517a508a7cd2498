//! The API: what is asked, and what follows.

use serde_json::{Value, json};
use url::Url;

use super::Dialect;
use super::answer::Answer;
use super::world::{Comment, Hook, Scope, World, WrittenStatus};

/// A request to the API.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    /// Without the API's own path, with the query.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// The query, as far as anything reads it.
struct Query(Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }
}

impl World {
    pub(super) fn answer(&mut self, ask: &Ask<'_>) -> Answer {
        let url = Url::parse("http://forge").and_then(|base| base.join(ask.path)).expect("a path");
        let query =
            Query(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect());
        let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
        match self.route(ask, &segments, &query) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn route(&mut self, ask: &Ask<'_>, segments: &[&str], query: &Query) -> Result<Answer, Answer> {
        let is_forgejo = self.dialect == Dialect::Forgejo;
        match (ask.method, segments) {
            ("GET", ["version"]) if is_forgejo => {
                Ok(Answer::json(200, &json!({ "version": "12.0.1+gitea-1.22.0" })))
            }
            ("GET", ["user"]) => {
                let login = self.allow(ask.token, Scope::ReadUser)?;
                Ok(Answer::json(200, &self.user_json(&login)))
            }
            ("GET", ["orgs", org, "members", login]) => {
                let asker = self.allow(ask.token, Scope::ReadOrganization)?;
                self.member(org, login, &asker)
            }
            ("GET", ["orgs", org, "public_members", login]) => {
                self.allow(ask.token, Scope::ReadOrganization)?;
                let is_public = self.org(org)?.members.get(*login).copied().unwrap_or(false);
                Ok(if is_public { Answer::empty(204) } else { Answer::refused(404, "Not Found") })
            }
            ("GET", ["orgs", org, "teams", "search"]) if is_forgejo => {
                let asker = self.allow(ask.token, Scope::ReadOrganization)?;
                self.teams(org, query.get("q").unwrap_or_default(), &asker)
            }
            ("GET", ["teams", id, "members", login]) if is_forgejo => {
                self.allow(ask.token, Scope::ReadOrganization)?;
                let id: u64 = id.parse().map_err(|_| not_found())?;
                let mut teams = self.orgs.values().flat_map(|org| org.teams.values());
                let is_member = teams.any(|(team, members)| *team == id && members.contains(*login));
                if is_member { Ok(Answer::json(200, &self.user_json(login))) } else { Err(not_found()) }
            }
            ("GET", ["orgs", org, "teams", team, "memberships", login]) if !is_forgejo => {
                self.allow(ask.token, Scope::ReadOrganization)?;
                let (_, members) = self.org(org)?.teams.get(*team).ok_or_else(not_found)?;
                if !members.contains(*login) {
                    return Err(not_found());
                }
                Ok(Answer::json(200, &json!({ "state": "active", "role": "member", "url": self.url })))
            }
            (_, ["repos", owner, name, rest @ ..]) => {
                let repo = format!("{owner}/{name}");
                if !self.repos.contains_key(&repo) {
                    self.allow(ask.token, Scope::ReadRepository)?;
                    return Err(not_found());
                }
                self.in_repository(ask, &repo, rest, query)
            }
            _ => Err(not_found()),
        }
    }

    fn in_repository(
        &mut self,
        ask: &Ask<'_>,
        repo: &str,
        rest: &[&str],
        query: &Query,
    ) -> Result<Answer, Answer> {
        match (ask.method, rest) {
            ("GET", []) => {
                self.allow(ask.token, Scope::ReadRepository)?;
                Ok(Answer::json(200, &self.whole_repo_json(repo)))
            }
            ("GET", ["issues", "comments"]) => {
                self.allow(ask.token, Scope::ReadIssue)?;
                self.all_comments(ask, repo, query)
            }
            (method, ["issues", "comments", id]) => self.one_comment(ask, method, repo, number(id)?),
            ("GET", ["issues", thread, "comments"]) => {
                self.allow(ask.token, Scope::ReadIssue)?;
                self.comments_of(ask, repo, number(thread)?, query)
            }
            ("POST", ["issues", thread, "comments"]) => {
                let login = self.allow(ask.token, Scope::WriteIssue)?;
                let thread = number(thread)?;
                if !self.has_thread(repo, thread) {
                    return Err(not_found());
                }
                let body = text_of(ask.body)?;
                let id = self.say(repo, thread, &login, &body);
                let comment = self.comment(repo, id).clone();
                Ok(Answer::json(201, &self.comment_json(repo, &comment)))
            }
            ("GET", ["pulls"]) => {
                self.allow(ask.token, Scope::ReadRepository)?;
                let pulls: Vec<_> =
                    self.repo(repo).pulls.values().filter(|pull| pull.is_open).cloned().collect();
                Ok(self.page(ask, &pulls, query, true, |world, pull| world.pull_json(repo, pull)))
            }
            ("GET", ["pulls", id]) => {
                self.allow(ask.token, Scope::ReadRepository)?;
                let pull = self.repo(repo).pulls.get(&number(id)?).cloned().ok_or_else(not_found)?;
                Ok(Answer::json(200, &self.pull_json(repo, &pull)))
            }
            ("GET", ["pulls", id, "files"]) => {
                self.allow(ask.token, Scope::ReadRepository)?;
                let pull = self.repo(repo).pulls.get(&number(id)?).cloned().ok_or_else(not_found)?;
                Ok(self.page(ask, &pull.files, query, true, |world, (path, before)| {
                    file_json(&world.url, path, before.as_deref())
                }))
            }
            ("POST", ["statuses", commit]) => {
                let login = self.may_write(ask, repo)?;
                self.set_status(ask, repo, commit, &login)
            }
            ("GET", ["commits", commit, "statuses"] | ["statuses", commit]) => {
                self.allow(ask.token, Scope::ReadRepository)?;
                let written = self.repo(repo).statuses.get(*commit).cloned().unwrap_or_default();
                let bot = super::ForgeDouble::BOT;
                let newest_first: Vec<_> = written.into_iter().rev().collect();
                Ok(self.page(ask, &newest_first, query, true, |world, status| {
                    world.status_json(repo, commit, bot, status)
                }))
            }
            ("GET", ["hooks"]) => {
                self.may_write(ask, repo)?;
                let hooks = self.repo(repo).hooks.clone();
                Ok(self.page(ask, &hooks, query, true, |world, hook| world.hook_json(repo, hook)))
            }
            ("POST", ["hooks"]) => {
                self.may_write(ask, repo)?;
                let hook = self.read_hook(ask)?;
                if self.dialect == Dialect::GitHub
                    && self.repo(repo).hooks.iter().any(|known| known.url == hook.url)
                {
                    return Err(Answer::refused(422, "Hook already exists on this repository"));
                }
                self.repo(repo).hooks.push(hook.clone());
                Ok(Answer::json(201, &self.hook_json(repo, &hook)))
            }
            ("PATCH", ["hooks", id]) => {
                self.may_write(ask, repo)?;
                let (id, new) = (number(id)?, self.read_hook(ask)?);
                let hooks = &mut self.repo(repo).hooks;
                let known = hooks.iter_mut().find(|hook| hook.id == id).ok_or_else(not_found)?;
                *known = Hook { id, ..new };
                let known = known.clone();
                Ok(Answer::json(200, &self.hook_json(repo, &known)))
            }
            _ => Err(not_found()),
        }
    }

    /// Forgejo: in the order in which they were made. GitHub: by number, or by the last change where that is asked for.
    fn all_comments(&mut self, ask: &Ask<'_>, repo: &str, query: &Query) -> Result<Answer, Answer> {
        let since = query.get("since").map(time).transpose()?;
        let is_forgejo = self.dialect == Dialect::Forgejo;
        let mut comments: Vec<Comment> = self.repo(repo).comments.values().cloned().collect();
        comments.retain(|comment| since.is_none_or(|since| comment.updated_at >= since));
        if is_forgejo {
            comments.sort_by_key(|comment| (comment.created_at, comment.id));
        } else if query.get("sort") == Some("updated") {
            comments.sort_by_key(|comment| (comment.updated_at, comment.id));
            if query.get("direction") != Some("asc") {
                comments.reverse();
            }
        }
        Ok(self.page(ask, &comments, query, !is_forgejo, |world, comment| world.comment_json(repo, comment)))
    }

    fn comments_of(
        &mut self,
        ask: &Ask<'_>,
        repo: &str,
        thread: u64,
        query: &Query,
    ) -> Result<Answer, Answer> {
        if !self.has_thread(repo, thread) {
            return Err(not_found());
        }
        let mut comments: Vec<Comment> = self.repo(repo).comments.values().cloned().collect();
        comments.retain(|comment| comment.number == thread);
        if self.dialect == Dialect::Forgejo {
            let comments: Vec<Value> =
                comments.iter().map(|comment| self.comment_json(repo, comment)).collect();
            // This list comes whole.
            let total = comments.len();
            return Ok(Answer::json(200, &Value::from(comments)).header("x-total-count", &total));
        }
        Ok(self.page(ask, &comments, query, true, |world, comment| world.comment_json(repo, comment)))
    }

    fn one_comment(&mut self, ask: &Ask<'_>, method: &str, repo: &str, id: u64) -> Result<Answer, Answer> {
        let scope = if method == "GET" { Scope::ReadIssue } else { Scope::WriteIssue };
        let login = self.allow(ask.token, scope)?;
        let Some(comment) = self.repo(repo).comments.get(&id).cloned() else { return Err(not_found()) };
        let is_own = comment.author.as_ref() == Some(&login) || self.repo(repo).writers.contains(&login);
        // GitHub takes POST for PATCH, from before PATCH was everywhere.
        let method = if method == "POST" && self.dialect == Dialect::GitHub { "PATCH" } else { method };
        match method {
            "GET" => Ok(Answer::json(200, &self.comment_json(repo, &comment))),
            "PATCH" if is_own => {
                let body = text_of(ask.body)?;
                self.edit(repo, id, &body);
                let comment = self.comment(repo, id).clone();
                Ok(Answer::json(200, &self.comment_json(repo, &comment)))
            }
            "DELETE" if is_own => {
                self.delete(repo, id);
                Ok(Answer::empty(204))
            }
            "PATCH" | "DELETE" => Err(Answer::refused(403, "Must be the comment's author")),
            _ => Err(Answer::refused(405, "Method Not Allowed")),
        }
    }

    fn set_status(&mut self, ask: &Ask<'_>, repo: &str, commit: &str, login: &str) -> Result<Answer, Answer> {
        let asked: Value = serde_json::from_slice(ask.body).map_err(|_| invalid("not JSON"))?;
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        let known: &[&str] = match self.dialect {
            Dialect::Forgejo => &["pending", "success", "error", "failure", "warning"],
            Dialect::GitHub => &["pending", "success", "error", "failure"],
        };
        if !known.contains(&text("state").as_str()) {
            return Err(invalid("state is not included in the list"));
        }
        if self.dialect == Dialect::GitHub && text("description").chars().count() > 140 {
            return Err(invalid("description is too long (maximum is 140 characters)"));
        }
        if commit.len() != 40 {
            return Err(invalid("No commit found for SHA"));
        }
        let status = WrittenStatus {
            context: text("context"),
            state: text("state"),
            description: text("description"),
            target_url: asked["target_url"].as_str().map(str::to_owned),
        };
        self.repo(repo).statuses.entry(commit.to_owned()).or_default().push(status.clone());
        Ok(Answer::json(201, &self.status_json(repo, commit, login, &status)))
    }

    fn read_hook(&mut self, ask: &Ask<'_>) -> Result<Hook, Answer> {
        let asked: Value = serde_json::from_slice(ask.body).map_err(|_| invalid("not JSON"))?;
        let config = |name: &str| asked["config"][name].as_str().map(str::to_owned);
        let events = asked["events"].as_array().cloned().unwrap_or_default();
        let kind = asked["type"].as_str().unwrap_or("Repository").to_owned();
        if self.dialect == Dialect::GitHub && asked["name"] != "web" && ask.method == "POST" {
            return Err(invalid("name must be web"));
        }
        Ok(Hook {
            id: self.id(),
            url: config("url").ok_or_else(|| invalid("config.url is missing"))?,
            secret: config("secret").unwrap_or_default(),
            content_type: config("content_type").unwrap_or_else(|| "form".to_owned()),
            events: events.iter().filter_map(|event| event.as_str().map(str::to_owned)).collect(),
            is_active: asked["active"].as_bool().unwrap_or(self.dialect == Dialect::GitHub),
            kind,
        })
    }

    /// Its members see all members; others are sent to the public ones.
    fn member(&mut self, org: &str, login: &str, asker: &str) -> Result<Answer, Answer> {
        let (url, is_forgejo) = (self.url.clone(), self.dialect == Dialect::Forgejo);
        let known = self.org(org)?;
        if known.members.contains_key(asker) {
            let is_member = known.members.contains_key(login);
            return if is_member { Ok(Answer::empty(204)) } else { Err(not_found()) };
        }
        let (status, api) = if is_forgejo { (303, "/api/v1") } else { (302, "") };
        Ok(Answer::empty(status).header("location", &format!("{url}{api}/orgs/{org}/public_members/{login}")))
    }

    fn teams(&mut self, org: &str, wanted: &str, asker: &str) -> Result<Answer, Answer> {
        let known = self.org(org)?;
        if !known.members.contains_key(asker) {
            return Err(Answer::refused(403, "Must be an organization member"));
        }
        let found: Vec<Value> = known
            .teams
            .iter()
            .filter(|(name, _)| name.contains(wanted))
            .map(|(name, (id, _))| json!({ "id": id, "name": name, "permission": "read" }))
            .collect();
        Ok(Answer::json(200, &json!({ "ok": true, "data": found })))
    }

    fn org(&self, name: &str) -> Result<&super::world::Org, Answer> {
        self.orgs.get(name).ok_or_else(not_found)
    }

    fn may_write(&mut self, ask: &Ask<'_>, repo: &str) -> Result<String, Answer> {
        let login = self.allow(ask.token, Scope::WriteRepository)?;
        if self.repo(repo).writers.contains(&login) {
            Ok(login)
        } else {
            Err(Answer::refused(403, "user should have permission to write to a repository"))
        }
    }

    fn page<T>(
        &mut self,
        ask: &Ask<'_>,
        entries: &[T],
        query: &Query,
        has_links: bool,
        show: impl Fn(&mut Self, &T) -> Value,
    ) -> Answer {
        let (size, usual) = match self.dialect {
            Dialect::Forgejo => ("limit", 30),
            Dialect::GitHub => ("per_page", 30),
        };
        let size = query.number(size).filter(|n| *n > 0).unwrap_or(usual).min(self.page_limit);
        let page = query.number("page").unwrap_or(1).max(1);
        let total = entries.len();
        let pages = total.div_ceil(size).max(1);
        let shown: Vec<Value> =
            entries.iter().skip((page - 1) * size).take(size).map(|entry| show(self, entry)).collect();
        let mut answer = Answer::json(200, &Value::from(shown));
        if self.dialect == Dialect::Forgejo {
            answer = answer.header("x-total-count", &total);
        }
        if has_links && page < pages {
            let to = |page: usize, rel: &str| {
                let mut url = Url::parse(&format!("{}{}", self.url, ask.path)).expect("a path");
                let kept: Vec<(String, String)> =
                    query.0.iter().filter(|(name, _)| name != "page").cloned().collect();
                url.query_pairs_mut().clear().extend_pairs(kept).append_pair("page", &page.to_string());
                format!("<{url}>; rel=\"{rel}\"")
            };
            answer = answer.header("link", &format!("{}, {}", to(page + 1, "next"), to(pages, "last")));
        }
        answer
    }
}

fn file_json(url: &str, path: &str, before: Option<&str>) -> Value {
    let mut file = json!({
        "filename": path, "status": if before.is_some() { "renamed" } else { "modified" }, "sha": "0".repeat(40),
        "additions": 1, "deletions": 0, "changes": 1, "html_url": format!("{url}/blob/{path}"),
        "blob_url": format!("{url}/blob/{path}"), "raw_url": format!("{url}/raw/{path}"),
        "contents_url": format!("{url}/contents/{path}"),
    });
    if let Some(before) = before {
        file["previous_filename"] = json!(before);
    }
    file
}

fn text_of(body: &[u8]) -> Result<String, Answer> {
    let asked: Value = serde_json::from_slice(body).map_err(|_| invalid("not JSON"))?;
    let text =
        asked["body"].as_str().filter(|text| !text.is_empty()).ok_or_else(|| invalid("body is missing"))?;
    if text.chars().count() > 65_536 {
        return Err(invalid("body is too long (maximum is 65536 characters)"));
    }
    Ok(text.to_owned())
}

fn number(text: &str) -> Result<u64, Answer> {
    text.parse().map_err(|_| not_found())
}

fn time(text: &str) -> Result<assay_model::Micros, Answer> {
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| invalid("since is no time"))?;
    Ok(assay_model::Micros(time.timestamp_micros()))
}

fn not_found() -> Answer {
    Answer::refused(404, "Not Found")
}

fn invalid(message: &str) -> Answer {
    Answer::refused(422, message)
}
