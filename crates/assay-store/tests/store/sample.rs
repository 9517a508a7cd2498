//! Runs and events as the scenarios use them.

use std::convert::Infallible;
use std::sync::Arc;

use assay_model::event::{RunCreated, Sealed, Target};
use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
use assay_model::{
    Event, EventBody, Finding, Judgement, Mac, Micros, Owner, RunId, RunResult, RunView, Severity, StagePlan,
    TargetId, Verdict,
};
use assay_store::{Changes, Store, TransactError};
use serde_json::json;
use uuid::Uuid;

/// Noon of 2026-11-21, and seconds after it.
pub(crate) fn at(second: i64) -> Micros {
    Micros(1_795_262_400_000_000).plus(Micros::seconds(second))
}

pub(crate) fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n))
}

pub(crate) fn mac(n: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, n])
}

pub(crate) fn created(host: u128) -> RunCreated {
    let stage =
        |name: &str, required| StagePlan { name: name.into(), owner: Owner::Agent, required, timeout_s: 60 };
    RunCreated {
        number: -1,
        pipeline: assay_model::Pipeline::Host,
        profile: "standard".into(),
        target: Target { id: TargetId(Uuid::from_u128(host)), name: format!("node{host}") },
        stages: vec![stage("Inventory", true), stage("SMART", true)],
        spec: json!({"memory": "64GiB"}),
        macs: vec![mac(1)],
        power: json!({"method": "manual"}),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "ada".into(),
        machine: None,
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: assay_model::host::order::RunOptions::default(),
    }
}

pub(crate) async fn create(store: &Store, run: RunId, host: u128) -> Arc<RunView> {
    store.create_run(run, at(0), created(host)).await.expect("created")
}

/// Appends events, each legal.
pub(crate) async fn append(store: &Store, run: RunId, when: Micros, events: Vec<EventBody>) -> Vec<Event> {
    let changes = Changes { events, writes: Vec::new() };
    let committed: Result<_, TransactError<Infallible>> = store.transact(run, when, |_| Ok(changes)).await;
    committed.expect("committed").events
}

pub(crate) fn admitted() -> EventBody {
    EventBody::Admitted { runner: "r1".into() }
}

pub(crate) fn enrolled() -> EventBody {
    EventBody::Enrolled {
        boot: 1,
        mac: Some(mac(1)),
        system_uuid: None,
        agent: "0.1.0".into(),
        clock_skew_us: 0,
        generation: 1,
    }
}

pub(crate) fn started(index: usize, attempt: u32) -> EventBody {
    EventBody::StageStarted {
        stage: stage_name(index).into(),
        index,
        attempt,
        generation: i64::from(attempt) + 1,
    }
}

pub(crate) fn judged(index: usize, attempt: u32, verdict: Verdict, findings: Vec<Finding>) -> EventBody {
    let judgement = Judgement {
        verdict,
        message: format!("{} came out as {verdict}", stage_name(index)),
        checks: Vec::new(),
        findings,
        coverage: Vec::new(),
        unverified: Vec::new(),
    };
    EventBody::StageJudged { stage: stage_name(index).into(), index, attempt, required: true, judgement }
}

pub(crate) fn finding(message: &str) -> Finding {
    Finding::new("SmartFailing", Severity::Critical, message, "replace it").part(
        "disk",
        Some("bay 3"),
        Some("AB12"),
    )
}

pub(crate) fn record(text: &str) -> EventBody {
    EventBody::FindingRaised { finding: Finding::new("Note", Severity::Info, text, "nothing") }
}

/// A run that passed, up to and without its seal.
pub(crate) async fn pass(store: &Store, run: RunId) {
    let events = vec![
        admitted(),
        enrolled(),
        started(0, 1),
        judged(0, 1, Verdict::Pass, Vec::new()),
        started(1, 1),
        judged(1, 1, Verdict::Pass, Vec::new()),
        EventBody::RunCompleted { result: Some(RunResult::Pass) },
    ];
    append(store, run, at(10), events).await;
}

/// Seals a finished run over its head.
pub(crate) async fn seal(store: &Store, run: RunId) {
    let (_, head) = store.head(run).await.expect("read").expect("there");
    let sealed =
        Sealed { head, result: Some(RunResult::Pass), overridden: false, envelope: json!({"payload": "x"}) };
    append(store, run, at(20), vec![EventBody::Sealed(Box::new(sealed))]).await;
}

pub(crate) fn batch(minute: i64, values: &[(Option<f64>, Option<f64>)]) -> SensorBatch {
    let sensor = |name: &str, kind: &str, unit: &str| SensorInfo {
        name: name.into(),
        kind: kind.into(),
        unit: unit.into(),
        max: None,
        critical: Some(95.5),
    };
    let samples = (0_i64..)
        .zip(values)
        .map(|(n, (a, b))| SensorSample { at: at(60 * minute + n), values: vec![*a, *b] });
    SensorBatch {
        sensors: vec![sensor("coretemp/Core 0@isa", "thermal", "°C"), sensor("psu/12V@i2c", "psu", "V")],
        samples: samples.collect(),
    }
}

fn stage_name(index: usize) -> &'static str {
    ["Inventory", "SMART"][index]
}
