//! The two forges' shapes. What they do is the same (`crate::forge`); what they say and the statuses they say it with
//! differ, and clients look at both.
//!
//! The shapes are those of GitHub's REST API (version 2022-11-28) and of Gitea 1.22 and Forgejo, down to what a client
//! that registers a machine reads; nobody has to find a field here that nobody asked for.

use hyper::header;
use serde_json::{Value, json};

use super::Asked;
use crate::{
    Pull, PullState, StandInError,
    forge::{NoDeletion, NoPull, Wanted},
    reply::Reply,
    route::Dialect,
    state::State,
};

/// What a token may do, as GitHub's clients ask before they use it.
const SCOPES: &str = "repo, read:org, user:email";
/// The most pull requests in one answer, as on GitHub.
const PER_PAGE: usize = 100;

/// GitHub's first page: clients look at its headers to see whether they speak to the right kind of server.
pub(super) fn root(state: &State) -> Reply {
    let host = &state.config.host;
    let page = json!({
        "current_user_url": format!("https://{host}/user"),
        "repository_url": format!("https://{host}/repos/{{owner}}/{{repo}}"),
    });
    Reply::json(200, &page).header("x-oauth-scopes", SCOPES)
}

/// Gitea's version: clients choose by it what they may ask.
pub(super) fn version() -> Reply {
    Reply::json(200, &json!({"version": "1.22.0"}))
}

pub(super) fn user(state: &State, dialect: Dialect) -> Reply {
    let config = &state.config;
    let mut value = person(state);
    value["email"] = json!(config.email);
    if dialect == Dialect::Gitea {
        value["full_name"] = json!(config.name);
        value["username"] = json!(config.login);
        value["is_admin"] = json!(false);
        return Reply::json(200, &value);
    }
    value["name"] = json!(config.name);
    value["type"] = json!("User");
    value["site_admin"] = json!(false);
    Reply::json(200, &value).header("x-oauth-scopes", SCOPES)
}

pub(super) fn emails(state: &State) -> Reply {
    let value =
        json!([{"email": state.config.email, "primary": true, "verified": true, "visibility": "private"}]);
    Reply::json(200, &value)
}

pub(super) fn repository(state: &State, asked: &Asked) -> Reply {
    let config = &state.config;
    let host = asked.header(header::HOST);
    let host = if host.is_empty() { config.host.as_str() } else { host };
    let scheme = if asked.tls { "https" } else { "http" };
    Reply::json(
        200,
        &json!({
            "id": 1,
            "name": config.repository,
            "full_name": format!("{}/{}", config.owner, config.repository),
            "private": !config.public,
            "fork": false,
            "owner": {"id": 2, "login": config.owner, "type": "Organization"},
            "html_url": state.page(),
            "clone_url": format!("{scheme}://{host}/{}/{}.git", config.owner, config.repository),
            "default_branch": config.default_branch,
            "permissions": {"admin": false, "push": true, "pull": true},
        }),
    )
}

pub(super) fn pulls(state: &State, asked: &Asked) -> Reply {
    let wanted = asked.asked_for("state").unwrap_or_else(|| "open".into());
    let head = asked.asked_for("head").map(|head| branch_of(&head).to_owned());
    let base = asked.asked_for("base");
    let shown: Vec<Value> = state.book.with(|ledger| {
        let fits = |pull: &&Pull| {
            let open = pull.state == PullState::Open;
            (wanted == "all" || (wanted == "open") == open)
                && head.as_ref().is_none_or(|head| pull.head == *head)
                && base.as_ref().is_none_or(|base| pull.base == *base)
        };
        ledger.pulls.iter().rev().filter(fits).take(PER_PAGE).map(|pull| shape(state, asked, pull)).collect()
    });
    Reply::json(200, &Value::Array(shown))
}

pub(super) fn one_pull(state: &State, asked: &Asked, number: u64) -> Reply {
    let found = state.book.with(|ledger| {
        ledger.pulls.iter().find(|pull| pull.number == number).map(|pull| shape(state, asked, pull))
    });
    found.map_or_else(|| asked.problem(state, 404, "Not Found"), |value| Reply::json(200, &value))
}

pub(super) async fn open_pull(state: &State, asked: &Asked) -> Result<Reply, StandInError> {
    let Ok(body) = serde_json::from_slice::<Value>(asked.bytes()) else {
        return Ok(asked.problem(state, 400, "Problems parsing JSON"));
    };
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let wanted = Wanted {
        title: field("title"),
        body: field("body"),
        head: branch_of(&field("head")).to_owned(),
        base: branch_of(&field("base")).to_owned(),
    };
    for (name, value) in [("title", &wanted.title), ("head", &wanted.head), ("base", &wanted.base)] {
        if value.is_empty() {
            return Ok(invalid(state, asked, name, "missing_field", &format!("{name} is missing")));
        }
    }
    let (head, base) = (wanted.head.clone(), wanted.base.clone());
    let refused = match state.open_pull(wanted, asked.who.clone(), asked.id).await {
        Ok(pull) => return Ok(Reply::json(201, &shape(state, asked, &pull)).changed()),
        Err(refused) => refused,
    };
    let gitea = asked.route.dialect == Dialect::Gitea;
    Ok(match refused {
        NoPull::Failed(error) => return Err(error),
        NoPull::Exists(number) if gitea => {
            let message = format!("pull request already exists for these targets [index: {number}]");
            asked.problem(state, 409, &message)
        }
        NoPull::Exists(_) => {
            let message = format!("A pull request already exists for {}:{head}.", state.config.owner);
            invalid(state, asked, "head", "custom", &message)
        }
        NoPull::NoCommits if gitea => asked.problem(
            state,
            422,
            "Invalid PullRequest: There are no changes between the head and the base",
        ),
        NoPull::NoCommits => {
            invalid(state, asked, "head", "custom", &format!("No commits between {base} and {head}"))
        }
        NoPull::NoHead | NoPull::NoBase if gitea => asked.problem(state, 404, "Not Found"),
        NoPull::NoHead => invalid(state, asked, "head", "invalid", "the head is no branch"),
        NoPull::NoBase => invalid(state, asked, "base", "invalid", "the base is no branch"),
    })
}

pub(super) async fn delete_branch(state: &State, asked: &Asked, branch: &str) -> Result<Reply, StandInError> {
    let gitea = asked.route.dialect == Dialect::Gitea;
    Ok(match state.delete_branch(branch, asked.who.clone(), asked.id).await {
        Ok(()) => Reply::empty(204).changed(),
        Err(NoDeletion::Failed(error)) => return Err(error),
        Err(NoDeletion::NoBranch) if gitea => asked.problem(state, 404, "Not Found"),
        Err(NoDeletion::NoBranch) => asked.problem(state, 422, "Reference does not exist"),
        Err(NoDeletion::Default) if gitea => asked.problem(state, 403, "can not delete default branch"),
        Err(NoDeletion::Default) => asked.problem(state, 422, "Cannot delete the default branch"),
    })
}

/// A validation error, with GitHub's list of what is wrong.
fn invalid(state: &State, asked: &Asked, field: &str, code: &str, message: &str) -> Reply {
    if asked.route.dialect == Dialect::Gitea {
        return asked.problem(state, 422, &format!("[{field}]: {message}"));
    }
    let error = json!({"resource": "PullRequest", "field": field, "code": code, "message": message});
    Reply::json(
        422,
        &json!({
            "message": "Validation Failed",
            "errors": [error],
            "documentation_url": "https://docs.github.com/rest/pulls/pulls#create-a-pull-request",
            "status": "422",
        }),
    )
    .note(message)
}

fn shape(state: &State, asked: &Asked, pull: &Pull) -> Value {
    let config = &state.config;
    let (merged_at, merge_commit) = match &pull.state {
        PullState::Merged { at, commit, .. } => (Some(at.rfc3339()), Some(commit.clone())),
        _ => (None, None),
    };
    let closed_at = match &pull.state {
        PullState::Closed { at } | PullState::Merged { at, .. } => Some(at.rfc3339()),
        PullState::Open => None,
    };
    // Gitea's pages say "pulls", GitHub's "pull"; both numbers are the same.
    let page = match asked.route.dialect {
        Dialect::Gitea => format!("{}/pulls/{}", state.page(), pull.number),
        _ => pull.html_url.clone(),
    };
    json!({
        "id": pull.number,
        "number": pull.number,
        "url": format!("https://{}/repos/{}/{}/pulls/{}", config.host, config.owner, config.repository, pull.number),
        "html_url": page,
        "state": if pull.state == PullState::Open { "open" } else { "closed" },
        "title": pull.title,
        "body": pull.body,
        "user": person(state),
        "draft": false,
        "merged": merged_at.is_some(),
        "merged_at": merged_at,
        "merge_commit_sha": merge_commit,
        "created_at": pull.at.rfc3339(),
        "closed_at": closed_at,
        "head": {
            "label": format!("{}:{}", config.owner, pull.head),
            "ref": pull.head,
            "sha": pull.head_commit,
        },
        "base": {"label": format!("{}:{}", config.owner, pull.base), "ref": pull.base},
    })
}

fn person(state: &State) -> Value {
    let config = &state.config;
    json!({
        "id": 3,
        "login": config.login,
        "html_url": format!("https://{}/{}", config.host, config.login),
        "avatar_url": "",
    })
}

/// `OWNER:BRANCH` or `BRANCH`. A branch's name holds no colon.
fn branch_of(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(_, branch)| branch)
}
