//! Strangers' clients take the forge double for a forge: every call that Assay makes, made by somebody else's code, so that
//! the double and our own client cannot be wrong in the same way.

use std::collections::BTreeMap;

use assay_model::Micros;
use assay_testkit::forge::{Dialect, ForgeDouble, Scope};
use forgejo_api::structs::{
    CommitStatusState, CreateHookOption, CreateHookOptionConfig, CreateHookOptionType,
    CreateIssueCommentOption, CreateStatusOption, EditIssueCommentOption, IssueGetCommentsQuery,
    IssueGetRepoCommentsQuery, RepoGetPullRequestFilesQuery, RepoListStatusesQuery, StateType,
    TeamSearchQuery,
};
use forgejo_api::{Auth, Forgejo};
use octocrab::Octocrab;
use octocrab::models::StatusState;
use octocrab::models::hooks::{Config, ContentType, Hook};
use octocrab::models::webhook_events::WebhookEventType;

const HEAD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const BASE: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

async fn forge(dialect: Dialect) -> ForgeDouble {
    let forge = ForgeDouble::start(dialect).await;
    forge.repository("coop/plausible");
    forge.add_member("coop", "alice", true);
    forge.add_member("coop", "hidden", false);
    forge.add_member("coop", ForgeDouble::BOT, false);
    forge.add_to_team("coop", "maintainers", "alice");
    forge.open_pull("coop/plausible", "alice", HEAD, BASE, &["compose.yml", "abra.sh"]);
    forge.fork("coop/plausible", "mallory/plausible");
    forge.open_pull_from("mallory/plausible", "mallory", HEAD, BASE, &["compose.yml"]);
    forge
}

/// `forgejo-api` has TLS only with a provider of its own; plain HTTP needs none, but a choice.
fn choose_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test]
async fn forgejo_api_takes_the_double_for_a_forgejo() {
    choose_tls();
    let forge = forge(Dialect::Forgejo).await;
    let url = forge.url().parse().expect("an address");
    let client = Forgejo::new(Auth::Token(ForgeDouble::TOKEN), url).expect("a client");
    let (o, r) = ("coop", "plausible");

    let me = client.user_get_current().await.expect("the bot");
    assert_eq!(me.login.as_deref(), Some(ForgeDouble::BOT));
    let version = client.get_version().await.expect("a version");
    assert!(version.version.is_some_and(|version| version.contains("gitea")));

    let pull = client.repo_get_pull_request(o, r, 1).await.expect("a pull request");
    assert_eq!(pull.state, Some(StateType::Open));
    let head = pull.head.expect("a head");
    assert_eq!((head.sha.as_deref(), head.r#ref.as_deref()), (Some(HEAD), Some("change")));
    assert_eq!(head.repo.and_then(|repo| repo.full_name).as_deref(), Some("coop/plausible"));
    assert_eq!(pull.user.and_then(|user| user.login).as_deref(), Some("alice"));
    let from = client.repo_get_pull_request(o, r, 2).await.expect("from a fork").head.expect("a head");
    let from = from.repo.expect("a repository");
    assert_eq!((from.full_name.as_deref(), from.fork), (Some("mallory/plausible"), Some(true)));
    assert_eq!(from.parent.and_then(|parent| parent.full_name).as_deref(), Some("coop/plausible"));
    let query = RepoGetPullRequestFilesQuery::default();
    let (_, files) = client.repo_get_pull_request_files(o, r, 1, query).await.expect("files");
    let names: Vec<_> = files.iter().filter_map(|file| file.filename.as_deref()).collect();
    assert_eq!(names, ["compose.yml", "abra.sh"]);

    let first = forge.say("coop/plausible", 1, "alice", "first");
    forge.clock().advance(Micros::seconds(10));
    let body = CreateIssueCommentOption { body: "second".into(), updated_at: None };
    let made = client.issue_create_comment(o, r, 1, body).await.expect("made");
    assert_eq!(made.user.and_then(|user| user.login).as_deref(), Some(ForgeDouble::BOT));
    let since = made.updated_at;
    let query = IssueGetRepoCommentsQuery { since, before: None };
    let (headers, comments) = client.issue_get_repo_comments(o, r, query.clone()).await.expect("comments");
    assert_eq!((headers.x_total_count, comments.len()), (Some(1), 1), "from that moment on");
    assert!(comments[0].pull_request_url.is_some() && comments[0].issue_url.is_none());
    forge.clock().advance(Micros::seconds(10));
    forge.edit("coop/plausible", first, "first, edited");
    let (_, comments) = client.issue_get_repo_comments(o, r, query).await.expect("comments");
    let bodies: Vec<_> = comments.iter().filter_map(|comment| comment.body.as_deref()).collect();
    assert_eq!(bodies, ["first, edited", "second"], "an edit comes back, in the order of making");

    let id = made.id.expect("an id");
    let body = EditIssueCommentOption { body: "third".into(), updated_at: None };
    let edited = client.issue_edit_comment(o, r, id, body).await.expect("edited").expect("shown");
    assert_eq!(edited.body.as_deref(), Some("third"));
    let (_, all) = client.issue_get_comments(o, r, 1, IssueGetCommentsQuery::default()).await.expect("all");
    assert_eq!(all.len(), 2);
    for n in 0..120 {
        forge.say("coop/plausible", 1, "alice", &format!("more {n}"));
    }
    let query = IssueGetRepoCommentsQuery { since: None, before: None };
    let all = client.issue_get_repo_comments(o, r, query).page_size(50).all().await.expect("every page");
    assert_eq!(all.len(), 122);

    let status = CreateStatusOption {
        context: Some("assay/recipe".into()),
        description: Some("pass".into()),
        state: Some(CommitStatusState::Success),
        target_url: None,
    };
    let set = client.repo_create_status(o, r, HEAD, status).await.expect("set");
    assert_eq!(set.status, Some(CommitStatusState::Success));
    let (_, statuses) =
        client.repo_list_statuses(o, r, HEAD, RepoListStatusesQuery::default()).await.expect("statuses");
    assert_eq!(statuses.len(), 1);

    client.org_is_member("coop", "alice").await.expect("204");
    assert!(client.org_is_member("coop", "mallo").await.is_err(), "404");
    let found =
        client.team_search("coop", TeamSearchQuery { q: Some("maint".into()), include_desc: None }).await;
    let team = found.expect("found").data.expect("teams").remove(0);
    assert_eq!(team.name.as_deref(), Some("maintainers"));
    let id = team.id.expect("an id");
    assert!(client.org_list_team_member(id, "alice").await.is_ok());
    assert!(client.org_list_team_member(id, "hidden").await.is_err());

    let hook = CreateHookOption {
        active: Some(true),
        authorization_header: None,
        branch_filter: None,
        config: CreateHookOptionConfig {
            content_type: "json".into(),
            url: "http://127.0.0.1:1/hook".parse().expect("an address"),
            additional: BTreeMap::from([("secret".to_owned(), "0123456789abcdef".to_owned())]),
        },
        events: Some(vec!["pull_request_comment".into()]),
        r#type: CreateHookOptionType::Gitea,
    };
    let made = client.repo_create_hook(o, r, hook).await.expect("a hook");
    assert_eq!(made.active, Some(true));
    let (_, hooks) = client.repo_list_hooks(o, r).await.expect("hooks");
    assert_eq!(hooks.len(), 1);
    forge.say("coop/plausible", 1, "alice", "!testme");
    assert_eq!(forge.waiting_deliveries().len(), 1);
    assert_eq!(forge.deliver().await, [0], "nobody is there");
}

#[tokio::test]
async fn octocrab_takes_the_double_for_github() {
    choose_tls();
    let forge = forge(Dialect::GitHub).await;
    let client = Octocrab::builder()
        .personal_token(ForgeDouble::TOKEN)
        .base_uri(forge.url())
        .expect("an address")
        .build()
        .expect("a client");
    let (o, r) = ("coop", "plausible");

    assert_eq!(client.current().user().await.expect("the bot").login, ForgeDouble::BOT);
    let pull = client.pulls(o, r).get(1).await.expect("a pull request");
    assert_eq!((pull.head.sha.as_str(), pull.base.sha.as_str()), (HEAD, BASE));
    assert_eq!(pull.user.expect("an author").login, "alice");
    let from = client.pulls(o, r).get(2).await.expect("from a fork").head;
    assert_eq!(from.label.as_deref(), Some("mallory:change"));
    let from = from.repo.expect("a repository");
    assert_eq!((from.full_name.as_deref(), from.fork), (Some("mallory/plausible"), Some(true)));
    let whole = client.repos("mallory", r).get().await.expect("the fork");
    assert_eq!(whole.parent.and_then(|parent| parent.full_name).as_deref(), Some("coop/plausible"));
    let files = client.pulls(o, r).list_files(1).await.expect("files");
    assert_eq!(
        files.items.iter().map(|file| file.filename.as_str()).collect::<Vec<_>>(),
        ["compose.yml", "abra.sh"]
    );

    let first = forge.say("coop/plausible", 1, "alice", "first");
    forge.clock().advance(Micros::seconds(10));
    let made = client.issues(o, r).create_comment(1, "second").await.expect("made");
    assert_eq!(made.user.login, ForgeDouble::BOT);
    forge.clock().advance(Micros::seconds(10));
    forge.edit("coop/plausible", first, "first, edited");
    let comments = client
        .issues(o, r)
        .list_issue_comments()
        .since(made.created_at)
        .sort(octocrab::params::issues::Sort::Updated)
        .direction(octocrab::params::Direction::Ascending)
        .send()
        .await
        .expect("comments");
    let bodies: Vec<_> = comments.items.iter().filter_map(|comment| comment.body.as_deref()).collect();
    assert_eq!(bodies, ["second", "first, edited"], "by the last change");
    let edited = client.issues(o, r).update_comment(made.id, "third").await.expect("edited");
    assert_eq!(edited.body.as_deref(), Some("third"));
    for n in 0..120 {
        forge.say("coop/plausible", 1, "alice", &format!("more {n}"));
    }
    let page = client.issues(o, r).list_comments(1).per_page(100).send().await.expect("a page");
    assert_eq!((page.items.len(), page.number_of_pages()), (100, Some(2)));
    let next =
        client.get_page::<octocrab::models::issues::Comment>(&page.next).await.expect("the link leads on");
    assert!(next.is_some_and(|next| !next.items.is_empty()));

    let repo = client.repos(o, r);
    let set = repo
        .create_status(HEAD.to_owned(), StatusState::Pending)
        .context("assay/recipe".to_owned())
        .description("queued".to_owned())
        .send()
        .await
        .expect("set");
    assert_eq!(set.state, StatusState::Pending);
    assert_eq!(repo.list_statuses(HEAD.to_owned()).send().await.expect("statuses").items.len(), 1);

    assert!(client.orgs("coop").check_membership("alice").await.expect("204"));
    assert!(!client.orgs("coop").check_membership("mallo").await.expect("404"));
    assert!(client.teams("coop").memberships("maintainers").get("alice").await.is_ok());
    assert!(client.teams("coop").memberships("maintainers").get("hidden").await.is_err());

    let hook = Hook {
        name: "web".to_owned(),
        active: true,
        events: vec![WebhookEventType::IssueComment],
        config: Config {
            url: "http://127.0.0.1:1/hook".to_owned(),
            content_type: Some(ContentType::Json),
            insecure_ssl: None,
            secret: Some("0123456789abcdef".to_owned()),
        },
        ..Hook::default()
    };
    let made = repo.create_hook(hook.clone()).await.expect("a hook");
    assert!(made.active);
    assert!(repo.create_hook(hook).await.is_err(), "GitHub makes none twice");
    assert_eq!(repo.hooks().list().send().await.expect("hooks").items.len(), 1);
}

#[tokio::test]
async fn tokens_do_what_they_may_and_no_more() {
    choose_tls();
    let forge = forge(Dialect::Forgejo).await;
    forge.add_token("reader", "alice", &[Scope::ReadIssue, Scope::ReadRepository]);
    let url: url::Url = forge.url().parse().expect("an address");
    let reader = Forgejo::new(Auth::Token("reader"), url.clone()).expect("a client");
    let stranger = Forgejo::new(Auth::Token("wrong"), url).expect("a client");
    assert!(reader.repo_get_pull_request("coop", "plausible", 1).await.is_ok());
    let body = CreateIssueCommentOption { body: "x".into(), updated_at: None };
    assert!(reader.issue_create_comment("coop", "plausible", 1, body).await.is_err());
    assert!(stranger.repo_get_pull_request("coop", "plausible", 1).await.is_err());
    let statuses: Vec<_> = forge.asked().iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [Some(200), Some(403), Some(401)]);
}
