//! What agents send: late, stale, twice, broken, hostile.

use assay_engine::EngineError;
use assay_engine::agents::Todo;
use assay_model::view::AttemptOutcome;
use assay_model::{Micros, RunState, Sha256, StageName, Verdict, journal};
use assay_testkit::{Bench, canned};
use serde_json::json;

use crate::story;

#[tokio::test]
async fn evidence_of_a_closed_attempt_is_kept_and_changes_nothing() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the first stage") };
    // Silent, switched off and on, never back: the stage has failed, and then the old boot's evidence comes.
    bench.after(120).await;
    bench.power(run, true).await;
    bench.after(600).await;
    let before = bench.view(run).await;
    assert!(matches!(before.stages[0].attempts[0].outcome, AttemptOutcome::Judged(_)));

    let evidence = canned::evidence("Inventory");
    for _ in 0..2 {
        // Said again because the answer was lost: it is in the journal once.
        let late = bench.result(&agent, "Inventory", attempt, generation, &evidence).await.expect("kept");
        assert!(late);
    }
    bench.turn().await;
    let after = bench.check(run).await;
    assert_eq!((after.status, &after.stages), (before.status, &before.stages));
    let lines = bench.lines(run).await;
    assert_eq!(lines.iter().filter(|l| *l == "EvidenceReceived Inventory 1, late").count(), 1, "{lines:#?}");
    let bytes = serde_json::to_vec(&evidence).expect("plain");
    assert!(bench.engine.artifacts().exists(Sha256::of(&bytes)).await.expect("asked"));
}

#[tokio::test]
async fn a_stale_generation_cannot_close_an_attempt() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the first stage") };
    let evidence = canned::evidence("Inventory");
    for wrong in [generation - 1, generation + 1, 0, i64::MAX] {
        let late =
            bench.result(&agent, "Inventory", attempt, wrong, &json!({ "from": wrong })).await.expect("kept");
        assert!(late, "generation {wrong}");
    }
    bench.turn().await;
    assert_eq!(bench.check(run).await.stages[0].attempts[0].outcome, AttemptOutcome::Open);
    bench.collect(&agent, "Inventory", &evidence).await;
    assert_eq!(bench.check(run).await.stages[0].verdict(), Some(Verdict::Pass));
}

#[tokio::test]
async fn the_first_evidence_counts_and_the_same_again_is_no_news() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the first stage") };
    let (good, other) = (canned::evidence("Inventory"), json!({"format": 1}));
    let send = |evidence| bench.result(&agent, "Inventory", attempt, generation, evidence);
    assert!(!send(&good).await.expect("taken"));
    assert!(!send(&good).await.expect("the same"));
    assert!(send(&other).await.expect("kept"), "second thoughts do not count");
    bench.turn().await;
    assert!(!send(&good).await.expect("the same, after the judgement"));
    assert_eq!(bench.check(run).await.stages[0].verdict(), Some(Verdict::Pass));
    let received =
        bench.lines(run).await.into_iter().filter(|l| l.starts_with("EvidenceReceived")).collect::<Vec<_>>();
    assert_eq!(received, ["EvidenceReceived Inventory 1", "EvidenceReceived Inventory 1, late"]);
}

#[tokio::test]
async fn evidence_for_what_was_never_asked_is_refused() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    for (stage, attempt) in [("Telepathy", 1), ("Inventory", 2), ("SMART", 1), ("Reporting", 1)] {
        let refused = bench.result(&agent, stage, attempt, 2, &json!({})).await.expect_err("never asked");
        assert!(matches!(refused, EngineError::Invalid(_)), "{stage} {attempt}: {refused:?}");
    }
    assert_eq!(bench.check(run).await.status.stage, 0);
}

#[tokio::test]
async fn evidence_of_a_wrong_type_is_an_error_and_never_a_pass() {
    let hostile = [
        json!(null),
        json!("a string"),
        json!([1, 2, 3]),
        json!({"format": 99}),
        json!({"format": "one"}),
        json!({"format": 1, "disks": "none"}),
        json!({"format": 1, "cpus": [{"cores": -1}]}),
    ];
    for evidence in hostile {
        let bench = Bench::new().await;
        let (run, agent) = bench.running().await;
        bench.collect(&agent, "Inventory", &evidence).await;
        let view = bench.check(run).await;
        assert_eq!(view.stages[0].verdict(), Some(Verdict::Error), "{evidence}");
        assert_eq!(view.state(), RunState::FailedHolding, "{evidence}");
        let message = &view.stages[0].judgement().expect("judged").message;
        assert!(message.contains("rebuild the live image"), "it says what to do: {message}");
    }
}

#[tokio::test]
async fn an_empty_inventory_is_not_a_pass() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.collect(&agent, "Inventory", &json!({"format": 1})).await;
    let view = bench.check(run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Unverified));
    assert_eq!(view.state(), RunState::FailedHolding, "a required stage must pass");
}

#[tokio::test]
async fn a_collector_s_problem_is_the_runner_s_error() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the first stage") };
    let problem = "no smartctl here \u{1b}[2J<script>".to_owned();
    let stage = StageName::from("Inventory");
    bench
        .engine
        .result(run, stage, attempt, generation, b"null".to_vec(), Some(problem))
        .await
        .expect("taken");
    bench.turn().await;
    let view = bench.check(run).await;
    let judged = view.stages[0].judgement().expect("judged");
    assert_eq!(judged.verdict, Verdict::Error);
    assert_eq!(judged.message, "no smartctl here \u{fffd}[2J<script>", "no escape sequence gets through");
}

#[tokio::test]
async fn after_the_seal_news_go_to_the_addendum() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "the end").await;
    let (sealed, _) = bench.sealed(run).await;
    let late = bench.result(&agent, "SMART", 1, 9, &json!({"late": true})).await.expect("kept");
    assert!(late);
    let stage = StageName::from("SMART");
    let digest = bench.engine.artifacts().put(b"late".to_vec()).await.expect("stored");
    bench.engine.artifact(run, stage, 1, "late.txt".to_owned(), digest, 4).await.expect("kept");
    bench.turn().await;
    let (after, _) = bench.sealed(run).await;
    assert_eq!(after, sealed, "the verdict and its journal stand");
    let addenda = bench.engine.store().addenda(run).await.expect("read");
    let kinds: Vec<_> = addenda.iter().map(|a| a.kind.as_str()).collect();
    assert_eq!(kinds, ["ReportStored@1", "LateEvidence@1", "LateArtifact@1"]);
    let head = bench.engine.store().head(run).await.expect("read").expect("there").1;
    journal::verify(run, head, &addenda).expect("the addendum hangs on the sealed head");
}

#[tokio::test]
async fn an_artifact_said_twice_is_there_once_and_a_late_one_is_marked() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let digest = bench.engine.artifacts().put(b"raw".to_vec()).await.expect("stored");
    let send = |stage: &str| {
        bench.engine.artifact(run, StageName::from(stage), 1, "inventory.json".to_owned(), digest, 3)
    };
    send("Inventory").await.expect("taken");
    send("Inventory").await.expect("the same");
    bench.up_to(&agent, "SpecValidate").await;
    send("Inventory").await.expect("the same, later");
    let other = bench.engine.artifacts().put(b"other".to_vec()).await.expect("stored");
    let stage = StageName::from("Inventory");
    bench.engine.artifact(run, stage, 1, "inventory.json".to_owned(), other, 5).await.expect("kept");
    let view = bench.check(run).await;
    let known: Vec<_> = view.artifacts.iter().map(|a| (a.digest == digest, a.late)).collect();
    assert_eq!(known, [(true, false), (false, true)]);
}

#[tokio::test]
async fn an_artifact_that_vanished_fails_the_run() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let digest = bench.engine.artifacts().put(b"raw".to_vec()).await.expect("stored");
    let stage = StageName::from("Inventory");
    bench.engine.artifact(run, stage, 1, "inventory.json".to_owned(), digest, 3).await.expect("taken");
    bench.up_to(&agent, "SMART").await;
    bench.engine.artifacts().remove(digest).await.expect("somebody deletes it");
    bench.rest(&agent).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Reporting")));
    let codes: Vec<_> = view.findings().into_iter().map(|f| f.code).collect();
    assert_eq!(codes, ["ArtifactMissing"]);
}

#[tokio::test]
async fn readings_are_bound_to_the_chain_every_minute_and_at_the_close() {
    use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let send = async |seq: i64, celsius: f64| {
        let info = SensorInfo {
            name: "coretemp/Package id 0@coretemp.0".to_owned(),
            kind: "thermal".to_owned(),
            unit: "°C".to_owned(),
            max: None,
            critical: None,
        };
        let sample = SensorSample { at: bench.engine.now(), values: vec![Some(celsius)] };
        let batch = SensorBatch { sensors: vec![info], samples: vec![sample] };
        bench.engine.sensors(run, seq, batch).await.expect("committed");
    };
    send(1, 50.0).await;
    for _ in 0..6 {
        bench.after(10).await;
        assert!(bench.heard(&agent).await);
    }
    assert_eq!(bench.check(run).await.bulk.len(), 1, "a minute has passed");
    send(2, 52.0).await;
    send(2, 99.0).await;
    bench.up_to(&agent, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    let rows: Vec<_> = view.bulk.iter().map(|b| (b.what.as_str(), b.from, b.to, b.rows)).collect();
    assert_eq!(rows, [("sensors", 1, 1, 1), ("sensors", 2, 2, 1)], "{}", story(&bench, run).await);
    assert_eq!(signed, "PASSED", "the second batch with number 2 was the same number again, and not stored");
}

#[tokio::test]
async fn a_machine_that_ran_too_hot_fails_at_the_end() {
    use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let info = SensorInfo {
        name: "coretemp/Package id 0@coretemp.0".to_owned(),
        kind: "thermal".to_owned(),
        unit: "°C".to_owned(),
        max: None,
        critical: None,
    };
    let sample = SensorSample { at: bench.engine.now(), values: vec![Some(130.0)] };
    bench
        .engine
        .sensors(run, 1, SensorBatch { sensors: vec![info], samples: vec![sample] })
        .await
        .expect("committed");
    bench.clock.advance(Micros::seconds(1));
    bench.up_to(&agent, "the end").await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Reporting")));
    assert!(view.findings().iter().any(|f| f.code == "TemperatureLimit"), "{:?}", view.findings());
}

#[tokio::test]
async fn a_credential_outlives_its_run_by_an_hour_and_no_more() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.from_on(&agent, "Inventory").await;
    assert_eq!(bench.view(run).await.state(), RunState::Completed);
    bench.after(3600).await;
    assert!(matches!(bench.todo(&agent).await, Todo::Shutdown { .. }), "it may still hear what to do");
    bench.after(1).await;
    assert!(!bench.heard(&agent).await, "and then it is nobody");
}
