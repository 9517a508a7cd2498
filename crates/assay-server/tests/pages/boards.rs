//! Dashboard, badges and digest over a real server: what finished runs came to is on them with the seal, whoever may look sees
//! it, and nobody else.

use assay_engine::Engine;
use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{
    Asked, Finding, Judgement, Micros, Owner, Pipeline, RunId, RunResult, Severity, Sha256, StagePlan,
    TargetId,
};
use assay_pipelines::recipe::harness::Harness;
use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::settings::Settings;
use assay_store::Changes;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::common::{Story, pass};
use crate::{HOSTILE, Site};

const STAGES: [&str; 8] =
    ["Lint", "Install", "Upgrade", "Backup", "Restore", "Custom", "Teardown", "Reporting"];

/// A run over a recipe, to be written.
struct Run<'a> {
    recipe: &'a str,
    release: &'a str,
    commit: &'a str,
    /// The id of its one image.
    image: &'a str,
    failed: Option<&'a str>,
    pull_request: Option<&'a str>,
}

const WIKI: Run<'_> = Run {
    recipe: "wiki",
    release: "1.1.0+1.27",
    commit: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    image: "sha256:1111111111111111",
    failed: None,
    pull_request: None,
};

impl Run<'_> {
    /// Writes it down as ended so many days ago, and waits for its seal.
    async fn ended(&self, engine: &Engine, days_ago: i64) -> i64 {
        let mut changes = engine.store().subscribe();
        let at = engine.now().plus(Micros::seconds(-days_ago * 86_400 - 600));
        let id = RunId(uuid::Uuid::now_v7());
        let created = engine.store().create_run(id, at, self.created()).await.expect("creates");
        let mut events = vec![EventBody::Admitted { runner: "bench1".into() }];
        for (index, stage) in STAGES.into_iter().enumerate() {
            events.push(EventBody::StageStarted { stage: stage.into(), index, attempt: 1, generation: 1 });
            let digest = keep(engine, &self.evidence(stage)).await;
            events.push(EventBody::EvidenceReceived {
                stage: stage.into(),
                attempt: 1,
                digest,
                problem: None,
                late: false,
            });
            let judgement = match self.failed {
                Some(failed) if failed == stage => {
                    let found = vec![Finding::new("CrashLoop", Severity::Critical, HOSTILE, "Look.")];
                    Judgement::from_evidence(vec![], found, vec![], vec![], HOSTILE)
                }
                _ => pass("good", "things", 1),
            };
            events.push(EventBody::StageJudged {
                stage: stage.into(),
                index,
                attempt: 1,
                required: true,
                judgement,
            });
        }
        let result = if self.failed.is_some() { RunResult::Fail } else { RunResult::Pass };
        events.push(EventBody::RunCompleted { result: Some(result) });
        let ended = at.plus(Micros::seconds(90));
        let written = Changes { events, writes: Vec::new() };
        engine.store().transact(id, ended, |_| Ok::<_, String>(written)).await.expect("may happen");
        let sealed = async {
            while !engine.view(id).await.expect("reads").status.sealed {
                drop(changes.recv().await);
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), sealed).await.expect("it is sealed");
        created.created.number
    }

    fn created(&self) -> RunCreated {
        let stage = |name: &str| StagePlan {
            name: name.into(),
            owner: if name == "Reporting" { Owner::Orchestrator } else { Owner::Runner },
            required: true,
            timeout_s: 60,
        };
        let harness = Harness { version: "0.1.0".to_owned(), sha256: Some(Sha256::of(b"assay")) };
        let asked = Asked { pull_request: self.pull_request.map(str::to_owned), ..Asked::default() };
        RunCreated {
            number: 0,
            pipeline: Pipeline::Recipe,
            profile: "standard".into(),
            target: Target { id: TargetId::named(Pipeline::Recipe, self.recipe), name: self.recipe.into() },
            stages: STAGES.into_iter().map(stage).collect(),
            spec: json!({
                "name": self.recipe, "folder": format!("/recipes/{}", self.recipe), "settings": Settings::default(),
                "manifest": Manifest::of(&Customisation::default(), &Redactor::default()), "seed": 7,
                "harness": harness,
            }),
            machine: None,
            macs: Vec::new(),
            power: json!({ "method": "swarm", "needs": { "swarm": 1 } }),
            holds: false,
            hold_s: 0,
            boot_timeout_s: 0,
            requested_by: "ada".into(),
            harness: "0.1.0".into(),
            muted: Vec::new(),
            options: RunOptions { asked, ..RunOptions::default() },
        }
    }

    fn evidence(&self, stage: &str) -> Value {
        let version = json!({ "release": self.release, "commit": self.commit });
        match stage {
            "Lint" => json!({ "how": "done", "what": { "version": version, "bases": [], "report": null } }),
            "Install" => json!({ "how": "done", "what": {
                "version": version, "domain": "wiki.test", "stack": "wiki", "services": [], "phases": [],
                "outcome": { "how": "converged", "still_running": [] },
                "images": [{ "reference": "nginx:1.27", "id": self.image, "from": "archive" }],
            } }),
            _ => json!({}),
        }
    }
}

async fn keep(engine: &Engine, evidence: &Value) -> Sha256 {
    let content = evidence.to_string().into_bytes();
    let digest = Sha256::of(&content);
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(content))]);
    engine.artifacts().put_stream(stream, 1 << 20, Some(digest)).await.expect("stores").0
}

async fn json(site: &Site, path: &str) -> Value {
    let answer = site.get(path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.expect("JSON")
}

#[tokio::test]
async fn a_recipe_stands_on_the_dashboard_as_its_last_whole_run() {
    let site = Site::signed_in().await;
    assert!(site.html("/dashboard").await.contains("No recipe was tested yet"));
    WIKI.ended(&site.engine, 3).await;
    let red = Run {
        failed: Some("Upgrade"),
        commit: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        release: "1.2.0+1.28",
        ..WIKI
    };
    let second = red.ended(&site.engine, 2).await;
    // Somebody's pull request repairs it; that is not the recipe yet.
    Run { pull_request: Some("git.example.org/apps/wiki#1"), ..WIKI }.ended(&site.engine, 1).await;
    Run { recipe: "blog", ..WIKI }.ended(&site.engine, 1).await;

    let board = json(&site, "/api/v1/dashboard").await;
    let wiki = &board["recipes"][1];
    assert_eq!((&board["recipes"][0]["name"], &wiki["name"]), (&json!("blog"), &json!("wiki")));
    let standing = &wiki["standing"];
    assert_eq!((&standing["run"], &standing["level"]), (&json!(second), &json!(1)));
    assert_eq!(standing["rungs"], json!(["pass", "fail", "pass", "pass", "pass"]));
    assert_eq!((&standing["code"], &standing["version"]), (&json!("CrashLoop"), &json!("1.2.0+1.28")));
    assert_eq!((&standing["seconds"], &standing["pull_request"]), (&json!(0.0), &Value::Null));
    assert_eq!(wiki["last_green"]["number"], 3, "a green run of the whole is one, whoever asked for it");
    assert_eq!(wiki["runs"].as_array().map(Vec::len), Some(3));

    let page = site.html("/dashboard").await;
    for part in [
        "CrashLoop at Upgrade",
        "<strong>1</strong> of 5",
        "levels, oldest first: 5, 1 (failed), 5",
        "1 at level 5 · 1 at level 1",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("<a href=\"/dashboard\" aria-current=\"page\">Dashboard</a>"), "{page}");
    assert!(
        page.find("/recipes/wiki").expect("there") < page.find("/recipes/blog").expect("there"),
        "red first"
    );
    let one = site.html("/dashboard/state?q=blo").await;
    assert!(
        one.contains("/recipes/blog") && !one.contains("/recipes/wiki") && !one.contains("<html"),
        "{one}"
    );
    site.stop().await;
}

#[tokio::test]
async fn badges_are_for_those_who_may_look_and_say_unknown_of_what_is_not_known() {
    let site = Site::signed_in().await;
    WIKI.ended(&site.engine, 3).await;
    let commit = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    Run { failed: Some("Install"), commit, release: "1.2.0+1.28", ..WIKI }.ended(&site.engine, 2).await;

    let told = async |path: &str| {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "image/svg+xml; charset=utf-8");
        assert_eq!(answer.headers()[CACHE_CONTROL], "private, max-age=60");
        let svg = answer.text().await.expect("text");
        assert!(svg.contains("role=\"img\"") && svg.contains("<title>"), "{svg}");
        crate::between(&svg, "<title>", "</title>").to_owned()
    };
    assert!(
        told("/badge/recipe/wiki.svg").await.starts_with("wiki 1.2.0+1.28: level 0 of 5 (install fail, ")
    );
    let old = "wiki 1.1.0+1.27: level 5 of 5 (install pass, upgrade pass, backup pass, functional pass, lint pass), run 1, ";
    for of in ["1.1.0%2B1.27", "1.1.0+1.27", "aaaaaaa", WIKI.commit] {
        let title = told(&format!("/badge/recipe/wiki.svg?ref={of}")).await;
        assert!(title.starts_with(old), "{of}: {title}");
    }
    for of in [
        "wiki.svg?ref=9.9.9",
        "wiki.svg?ref=cccccccc",
        "wiki.svg?ref=aaaa%25",
        "nobody.svg",
        "%3Cscript%3E.svg",
    ] {
        let title = told(&format!("/badge/recipe/{of}")).await;
        assert!(
            title.ends_with("no whole run of it came to a verdict") && !title.contains("<script"),
            "{of}: {title}"
        );
    }
    let answer = site.get("/badge/recipe/wiki.svg").await;
    let tag = answer.headers()[ETAG].clone();
    let again =
        site.send(site.client.get(site.url("/badge/recipe/wiki.svg")).header(IF_NONE_MATCH, tag)).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(site.get("/badge/recipe/wiki.png").await.status(), StatusCode::NOT_FOUND);

    // Nobody who has not signed in learns even whether there is such a recipe.
    for path in
        ["/badge/recipe/wiki.svg", "/badge/recipe/nobody.svg", "/digest.atom", "/digest.md", "/api/v1/digest"]
    {
        let answer = site.client.get(site.url(path)).send().await.expect("answers");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/dashboard", "/digest"] {
        let answer = site.client.get(site.url(path)).send().await.expect("answers");
        assert_eq!(crate::location(&answer), format!("/login?next=%2F{}", &path[1..]));
    }
    site.stop().await;
}

#[tokio::test]
async fn a_public_badge_is_everybodys_and_nothing_else_is() {
    let site = Site::with_public_badges().await;
    WIKI.ended(&site.engine, 3).await;
    let answer = site.client.get(site.url("/badge/recipe/wiki.svg")).send().await.expect("answers");
    assert_eq!(
        (answer.status(), &answer.headers()[CACHE_CONTROL]),
        (StatusCode::OK, &"public, max-age=300".parse().expect("a header"))
    );
    assert!(answer.headers().get("set-cookie").is_none());
    assert!(answer.text().await.expect("text").contains("level 5: proven"));
    for path in ["/api/v1/dashboard", "/api/v1/recipes"] {
        let answer = site.client.get(site.url(path)).header(ACCEPT, "*/*").send().await.expect("answers");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_week_is_told_as_a_page_as_markdown_as_json_and_as_a_feed() {
    let site = Site::signed_in().await;
    let now = site.engine.now();
    let week = assay_model::digest::Week::of(now).before();
    let days = |at: Micros| now.since(at).0 / 86_400_000_000;
    // In the week before, whatever day it is: on its Tuesday and on its Thursday.
    let (thursday, tuesday) = (days(week.start()) - 3, days(week.start()) - 1);
    WIKI.ended(&site.engine, tuesday + 7).await;
    let moved = Run { image: "sha256:abababababababab", ..WIKI };
    moved.ended(&site.engine, tuesday).await;
    let red = Run { failed: Some("Custom"), ..moved }.ended(&site.engine, thursday).await;
    // Now: a machine that is held, and a queue that somebody has paused.
    let host = Story::host(&site.engine, "node7", 1, "").await;
    let mut held = Story::begin(&site.engine, &host, "standard", 600).await;
    held.boots().await;
    held.stage(0, 1, 12, crate::common::dimm_missing("X")).await;
    held.held().await;
    assert_eq!(
        site.post("/queue/rule", &[("rule", "pause"), ("why", HOSTILE)]).await.status(),
        StatusCode::SEE_OTHER
    );

    let path = format!("/api/v1/digest?week={week}");
    let digest = json(&site, &path).await;
    assert_eq!((&digest["week"], &digest["unfinished"]), (&json!(week.to_string()), &json!(false)));
    assert_eq!(digest["proven"][0]["passed"], 1);
    assert_eq!(
        (&digest["went_red"][0]["run"], &digest["went_red"][0]["code"]),
        (&json!(red), &json!("CrashLoop"))
    );
    assert_eq!(
        (&digest["drifted"][0]["reference"], &digest["drifted"][0]["red"]),
        (&json!("nginx:1.27"), &json!(false))
    );
    assert_eq!((&digest["flaky"][0]["what"], &digest["flaky"][0]["run"]), (&json!("Custom"), &json!(red)));
    assert_eq!(digest["waiting"], json!([]), "what waits now did not wait then");

    let markdown = site.get(&format!("/digest.md?week={week}")).await;
    assert_eq!(markdown.headers()[CONTENT_TYPE], "text/markdown; charset=utf-8");
    let markdown = markdown.text().await.expect("text");
    let line = format!("- `wiki` (recipe): `CrashLoop` at `Custom`, run {red}, red since ");
    assert!(markdown.contains(&line), "{markdown}");
    let page = site.html(&format!("/digest?week={week}")).await;
    assert!(
        page.contains(&format!("<a href=\"/runs/{red}\">run {red}</a>"))
            && page.contains("<code>CrashLoop</code>"),
        "{page}"
    );
    let feed = site.get("/digest.atom").await;
    assert_eq!(feed.headers()[CONTENT_TYPE], "application/atom+xml; charset=utf-8");
    let feed = atom_syndication::Feed::read_from(feed.bytes().await.expect("read").as_ref()).expect("a feed");
    assert_eq!(
        feed.entries()[0].title().as_str(),
        assay_model::digest::Digest::title(&serde_json::from_value(digest.clone()).expect("it reads"))
    );
    assert!(feed.entries()[0].links()[0].href().starts_with(&site.base), "{:?}", feed.entries()[0].links());

    // A feed reader sends neither session nor token: it gets an address with a secret, which opens nothing else.
    let stranger = async |path: &str| {
        let answer = reqwest::Client::new().get(site.url(path)).header(ACCEPT, "*/*").send().await;
        answer.expect("answers").status()
    };
    assert_eq!(stranger("/digest.atom").await, StatusCode::UNAUTHORIZED);
    assert_eq!(stranger("/digest.atom?key=").await, StatusCode::UNAUTHORIZED, "there is no such address");
    let made = async || {
        let csrf = site.csrf().await;
        let made = site.client.post(site.url("/api/v1/digest/feed")).header("x-csrf-token", csrf);
        let made = site.send(made).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let made: Value = made.json().await.expect("JSON");
        made["path"].as_str().expect("a path").to_owned()
    };
    let first = made().await;
    assert_eq!(stranger(&first).await, StatusCode::OK);
    let query = first.split_once('?').expect("a key").1;
    for path in ["/digest.md", "/api/v1/digest", "/api/v1/dashboard"] {
        assert_eq!(stranger(&format!("{path}?{query}")).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    let second = made().await;
    assert_eq!((stranger(&first).await, stranger(&second).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    let csrf = site.csrf().await;
    let revoked = site.client.delete(site.url("/api/v1/digest/feed")).header("x-csrf-token", csrf);
    assert_eq!(site.send(revoked).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stranger(&second).await, StatusCode::UNAUTHORIZED);

    // This week: not over, and it says what waits.
    let page = site.html("/digest").await;
    for part in ["The week is not over", "is held after it failed at", "The queue is paused since", "node7"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{page}");
    // Decided, and started again: the week before stays what it was.
    let decide = format!("/runs/{}/decide", held.number);
    assert_eq!(site.post(&decide, &[("kind", "abandon")]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(site.post("/queue/rule", &[("rule", "resume")]).await.status(), StatusCode::SEE_OTHER);
    assert!(site.html("/digest").await.contains("Nothing waits for anybody."));
    assert_eq!(json(&site, &path).await, digest);
    for wrong in ["2026", "2999-W01"] {
        assert_eq!(
            site.get(&format!("/digest?week={wrong}")).await.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{wrong}"
        );
    }
    assert_eq!(site.get("/digest?week=").await.status(), StatusCode::OK);
    site.stop().await;
}
