//! Runs over recipes that an older version has sealed, without the rows that dashboards read: a start writes them.

use assay_engine::dispatcher;
use assay_model::event::{EventBody, RunCreated, Sealed, Target};
use assay_model::host::order::RunOptions;
use assay_model::recipe::{Rung, RungStatus};
use assay_model::{Judgement, Owner, Pipeline, RunId, RunResult, StagePlan, TargetId};
use assay_store::Changes;
use assay_testkit::{Bench, PATIENCE};
use serde_json::{Value, json};

/// A sealed run over `wiki` of two stages, of which Lint passed. Its spec may be one that nobody can read any more.
async fn sealed(bench: &Bench, spec: Value) -> RunId {
    let (store, at) = (bench.engine.store(), bench.engine.now());
    let stage =
        |name: &str| StagePlan { name: name.into(), owner: Owner::Runner, required: true, timeout_s: 60 };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Recipe,
        profile: "standard".into(),
        target: Target { id: TargetId::named(Pipeline::Recipe, "wiki"), name: "wiki".into() },
        stages: ["Lint", "Install"].into_iter().map(stage).collect(),
        spec,
        machine: None,
        macs: Vec::new(),
        power: json!({ "method": "swarm" }),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 0,
        requested_by: "ada".into(),
        harness: "0.0.9".into(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let run = RunId(uuid::Uuid::now_v7());
    store.create_run(run, at, created).await.expect("created");
    let mut events = vec![EventBody::Admitted { runner: "bench1".into() }];
    for (index, name) in ["Lint", "Install"].into_iter().enumerate() {
        let digest = bench.engine.artifacts().put(b"{}".to_vec()).await.expect("kept");
        let judgement = Judgement::from_evidence(vec![], vec![], vec![], vec![], name);
        let (stage, attempt) = (name, 1);
        events.push(EventBody::StageStarted { stage: stage.into(), index, attempt, generation: 1 });
        let received =
            EventBody::EvidenceReceived { stage: stage.into(), attempt, digest, problem: None, late: false };
        events.push(received);
        let required = true;
        events.push(EventBody::StageJudged { stage: stage.into(), index, attempt, required, judgement });
    }
    let result = Some(RunResult::Pass);
    events.push(EventBody::RunCompleted { result });
    append(bench, run, events).await;
    let head = store.journal(run).await.expect("read").last().expect("events").hash;
    let seal = Sealed { head, result, overridden: false, envelope: json!({}) };
    append(bench, run, vec![EventBody::Sealed(Box::new(seal))]).await;
    run
}

async fn append(bench: &Bench, run: RunId, events: Vec<EventBody>) {
    let written = Changes { events, writes: Vec::new() };
    let now = bench.engine.now();
    bench.engine.store().transact(run, now, |_| Ok::<_, String>(written)).await.expect("may happen");
}

#[tokio::test]
async fn what_an_older_version_has_sealed_comes_onto_the_dashboard_at_the_next_start() {
    let bench = Bench::new().await;
    let store = bench.engine.store();
    let mut all = Vec::new();
    for spec in [json!({ "name": "wiki" }), json!("of another time")] {
        all.push(sealed(&bench, spec).await);
    }
    assert_eq!(store.recipe_runs_without_row(0, 9).await.expect("read").len(), 2);
    let on_board = async || store.recipe_runs(9).await.expect("read");
    assert!(on_board().await.iter().all(|run| run.seen.is_none()));

    let serving = tokio::spawn(dispatcher::run(bench.engine.clone()));
    let read = async { while !store.recipe_runs_without_row(0, 9).await.expect("read").is_empty() {} };
    tokio::time::timeout(PATIENCE, read).await.expect("the start reads them");
    serving.abort();
    let rows = on_board().await;
    assert_eq!(rows.iter().map(|row| row.run.id).collect::<Vec<_>>(), [all[1], all[0]], "newest first");
    for row in &rows {
        let seen = row.seen.as_ref().expect("it has a row");
        assert_eq!(seen.rungs.len(), Rung::ALL.len());
        assert!(!seen.baseline, "nothing was kept that others could be held against");
        assert!(seen.rungs.iter().all(|rung| *rung != RungStatus::Fail), "{:?}", seen.rungs);
    }
}
