//! Schedules and batches over a real server: planned, begun, stopped and gone on with; written, run out of turn and forgotten.

use assay_model::RunState;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::common::Story;
use crate::{Site, location};

const NO_CLUSTER: &str = "format: 1\ncluster: none\n";

/// Until there is a run of this number; every commit is heard of.
async fn begun(site: &Site, number: i64) {
    let mut changes = site.engine.store().subscribe();
    let there = async {
        while site.engine.store().run_id(number).await.expect("reads").is_none() {
            let _ = changes.recv().await;
        }
    };
    tokio::time::timeout(assay_testkit::PATIENCE, there).await.expect("the scheduler begins it");
}

#[tokio::test]
async fn the_fleet_is_vetted_some_at_a_time_and_stopped_and_gone_on_with() {
    let site = Site::signed_in().await;
    assert!(!site.html("/").await.contains("Vet the fleet"), "there is none");
    for (name, octet, spec) in [("web-1", 1, NO_CLUSTER), ("web-2", 2, NO_CLUSTER), ("web-3", 3, "")] {
        Story::host(&site.engine, name, octet, spec).await;
    }
    assert!(site.html("/").await.contains("/batches#fleet-form"));
    assert!(site.html("/batches").await.contains("Show the plan"));
    let plan = site.html("/batches/plan?profile=quick&at_most=1&stop_after=3&labels=&kinds=").await;
    for wanted in [
        "Vet all hosts (quick)",
        "1 at once, stops after 3 failures",
        "2 machines, 1 left out",
        "the spec says nothing of a cluster (ClusterUndeclared)",
        "Begin</button>",
    ] {
        assert!(
            plan.contains(wanted) || plan.contains(&wanted.replacen("the spec", "The spec", 1)),
            "{wanted}: {plan}"
        );
    }
    let unknown = site.get("/batches/plan?labels=rack7").await;
    assert_eq!(unknown.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unknown.text().await.expect("text").contains("There is no label `rack7`"));

    let fields = [("profile", "quick"), ("at_most", "1"), ("stop_after", "3"), ("labels", ""), ("kinds", "")];
    let answer = site.post("/batches", &fields).await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/batches/1"));
    begun(&site, 1).await;
    let page = site.html("/batches/1").await;
    for wanted in
        ["0 of 2, 1 under way, 1 left out", "/runs/1", "Under way", "Waits", "value=\"stop\"", "/hosts/web-2"]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let batch: Value = site.get("/api/v1/batches/1").await.json().await.expect("JSON");
    assert_eq!((&batch["state"], &batch["asked_by"]), (&"running".into(), &"operator".into()));
    assert_eq!(batch["counts"]["under_way"], 1);
    let first = &batch["targets"][0];
    assert_eq!(
        (&first["name"], &first["stand"], &first["state"]),
        (&"web-1".into(), &"under_way".into(), &"Queued".into())
    );
    let run: Value = site.get("/api/v1/runs/1").await.json().await.expect("JSON");
    assert_eq!(run["summary"]["profile"], "quick");

    let answer = site.post("/batches/1/rule", &[("rule", "stop"), ("why", "<b>the power is going")]).await;
    assert_eq!(location(&answer), "/batches/1");
    let page = site.html("/batches/1/state").await;
    assert!(page.contains("Stopped by operator: &#60;b&#62;the power is going."), "{page}");
    assert!(site.html("/batches").await.contains("Stopped"));
    assert_eq!(site.post("/batches/1/rule", &[("rule", "stop")]).await.status(), StatusCode::CONFLICT);
    assert_eq!(
        site.post("/batches/1/rule", &[("rule", "halt")]).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(location(&site.post("/batches/1/rule", &[("rule", "resume")]).await), "/batches/1");
    assert_eq!(location(&site.post("/runs/1/decide", &[("kind", "cancel")]).await), "/runs/1");
    begun(&site, 2).await;
    crate::until(&site, 1, RunState::Cancelled).await;
    assert!(site.html("/batches/1").await.contains("1 of 2, 1 under way, 1 cancelled, 1 left out"));
    assert_eq!(site.get("/batches/7").await.status(), StatusCode::NOT_FOUND);
    let trail: Value = site.get("/api/v1/audit").await.json().await.expect("JSON");
    let deeds: Vec<&str> =
        trail.as_array().expect("a list").iter().filter_map(|deed| deed["entry"]["what"].as_str()).collect();
    assert!(deeds.contains(&"POST /batches") && deeds.contains(&"POST /batches/1/rule"), "{deeds:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_schedule_is_written_shown_run_out_of_turn_rested_and_forgotten() {
    let site = Site::signed_in().await;
    Story::host(&site.engine, "db-1", 1, NO_CLUSTER).await;
    Story::host(&site.engine, "db-2", 2, NO_CLUSTER).await;
    let label = site.client.put(site.url("/api/v1/hosts/db-2/labels")).json(&json!({ "labels": ["rack7"] }));
    let page = site.html("/hosts/new").await;
    let csrf = crate::between(&page, "name=\"csrf\" value=\"", "\"").to_owned();
    let host: Value = site.send(label.header("x-csrf-token", &csrf)).await.json().await.expect("JSON");
    assert_eq!(host["labels"], json!(["rack7"]));

    assert!(site.html("/schedules").await.contains("None yet"));
    let fields = |cron, zone| {
        [
            ("name", "rack"),
            ("cron", cron),
            ("zone", zone),
            ("what", "hosts"),
            ("labels", "rack7"),
            ("profile", "quick"),
        ]
    };
    for (cron, zone, why) in
        [("0 3 * *", "UTC", "write five fields"), ("0 3 * * *", "Mars", "There is no time zone `Mars`")]
    {
        let answer = site.post("/schedules", &fields(cron, zone)).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = answer.text().await.expect("text");
        assert!(page.contains(why), "{page}");
    }
    let answer = site.post("/schedules", &fields("0 3 * * 1-5", "Europe/Berlin")).await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/schedules/rack"));
    let page = site.html("/schedules/rack").await;
    for wanted in [
        "Vet those labelled rack7 (quick)",
        "1 at once, stops after 2 failures",
        "0 3 * * 1-5 Europe/Berlin",
        "None yet",
        "value=\"pause\"",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let schedule: Value = site.get("/api/v1/schedules/rack").await.json().await.expect("JSON");
    assert_eq!(schedule["next"].as_array().map(Vec::len), Some(5));
    assert!(schedule["next"][0]["shown"].as_str().is_some_and(|shown| shown.contains("03:0")), "{schedule}");
    assert_eq!(site.post("/schedules", &fields("0 4 * * *", "UTC")).await.status(), StatusCode::CONFLICT);

    let answer = site.post("/schedules/rack/rule", &[("rule", "run")]).await;
    assert_eq!(location(&answer), "/batches/1");
    begun(&site, 1).await;
    assert!(site.html("/batches/1").await.contains("schedule rack"));
    let page = site.html("/schedules/rack").await;
    assert!(page.contains("Out of turn") && page.contains("asked for by operator; 1 target"), "{page}");
    assert!(site.html("/queue").await.contains("schedule rack"), "who asks stands in the queue");

    assert_eq!(location(&site.post("/schedules/rack/rule", &[("rule", "pause")]).await), "/schedules/rack");
    let page = site.html("/schedules").await;
    assert!(page.contains("Paused") && page.contains("Batch 1"), "{page}");
    site.post("/schedules/rack/rule", &[("rule", "resume")]).await;
    assert!(site.html("/schedules/rack").await.contains("value=\"pause\""));
    assert_eq!(location(&site.post("/schedules/rack/rule", &[("rule", "remove")]).await), "/schedules");
    assert_eq!(site.get("/schedules/rack").await.status(), StatusCode::NOT_FOUND);
    assert!(site.html("/batches").await.contains("Batch 1"), "its batches stay");
    site.stop().await;
}
