//! The queue's page and its API over a real server: what waits says why, and operators stop and start it.

use assay_engine::dispatcher;
use assay_engine::live::Offer;
use assay_model::RunState;
use reqwest::StatusCode;
use serde_json::Value;

use crate::common::Story;
use crate::{Site, location, until};

/// One machine boots at a time.
fn small() -> Offer {
    Offer { power: ["manual".to_owned()].into(), capacity: [("netboot".to_owned(), 1)].into() }
}

#[tokio::test]
async fn the_queue_is_shown_paused_and_started_again() {
    let site = Site::signed_in().await;
    let _runner = site.engine.offering("rack-2", small());
    for (name, octet) in [("web-1", 1), ("web-2", 2), ("web-3", 3)] {
        let host = Story::host(&site.engine, name, octet, "").await;
        Story::begin(&site.engine, &host, "quick", 30).await;
    }
    until(&site, 1, RunState::Booting).await;
    dispatcher::turn(&site.engine).await.expect("a turn");

    let page = site.html("/queue").await;
    for wanted in [
        "1 running · 2 waiting",
        "1st in line; needs 1 netboot, 0 free; behind run 1 (web-1, booting, ",
        "2nd in line; needs 1 netboot, 0 free; behind run 2 (web-2, waits, too)",
        "1 of 1",
        "<meter class=\"room\" min=\"0\" max=\"1\" value=\"1\">",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    // Every list of runs says the same, and a program gets it in parts.
    assert!(site.html("/runs").await.contains("1st in line; needs 1 netboot"));
    assert!(site.html("/runs/2").await.contains("1st in line; needs 1 netboot"));
    let runs: Value = site.get("/api/v1/runs").await.json().await.expect("JSON");
    let second = runs.as_array().expect("a list").iter().find(|run| run["number"] == 2).expect("there");
    assert_eq!((&second["position"], &second["state"]), (&1.into(), &"Queued".into()));
    assert!(second["starts_in_s"].as_i64().expect("told") > 0, "{second}");

    // Whoever follows it hears of its place, and of another reason when there is one.
    let mut live = site.get("/api/v1/runs/3/live").await;
    let mut heard = String::new();
    while !heard.contains("\"position\":2") {
        let chunk = live.chunk().await.expect("reads").expect("it goes on");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(heard.contains("event: waits") && heard.contains("\"cause\":\"slots\""), "{heard}");

    let answer = site.post("/queue/rule", &[("rule", "pause"), ("why", "<b>new switch")]).await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/queue"));
    dispatcher::turn(&site.engine).await.expect("a turn");
    while !heard.contains("\"cause\":\"paused\"") {
        let chunk = live.chunk().await.expect("reads").expect("it goes on");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(heard.matches("event: waits").count(), 2, "once for each: {heard}");
    drop(live);
    let page = site.html("/queue").await;
    assert!(page.contains("Paused by operator (&#60;b&#62;new switch): nothing new starts"), "{page}");
    assert!(page.contains("Let runs start again") && !page.contains("value=\"pause\""), "{page}");
    let queue: Value = site.get("/api/v1/queue").await.json().await.expect("JSON");
    assert_eq!((&queue["state"], &queue["active"]), (&"paused".into(), &1.into()));
    assert_eq!(queue["waiting"][0]["cause"], "paused");
    assert_eq!(queue["stopped"]["by"], "operator");

    let answer = site.post("/queue/rule", &[("rule", "drain")]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert!(site.html("/queue/state").await.contains("1 run to wait for"));
    assert_eq!(
        site.post("/queue/rule", &[("rule", "stop")]).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(site.post("/queue/rule", &[("rule", "resume")]).await.status(), StatusCode::SEE_OTHER);
    assert!(site.html("/queue").await.contains("value=\"pause\""));
    let trail: Value = site.get("/api/v1/audit").await.json().await.expect("JSON");
    let deeds: Vec<&str> =
        trail.as_array().expect("a list").iter().filter_map(|deed| deed["entry"]["what"].as_str()).collect();
    for wanted in ["queue paused", "queue is to be drained", "queue resumed"] {
        assert!(deeds.contains(&wanted), "{wanted}: {deeds:?}");
    }
    site.stop().await;
}
