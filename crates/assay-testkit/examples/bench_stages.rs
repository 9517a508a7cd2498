//! How long it takes from the end of a stage to the start of the next one.
//!
//! Run by `cargo xtask bench`, which knows the goal. The real engine over SQLite on disk, its
//! dispatcher's loop and the system's clock; only the machine is canned. The time begins when the
//! commit of a stage's evidence is told, and ends when the commit of the next stage's start is: the
//! evidence is read back and judged in between, and the verdict is committed.
//!
//! Prints one JSON object on stdout, times in milliseconds.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_artifacts::Artifacts;
use assay_engine::agents::{Applicant, Boot, Todo, todo};
use assay_engine::clock::SystemClock;
use assay_engine::requests::VetOptions;
use assay_engine::runners::{Order, order};
use assay_engine::{Engine, Tuning, dispatcher};
use assay_model::{Clock as _, EventBody, HostId, RunId, RunView, Sha256};
use assay_store::{Changed, HostRow, Store};
use assay_testkit::{TestSealer, canned};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The runner that waits for work.
const RUNNER: &str = "bench";
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which event was told when.
type Told = HashMap<(RunId, i64), Instant>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().ok_or("say in which folder, then how many samples")?);
    let wanted: usize = args.next().and_then(|n| n.into_string().ok()).map_or(Ok(300), |n| n.parse())?;

    let store = Store::open(&format!("sqlite://{}/assay.db", folder.display())).await?;
    let artifacts = Artifacts::folder(folder.join("artifacts"))?;
    let sealer = Arc::new(TestSealer::generate());
    let engine = Engine::new(store, artifacts, Arc::new(SystemClock::default()), sealer, Tuning::default());
    let host = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: canned::HOST.to_owned(),
        macs: vec![canned::MAC],
        spec_yaml: canned::SPEC.to_owned(),
        power: json!({ "method": "manual" }),
        created_at: engine.now(),
    };
    engine.store().host_put(&host).await?;
    let _runner = engine.waiting(RUNNER, &["manual".to_owned()]);
    let dispatcher = tokio::spawn(dispatcher::run(engine.clone()));

    let mut samples = Vec::new();
    while samples.len() < wanted {
        let (end, heard) = oneshot::channel();
        let noting = tokio::spawn(note(engine.store().subscribe(), heard));
        let run = vet(&engine, &host).await?;
        let _ = end.send(());
        let told = noting.await?;
        samples.extend(gaps(&engine, run, &told).await?);
    }
    dispatcher.abort();
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
    println!(
        "{}",
        json!({ "value": at(0.99), "median": at(0.5), "worst": at(1.0), "samples": samples.len() })
    );
    Ok(())
}

/// One healthy machine, from the request to its sealed verdict.
async fn vet(engine: &Engine, host: &HostRow) -> Result<RunId> {
    let mut news = engine.store().subscribe();
    let options = VetOptions {
        profile: "standard".to_owned(),
        boot_timeout_s: 600,
        hold_s: 60,
        holds: false,
        muted: Vec::new(),
        options: assay_model::host::order::RunOptions::default(),
        only: Vec::new(),
        with: Vec::new(),
        by: "bench".to_owned(),
    };
    let run = engine.vet(host, options).await?.id;
    let token = loop {
        let view = engine.view(run).await?;
        if let Order::Power { job, .. } = order(&view) {
            engine.power_done(run, job, true, "on").await?;
            let Boot::Live { token, .. } = engine.boot(canned::MAC).await? else {
                return Err("the machine was told to boot locally".into());
            };
            break token;
        }
        next(&mut news).await?;
    };
    let applicant = Applicant {
        credential: Sha256::of(token.as_bytes()).to_string(),
        token,
        macs: vec![canned::MAC],
        system_uuid: None,
        agent: "0.1.0".to_owned(),
        clock: SystemClock::default().now(),
    };
    engine.hello(&applicant).await?;
    loop {
        let view = engine.view(run).await?;
        if let Todo::Stage { stage, attempt, generation, .. } = todo(&view) {
            let evidence = serde_json::to_vec(&canned::evidence(stage.as_str()))?;
            engine.result(run, stage, attempt, generation, evidence, None).await?;
        } else if view.status.sealed {
            return passed(&view);
        } else if view.state().is_terminal() {
            engine.off(run);
            next(&mut news).await?;
        } else {
            next(&mut news).await?;
        }
    }
}

fn passed(run: &RunView) -> Result<RunId> {
    if run.result == Some(assay_model::RunResult::Pass) {
        return Ok(run.id);
    }
    Err(format!("the canned machine must pass, but: {:?}", run.findings()).into())
}

async fn next(news: &mut Receiver<Changed>) -> Result<()> {
    Ok(tokio::time::timeout(PATIENCE, news.recv()).await.map(|told| told.map(drop))??)
}

/// Notes when each commit is told, and does nothing else, until the run is over.
async fn note(mut news: Receiver<Changed>, mut over: oneshot::Receiver<()>) -> Told {
    let mut told = Told::new();
    loop {
        tokio::select! {
            biased;
            Ok(Changed { run, seq }) = news.recv() => drop(told.insert((run, seq), Instant::now())),
            _ = &mut over => return told,
        }
    }
}

/// From each stage's evidence to the next stage's start, in milliseconds.
async fn gaps(engine: &Engine, run: RunId, told: &Told) -> Result<Vec<f64>> {
    let mut ended = None;
    let mut gaps = Vec::new();
    for event in engine.store().events_after(run, 0, u32::MAX).await? {
        match event.body {
            EventBody::EvidenceReceived { late: false, .. } => ended = told.get(&(run, event.seq)).copied(),
            EventBody::StageStarted { .. } => {
                let started = told.get(&(run, event.seq)).copied();
                if let (Some(ended), Some(started)) = (ended.take(), started) {
                    gaps.push((started - ended).as_secs_f64() * 1000.0);
                }
            }
            _ => {}
        }
    }
    if gaps.is_empty() {
        return Err("no stage followed another one".into());
    }
    Ok(gaps)
}
