//! What things look like in each dialect.

use assay_model::Micros;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Dialect;
use super::world::{Comment, Hook, Pull, World, WrittenStatus};

pub(super) fn rfc3339(at: Micros) -> String {
    let time = DateTime::<Utc>::from_timestamp_micros(at.0).expect("a time");
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl World {
    pub(super) fn user_json(&mut self, login: &str) -> Value {
        let (id, url) = (self.user_id(login), self.url.clone());
        let page = format!("{url}/{login}");
        match self.dialect {
            Dialect::Forgejo => json!({
                "id": id, "login": login, "login_name": "", "full_name": "", "email": format!("{login}@noreply.example"),
                "avatar_url": format!("{page}.png"), "html_url": page, "language": "", "is_admin": false,
                "last_login": "0001-01-01T00:00:00Z", "created": "2020-01-01T00:00:00Z", "restricted": false, "active": true,
                "prohibit_login": false, "location": "", "pronouns": "", "website": "", "description": "", "visibility": "public",
                "followers_count": 0, "following_count": 0, "starred_repos_count": 0, "username": login, "source_id": 0,
            }),
            Dialect::GitHub => {
                let api = format!("{url}/users/{login}");
                json!({
                    "login": login, "id": id, "node_id": "N", "avatar_url": format!("{page}.png"), "gravatar_id": "",
                    "url": api, "html_url": page, "followers_url": format!("{api}/followers"),
                    "following_url": format!("{api}/following"), "gists_url": format!("{api}/gists"),
                    "starred_url": format!("{api}/starred"), "subscriptions_url": format!("{api}/subscriptions"),
                    "organizations_url": format!("{api}/orgs"), "repos_url": format!("{api}/repos"),
                    "events_url": format!("{api}/events"), "received_events_url": format!("{api}/received_events"),
                    "type": "User", "site_admin": false,
                })
            }
        }
    }

    fn author_json(&mut self, login: Option<&str>) -> Value {
        match (login, self.dialect) {
            (Some(login), _) => self.user_json(login),
            (None, Dialect::GitHub) => Value::Null,
            (None, Dialect::Forgejo) => {
                let mut ghost = self.user_json("Ghost");
                ghost["id"] = json!(-1);
                ghost
            }
        }
    }

    pub(super) fn comment_json(&mut self, repo: &str, comment: &Comment) -> Value {
        let user = self.author_json(comment.author.as_deref());
        let on_pull = self.repo(repo).pulls.contains_key(&comment.number);
        let (url, id, number) = (self.url.clone(), comment.id, comment.number);
        let (created, updated) = (rfc3339(comment.created_at), rfc3339(comment.updated_at));
        match self.dialect {
            Dialect::Forgejo => {
                let page = format!("{url}/{repo}/{}/{number}", if on_pull { "pulls" } else { "issues" });
                json!({
                    "id": id, "html_url": format!("{page}#issuecomment-{id}"),
                    "pull_request_url": if on_pull { page.as_str() } else { "" },
                    "issue_url": if on_pull { "" } else { page.as_str() },
                    "user": user, "original_author": "", "original_author_id": 0, "body": comment.body, "assets": [],
                    "created_at": created, "updated_at": updated,
                })
            }
            Dialect::GitHub => {
                let page = format!("{url}/{repo}/{}/{number}", if on_pull { "pull" } else { "issues" });
                json!({
                    "id": id, "node_id": "N", "url": format!("{url}/repos/{repo}/issues/comments/{id}"),
                    "html_url": format!("{page}#issuecomment-{id}"), "issue_url": format!("{url}/repos/{repo}/issues/{number}"),
                    "user": user, "body": comment.body, "author_association": "NONE",
                    "created_at": created, "updated_at": updated,
                })
            }
        }
    }

    pub(super) fn pull_json(&mut self, repo: &str, pull: &Pull) -> Value {
        let user = self.user_json(&pull.author);
        let (url, number) = (self.url.clone(), pull.number);
        let (into, from) = (self.repo_json(repo), self.repo_json(&pull.head_repo));
        let (word, api) = match self.dialect {
            Dialect::Forgejo => ("pulls", format!("{url}/api/v1")),
            Dialect::GitHub => ("pull", url.clone()),
        };
        let page = format!("{url}/{repo}/{word}/{number}");
        let mut json = json!({
            "id": 10_000 + number, "number": number, "url": format!("{api}/repos/{repo}/pulls/{number}"), "html_url": page,
            "diff_url": format!("{page}.diff"), "patch_url": format!("{page}.patch"), "node_id": "N",
            "state": if pull.is_open { "open" } else { "closed" }, "draft": false, "title": pull.title, "body": "",
            "user": user, "labels": [], "milestone": null, "assignee": null, "assignees": null, "requested_reviewers": [],
            "requested_reviewers_teams": [], "comments": 0, "merged": pull.merged_at.is_some(),
            "merged_at": pull.merged_at.map(rfc3339), "merged_by": null, "merge_commit_sha": null,
            "created_at": rfc3339(pull.updated_at), "updated_at": rfc3339(pull.updated_at), "closed_at": null, "due_date": null,
            "head": { "label": pull.head_ref, "ref": pull.head_ref, "sha": pull.head, "repo": from, "repo_id": 1 },
            "base": { "label": "main", "ref": "main", "sha": pull.base, "repo": into, "repo_id": 1 },
            "merge_base": pull.base,
        });
        let gone = json["head"]["repo"].is_null();
        if self.dialect == Dialect::Forgejo && gone {
            // The branch's own name is not known any more.
            json["head"]["ref"] = json!(format!("refs/pull/{number}/head"));
            json["head"]["repo_id"] = json!(-1);
        }
        if self.dialect == Dialect::GitHub {
            let owner = pull.head_repo.split('/').next().unwrap_or_default();
            json["head"]["label"] = json!(format!("{owner}:{}", pull.head_ref));
            json["requested_teams"] = json!([]);
            json["assignees"] = json!([]);
            json["locked"] = json!(false);
        }
        json
    }

    /// `null` for a fork that is gone.
    pub(super) fn repo_json(&mut self, name: &str) -> Value {
        let Some(repo) = self.repos.get(name) else { return Value::Null };
        let (id, url, fork_of) = (repo.id, self.url.clone(), repo.fork_of.clone());
        let (owner, short) = name.split_once('/').expect("OWNER/NAME");
        let owner = self.user_json(owner);
        let api = match self.dialect {
            Dialect::Forgejo => format!("{url}/api/v1/repos/{name}"),
            Dialect::GitHub => format!("{url}/repos/{name}"),
        };
        let mut json = json!({
            "id": id, "node_id": "N", "owner": owner, "name": short, "full_name": name, "private": false,
            "fork": fork_of.is_some(), "html_url": format!("{url}/{name}"), "url": api,
            "clone_url": format!("{url}/{name}.git"), "default_branch": "main",
            "description": "", "empty": false, "archived": false,
        });
        // GitHub says of what only where it is asked for the repository itself.
        if let Some(fork_of) = fork_of.filter(|_| self.dialect == Dialect::Forgejo) {
            json["parent"] = self.repo_json(&fork_of);
        }
        json
    }

    /// A repository as it is shown to who asks for it.
    pub(super) fn whole_repo_json(&mut self, name: &str) -> Value {
        let mut json = self.repo_json(name);
        let fork_of = self.repos.get(name).and_then(|repo| repo.fork_of.clone());
        if let Some(fork_of) = fork_of.filter(|_| self.dialect == Dialect::GitHub) {
            json["parent"] = self.repo_json(&fork_of);
            json["source"] = json["parent"].clone();
        }
        json
    }

    pub(super) fn status_json(
        &mut self,
        repo: &str,
        commit: &str,
        login: &str,
        status: &WrittenStatus,
    ) -> Value {
        let creator = self.user_json(login);
        let (url, now) = (format!("{}/repos/{repo}/statuses/{commit}", self.url), rfc3339(self.now));
        // Forgejo calls it `status` in answers, and `state` in questions.
        let key = if self.dialect == Dialect::Forgejo { "status" } else { "state" };
        let mut json = json!({
            "id": 1, "node_id": "N", "url": url, "context": status.context, "description": status.description,
            "target_url": status.target_url.clone().unwrap_or_default(), "creator": creator, "created_at": now, "updated_at": now,
        });
        json[key] = json!(status.state);
        json
    }

    pub(super) fn hook_json(&mut self, repo: &str, hook: &Hook) -> Value {
        let now = rfc3339(self.now);
        let config = match self.dialect {
            Dialect::Forgejo => json!({ "content_type": hook.content_type, "url": hook.url }),
            Dialect::GitHub => {
                json!({ "content_type": hook.content_type, "url": hook.url, "insecure_ssl": "0", "secret": "********" })
            }
        };
        let mut json = json!({
            "id": hook.id, "type": hook.kind, "active": hook.is_active, "events": hook.events, "config": config,
            "created_at": now, "updated_at": now,
        });
        if self.dialect == Dialect::GitHub {
            let own = format!("{}/repos/{repo}/hooks/{}", self.url, hook.id);
            json["type"] = json!("Repository");
            json["name"] = json!("web");
            json["url"] = json!(own);
            json["ping_url"] = json!(format!("{own}/pings"));
            json["test_url"] = json!(format!("{own}/tests"));
        } else {
            json["url"] = json!(hook.url);
            json["content_type"] = json!(hook.content_type);
            json["branch_filter"] = json!("");
            json["authorization_header"] = json!("");
        }
        json
    }
}
