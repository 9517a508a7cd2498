//! The matrix: its page, and the questions that programs ask of it, over one store.

use assay_engine::Engine;
use assay_model::compat::{Component, ComponentKind, Fingerprint};
use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{
    Finding, Judgement, Micros, Owner, Pipeline, RunId, RunResult, Severity, Sha256, StageName, StagePlan,
    Verdict,
};
use assay_store::{Changes, HostRow, ImageSeen, Write};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::common::Story;
use crate::{HOSTILE, Site};

/// A kind of machine with one board, one processor and these network controllers.
fn machine(board: &str, network: &[&str]) -> Fingerprint {
    let part = |kind, name: &str, driver: Option<&str>| Component {
        kind,
        name: name.to_owned(),
        count: 1,
        drivers: driver.into_iter().map(str::to_owned).collect(),
    };
    let mut components =
        vec![part(ComponentKind::Board, board, None), part(ComponentKind::Processor, "Xeon", None)];
    components.extend(network.iter().map(|id| part(ComponentKind::Network, id, Some("igb"))));
    Fingerprint { components }
}

/// A finished run of `my` on a host, so many days ago. What code it failed with, if it failed.
async fn ran(
    engine: &Engine,
    host: &HostRow,
    machine: &Fingerprint,
    image: &[u8],
    failed: Option<&str>,
    days_ago: i64,
) -> i64 {
    let stage = |name: &str, owner| StagePlan { name: name.into(), owner, required: true, timeout_s: 60 };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Image,
        profile: "standard".into(),
        target: Target { id: host.id.into(), name: host.name.clone() },
        stages: vec![stage("Boot", Owner::Runner)],
        spec: json!({ "image": "/images/my.iso", "profile": { "name": "my" } }),
        machine: Some(json!({ "format": 1 })),
        macs: host.macs.clone(),
        power: host.power.clone(),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 600,
        requested_by: "ada".into(),
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let at = engine.now().plus(Micros::seconds(-days_ago * 86_400 - 60));
    let id = RunId(uuid::Uuid::now_v7());
    let number = engine.store().create_run(id, at, created).await.expect("creates").created.number;
    let (verdict, result) = match failed {
        None => (Verdict::Pass, RunResult::Pass),
        Some(_) => (Verdict::Fail, RunResult::Fail),
    };
    let findings = failed.iter().map(|code| Finding::new(code, Severity::Critical, "m", "n")).collect();
    let judgement = Judgement { verdict, findings, ..Judgement::error("as told") };
    let boot = || StageName::from("Boot");
    let events = vec![
        EventBody::Admitted { runner: "rack7".into() },
        EventBody::StageStarted { stage: boot(), index: 0, attempt: 1, generation: 1 },
        EventBody::StageJudged { stage: boot(), index: 0, attempt: 1, required: true, judgement },
        EventBody::RunCompleted { result: Some(result) },
    ];
    let digest = Sha256::of(image);
    let writes = vec![
        Write::Image(ImageSeen { digest, bytes: 4096, volume: Some(HOSTILE.to_owned()), whole: true }),
        Write::Machine(Ok(machine.clone())),
    ];
    let changes = Changes { events, writes };
    let done = engine.store().transact(id, at, |_| Ok::<_, String>(changes)).await;
    done.expect("may happen");
    number
}

async fn json(site: &Site, path: &str) -> Value {
    let answer = site.get(path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.expect("JSON")
}

/// The text of a page, without its markup.
fn words(html: &str) -> String {
    let mut out = String::new();
    let mut in_tag = false;
    for c in html.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                out.push(' ');
            }
            c if !in_tag => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn every_cell_says_in_words_what_is_known_and_leads_to_its_run() {
    let site = Site::signed_in().await;
    let page = site.html("/matrix").await;
    assert!(page.contains("No image was tried on a machine yet") && page.contains("--on HOST"), "{page}");
    assert!(page.contains("<a href=\"/matrix\" aria-current=\"page\">Matrix</a>"), "{page}");

    let one = Story::host(&site.engine, "web-1", 1, "").await;
    let two = Story::host(&site.engine, "web-2", 2, "").await;
    Story::host(&site.engine, "web-9", 9, "").await;
    let (here, there) = (machine("X11SSH-F", &["8086:1533"]), machine(HOSTILE, &["8086:1533", "15b3:1017"]));
    let old = ran(&site.engine, &one, &here, b"old", None, 100).await;
    let good = ran(&site.engine, &one, &here, b"new", None, 3).await;
    let bad = ran(&site.engine, &two, &there, b"new", Some("KernelPanic"), 0).await;
    assert_eq!((old, good, bad), (1, 2, 3));

    let page = site.html("/matrix").await;
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{page}");
    let text = words(&page);
    for part in [
        "Whole machines",
        "Boards",
        "Processors",
        "Network",
        // The newest image first; the board that has seen both; the network controller that two machines share.
        "X11SSH-F web-1 Works 3 days ago, run 2 Works, stale 100 days ago, run 1",
        "Xeon web-1 , web-2 Mixed today, run 3 Works, stale 100 days ago, run 1",
        "15b3:1017 driver igb web-2 Fails today, run 3 Unknown",
        "web-9 : no run has taken an inventory of it",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(page.contains("<a href=\"/runs/3\" title=\"run 3 on web-2: fail (KernelPanic)\">"), "{page}");
    assert!(page.contains("<a href=\"/hosts/web-2\">web-2</a>"), "{page}");
    assert!(page.contains("data-label=\"my "), "a phone shows no heading over a cell");

    let text = words(&site.html("/matrix?kind=network&component=15b3&max_age_days=200").await);
    assert!(
        text.contains("15b3:1017") && !text.contains("8086:1533") && !text.contains("stale 100"),
        "{text}"
    );
    let text = words(&site.html("/matrix?image=nothing-like-it").await);
    assert!(text.contains("Nothing is like that."), "{text}");
    assert_eq!(site.get("/matrix?kind=disk").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.get("/matrix?max_age_days=0").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    site.stop().await;
}

#[tokio::test]
async fn programs_are_told_the_same() {
    let site = Site::signed_in().await;
    let one = Story::host(&site.engine, "web-1", 1, "").await;
    let two = Story::host(&site.engine, "web-2", 2, "").await;
    let (here, there) = (machine("b1", &["n1"]), machine("b2", &["n1"]));
    ran(&site.engine, &one, &here, b"old", None, 100).await;
    ran(&site.engine, &one, &here, b"new", None, 3).await;
    ran(&site.engine, &two, &there, b"old", Some("KernelPanic"), 5).await;

    let matrix = json(&site, "/api/v1/matrix").await;
    assert_eq!(matrix["max_age_days"], 90);
    let rows = matrix["rows"].as_array().expect("rows");
    let row = |kind: &str, name: &str| {
        rows.iter().find(|row| row["kind"] == kind && row["name"] == name).expect("a row").clone()
    };
    let states = |row: &Value| -> Vec<Value> {
        row["cells"].as_array().expect("cells").iter().map(|cell| cell["state"].clone()).collect()
    };
    assert_eq!(states(&row("network", "n1")), ["works", "mixed"]);
    assert_eq!(states(&row("board", "b2")), ["unknown", "fails"]);
    let unknown = &row("board", "b2")["cells"][0];
    assert_eq!(
        (&unknown["run"], &unknown["runs"], &unknown["age_days"]),
        (&json!(null), &json!(0), &json!(null))
    );
    assert_eq!(row("board", "b2")["cells"][1]["evidence"][0]["codes"], json!(["KernelPanic"]));
    let one_row = json(&site, "/api/v1/matrix?kind=machine&component=web-2").await;
    assert_eq!(one_row["rows"].as_array().map(Vec::len), Some(1));

    let check = json(&site, "/api/v1/matrix/check?host=web-1&image=my").await;
    assert_eq!((&check["answer"], &check["next_step"]), (&json!("works"), &json!(null)));
    let check = json(&site, "/api/v1/matrix/check?host=web-1&image=my&max_age_days=1").await;
    assert_eq!((&check["answer"], &check["cell"]["stale"]), (&json!("not_known"), &json!(true)));
    // The newest of that name was never on web-2, and the one before it failed there.
    let check = json(&site, "/api/v1/matrix/check?host=web-2&image=my").await;
    assert_eq!((&check["answer"], &check["cell"]["state"]), (&json!("not_known"), &json!("unknown")));
    assert_eq!(check["parts"][2]["cell"]["state"], "works", "{check}");
    assert!(check["next_step"].as_str().expect("told").contains("--on web-2"), "{check}");
    let old = Sha256::of(b"old");
    let check = json(&site, &format!("/api/v1/matrix/check?host=web-2&image={old}")).await;
    assert_eq!(check["answer"], "fails");
    for (path, status) in [
        ("/api/v1/matrix/check?host=web-7&image=my", StatusCode::NOT_FOUND),
        ("/api/v1/matrix/check?host=web-1&image=your", StatusCode::NOT_FOUND),
        ("/api/v1/matrix/check?host=web-1&image=my&max_age_days=x", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(site.get(path).await.status(), status, "{path}");
    }

    let due = json(&site, "/api/v1/matrix/due").await;
    let due = due["due"].as_array().expect("a list");
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!((&due[0]["reason"], &due[0]["hosts"]), (&json!("image_changed"), &json!(["web-2"])));
    assert_eq!(due[0]["next_step"], "assay image test FILE --profile PROFILE --on web-2");
    let due = json(&site, "/api/v1/matrix/due?max_age_days=2").await;
    assert_eq!(due["due"].as_array().map(Vec::len), Some(2), "{due}");
    site.stop().await;
}
