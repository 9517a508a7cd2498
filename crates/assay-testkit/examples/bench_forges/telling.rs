//! From a comment to ours that says `queued`: polled at the usual pace, and delivered.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_testkit::ForgeDouble;
use assay_testkit::forge::Dialect;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Listener, Result, forge, serve, spread};

/// The usual pause between two questions to a repository.
const EVERY_S: u64 = 30;
/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(90);
const FILES: [(&str, &str); 4] = [
    (
        "compose.yml",
        "version: '3.8'\nservices:\n  app:\n    image: wiki:1.0\n    deploy:\n      labels:\n        - coop-cloud.${STACK_NAME}.version=1.0.0+1.0\n",
    ),
    (".env.sample", "TYPE=wiki\nDOMAIN=wiki.example.com\n"),
    ("abra.sh", "export APP_CONF_VERSION=v1\n"),
    ("tests/assay.toml", "[http]\npath = \"/\"\n"),
];

/// A pull request of alice's.
async fn pull(forge: &ForgeDouble, repo: &str, branch: &str) -> u64 {
    forge.commit(repo, branch, Some("main"), &[("README.md", branch)]).await;
    forge.open_git_pull(repo, "alice", branch).await
}

fn is_told(forge: &ForgeDouble, repo: &str, pull: u64) -> bool {
    let told = forge.comments(repo, pull);
    told.iter().any(|told| told.author.as_deref() == Some(ForgeDouble::BOT) && told.body.contains("queued"))
}

/// Seconds to the comment; a pull request in each of so many repositories, asked at moments spread over one pause.
pub(crate) async fn polled(program: &Path, data: &Path, rounds: u32) -> Result<Value> {
    let forge = std::sync::Arc::new(forge(Dialect::Forgejo).await);
    let repositories: Vec<String> = (0..rounds).map(|n| format!("apps/wiki-{n}")).collect();
    for repo in &repositories {
        forge.git_repository(repo, &FILES).await;
        pull(&forge, repo, "work").await;
    }
    let listener =
        Listener { name: "coop", kind: "forgejo", forge: &forge, repositories: &repositories, more: "" };
    let mut server = serve(program, data, &[listener]).await?;
    listens(&forge, &repositories).await;
    let mut asking: JoinSet<f64> = JoinSet::new();
    for (n, repo) in (0..).zip(repositories) {
        let (forge, wait) = (std::sync::Arc::clone(&forge), Duration::from_secs(EVERY_S) * n / rounds);
        asking.spawn(async move {
            tokio::time::sleep(wait).await;
            let begun = Instant::now();
            forge.say(&repo, 1, "alice", "!testme");
            forge.until_within(PATIENCE, "a comment", |forge| is_told(forge, &repo, 1)).await;
            begun.elapsed().as_secs_f64()
        });
    }
    let (median, worst) = spread(asking.join_all().await);
    server.stop().await;
    Ok(json!({ "every_s": EVERY_S, "median_s": median, "worst_s": worst, "comments": rounds }))
}

/// Milliseconds to the comment, beside those of a bare request to the forge; one pull request after the other.
pub(crate) async fn delivered(program: &Path, data: &Path, rounds: u32) -> Result<Value> {
    let forge = forge(Dialect::Forgejo).await;
    let repositories = ["apps/wiki".to_owned()];
    let repo = &repositories[0];
    forge.git_repository(repo, &FILES).await;
    let mut pulls = Vec::new();
    for n in 0..=rounds {
        pulls.push(pull(&forge, repo, &format!("work-{n}")).await);
    }
    let more = "poll_s = 3600\nwebhook = { secret_file = \"hook\", register = true }";
    let listener =
        Listener { name: "coop", kind: "forgejo", forge: &forge, repositories: &repositories, more };
    let mut server = serve(program, data, &[listener]).await?;
    listens(&forge, &repositories).await;
    forge.until_within(PATIENCE, "its webhook", |forge| !forge.hooks(repo).is_empty()).await;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (mut told, mut bare) = (Vec::new(), Vec::new());
    for pull in pulls {
        let begun = Instant::now();
        http.get(format!("{}/api/v1/version", forge.url())).send().await?.error_for_status()?.bytes().await?;
        bare.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        forge.say(repo, pull, "alice", "!testme");
        let answers = forge.deliver().await;
        if answers.iter().any(|status| *status != 204) {
            return Err(format!("a delivery was answered with {answers:?}").into());
        }
        forge.until_within(PATIENCE, "a comment", |forge| is_told(forge, repo, pull)).await;
        told.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    server.stop().await;
    // The first one clones the repository; every connection is new then as well.
    let (first, later) = (told[0], told.split_off(1));
    let ((median, worst), (bare, _)) = (spread(later), spread(bare));
    Ok(json!({ "median_ms": median, "worst_ms": worst, "first_ms": first, "bare_ms": bare }))
}

/// It listens from its first answer on.
async fn listens(forge: &ForgeDouble, repositories: &[String]) {
    for repo in repositories {
        let comments = format!("/repos/{repo}/issues/comments");
        forge.until_within(PATIENCE, "the first question", |forge| forge.count("GET", &comments) > 0).await;
    }
}
