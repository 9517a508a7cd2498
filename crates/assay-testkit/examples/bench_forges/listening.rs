//! Five hundred repositories on each of two forges, one of either dialect, listened to by one control plane for a share of an
//! hour from its start on. In some of them people talk, so that these are asked more often and the others come by with the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use assay_testkit::ForgeDouble;
use assay_testkit::forge::{Asked, Dialect};
use serde_json::{Value, json};

use crate::{Listener, Result, forge, serve, spread};

const REPOSITORIES: usize = 500;
/// In so many of them something is said.
const HOT: usize = 10;
const MINUTE: Duration = Duration::from_mins(1);

pub(crate) async fn measure(program: &Path, data: &Path, seconds: u32) -> Result<Value> {
    let repositories: Vec<String> = (0..REPOSITORIES).map(|n| format!("apps/app-{n:03}")).collect();
    let forges = [forge(Dialect::Forgejo).await, forge(Dialect::GitHub).await];
    for forge in &forges {
        for repo in &repositories {
            forge.repository(repo);
        }
    }
    // What github.com grants to a token in an hour.
    forges[1].grant(5000);
    let listener = |name, kind, forge| Listener { name, kind, forge, repositories: &repositories, more: "" };
    let listeners = [listener("coop", "forgejo", &forges[0]), listener("hub", "github", &forges[1])];
    let mut server = serve(program, data, &listeners).await?;
    let begun = Instant::now();
    for forge in &forges {
        let issues: Vec<_> = repositories[..HOT].iter().map(|repo| (repo, forge.open_issue(repo))).collect();
        for (repo, issue) in issues {
            let comments = format!("/repos/{repo}/issues/comments");
            let asked = |forge: &ForgeDouble| forge.count("GET", &comments) > 0;
            forge.until("the first question", asked).await;
            forge.say(repo, issue, "bob", "just talking");
        }
    }
    tokio::time::sleep(Duration::from_secs(seconds.into()).saturating_sub(begun.elapsed())).await;
    let ended = Instant::now();
    let told = forges.each_ref().map(|forge| tell(&forge.asked(), &repositories, begun, ended));
    let shown: Value = server.api().get("/api/v1/forges").await.json();
    let every: Vec<Value> =
        shown["forges"].as_array().into_iter().flatten().map(|forge| forge["every_s"].clone()).collect();
    server.stop().await;
    let [forgejo, github] = told;
    Ok(json!({
        "repositories": REPOSITORIES, "hot": HOT, "seconds": seconds, "every_s": every, "forgejo": forgejo, "github": github,
    }))
}

/// What was asked between two moments, and how long a repository was left alone at most. A repository that was left alone
/// since before or until after counts with the part of that which was seen.
fn tell(asked: &[Asked], repositories: &[String], begun: Instant, ended: Instant) -> Value {
    let within: Vec<&Asked> = asked.iter().filter(|asked| asked.at >= begun && asked.at < ended).collect();
    let hours = ended.duration_since(begun).as_secs_f64() / 3600.0;
    // What is unchanged is not counted. The first questions to a repository are, so that the beginning says nothing of the hour:
    // the later half of what was seen is taken for the rest of it.
    let counted_from = |from: Instant| {
        within.iter().filter(|asked| asked.at >= from && asked.status != Some(304)).count() as f64
    };
    let (counted, later) = (counted_from(begun), counted_from(begun + ended.duration_since(begun) / 2));
    let counted_in_an_hour = counted + later * 2.0 * (1.0 - hours).max(0.0) / hours;
    let refused = within.iter().filter(|asked| !matches!(asked.status, Some(200 | 304))).count();
    let mut minute = std::collections::VecDeque::new();
    let mut busiest = 0;
    for asked in &within {
        minute.push_back(asked.at);
        while minute.front().is_some_and(|at| asked.at.duration_since(*at) >= MINUTE) {
            minute.pop_front();
        }
        busiest = busiest.max(minute.len());
    }
    let mut looks: BTreeMap<&str, Vec<Instant>> = BTreeMap::new();
    for asked in within {
        let repo = asked.path.strip_prefix("/repos/").and_then(|rest| rest.split_once("/issues/comments"));
        if let Some((repo, _)) = repo {
            looks.entry(repo).or_default().push(asked.at);
        }
    }
    let gaps = repositories.iter().map(|repo| {
        let of = looks.get(repo.as_str()).into_iter().flatten().copied();
        let moments: Vec<Instant> = std::iter::once(begun).chain(of).chain([ended]).collect();
        let longest = moments.windows(2).map(|two| two[1].duration_since(two[0])).max();
        longest.unwrap_or_default().as_secs_f64()
    });
    let (gap, longest) = spread(gaps.collect());
    let asked: usize = looks.values().map(Vec::len).sum();
    json!({
        "asked_per_hour": asked as f64 / hours, "counted": counted, "counted_in_an_hour": counted_in_an_hour, "busiest_minute": busiest,
        "refused": refused, "never": repositories.len() - looks.len(),
        "longest_s": longest, "median_longest_s": gap,
    })
}
