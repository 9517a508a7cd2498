//! Serves a made-up fleet, to look at the pages: `cargo run -p assay-server --example showcase [PORT]`.
//! Sign in as `operator` with the password that it prints. Everything is in a folder that goes when it ends.

#[path = "../tests/common/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use assay_engine::Engine;
use assay_engine::live::Offer;
use assay_model::event::EventBody;
use assay_model::{DecisionKind, Finding, Judgement, Mac, RunResult, Severity, Sha256, Verdict};
use assay_store::{Changes, Write};
use common::{PASSWORD, Story, dimm_missing, open, pass};

/// The running machine's credential.
const AGENT: &str = "showcase";
const SPEC: &str = include_str!("../../../examples/specs/server.yaml");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |p| p.parse())?;
    let data = tempfile::tempdir()?;
    let server = open(data.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Some(PASSWORD)).await;
    println!("http://{} operator / {PASSWORD}", server.addresses()?.operators);
    let engine = server.app().engine.clone();
    let running = fleet(&engine).await?;
    let capacity = [("netboot", 1), ("mem_mib", 32_768), ("cpu", 16)].map(|(pool, n)| (pool.to_owned(), n));
    let offer = Offer { power: ["manual".to_owned()].into(), capacity: capacity.into() };
    let _runner = engine.offering("rack7", offer);
    tokio::spawn(beat(running));
    server.serve(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

/// One machine in every state.
async fn fleet(engine: &Engine) -> anyhow::Result<(Engine, Story)> {
    let store = engine.store();
    store
        .runner_seen("rack7", "0.1.0", Some("another DHCP server answers on eth1: 10.0.0.1"), engine.now())
        .await?;
    let unknown = [Mac([0x3c, 0xec, 0xef, 1, 2, 3]), Mac([0x3c, 0xec, 0xef, 1, 2, 4])];
    store.unknown_seen(&unknown, "rack7", engine.now()).await?;

    let host = Story::host(engine, "store-01", 1, SPEC).await;
    let mut run = Story::begin(engine, &host, "standard", 9000).await;
    run.boots().await;
    for index in 0..9 {
        let judgement = match index {
            6 => Judgement {
                verdict: Verdict::Skip,
                ..pass("no accelerator is there and none is expected", "gpus", 0)
            },
            7 => Judgement {
                verdict: Verdict::Unverified,
                unverified: vec!["this machine exposes no supply sensors".into()],
                ..pass("no rail could be read", "rails", 0)
            },
            _ => pass("everything is as expected", "items", 12),
        };
        run.stage(index, 1, 40 + 200 * index as i64, judgement).await;
    }
    run.readings(1, 9000, 200).await;
    run.file(0, "inventory.json", b"{}").await;
    run.completed(RunResult::Pass).await;

    let host = Story::host(engine, "store-02", 2, SPEC).await;
    let mut run = Story::begin(engine, &host, "standard", 5400).await;
    run.boots().await;
    run.stage(0, 1, 12, pass("43 facts read", "sources", 14)).await;
    run.file(0, "inventory.json", b"{}").await;
    run.stage(1, 1, 2, dimm_missing("4012AB9A")).await;
    run.held().await;
    run.readings(1, 5300, 60).await;
    run.says(1, &[("agent", "spec compared: 41 of 43 fields agree")]).await;

    let host = Story::host(engine, "compute-07", 3, SPEC).await;
    let mut waived = Story::begin(engine, &host, "quick", 90_000).await;
    waived.boots().await;
    waived.stage(0, 1, 12, pass("43 facts read", "sources", 14)).await;
    waived.stage(1, 1, 2, dimm_missing("4012AB9A")).await;
    waived.held().await;
    waived.decided(DecisionKind::Waive, "the spare comes on Friday; half the memory will do till then").await;
    for index in 2..9 {
        waived.stage(index, 1, 60, pass("everything is as expected", "items", 4)).await;
    }
    waived.completed(RunResult::Pass).await;

    let host = Story::host(engine, "compute-08", 4, "").await;
    let mut dark = Story::begin(engine, &host, "standard", 1500).await;
    dark.then(2, EventBody::Admitted { runner: "rack7".into() }).await;
    let message = "power was switched on, but no boot script was fetched within 10 m".to_owned();
    let next = "Check cabling and boot order, then retry.";
    let finding =
        Finding::new("BootFailed", Severity::Critical, message.clone(), next).part("system", None, None);
    dark.then(600, EventBody::FindingRaised { finding }).await;
    dark.then(0, EventBody::BootFailed { message }).await;
    dark.held().await;

    let host = Story::host(engine, "compute-10", 6, "").await;
    Story::begin(engine, &host, "burnin", 30).await;
    Story::host(engine, "compute-11", 7, "").await;

    let host = Story::host(engine, "compute-09", 5, SPEC).await;
    let mut run = Story::begin(engine, &host, "standard", 700).await;
    run.boots().await;
    run.stage(0, 1, 12, pass("43 facts read", "sources", 14)).await;
    run.stage(1, 1, 2, pass("all 43 fields agree", "spec fields", 43)).await;
    run.starts(2, 1).await;
    let reason = "the agent fell silent".to_owned();
    run.then(125, EventBody::AttemptLost { stage: "SMART".into(), attempt: 1, reason }).await;
    run.starts(2, 2).await;
    let writes = vec![Write::AgentCredential { hash: Sha256::of(AGENT.as_bytes()), generation: 1 }];
    let credential = Changes { events: Vec::new(), writes };
    store.transact(run.run, engine.now(), |_| Ok::<_, String>(credential)).await?;
    engine.agent(AGENT).await?;
    engine.heartbeat(run.run, Some("short self-test of S64GNE0R100002: 60 % done"));
    run.readings(1, 650, 120).await;
    run.says(
        1,
        &[
            ("agent", "stage SMART, try 2"),
            ("kernel", "nvme nvme1: Shutdown timeout set to 10 seconds"),
            ("smartctl", "<script>alert('not a script')</script>"),
        ],
    )
    .await;
    Ok((engine.clone(), run))
}

/// The running machine keeps talking.
async fn beat((engine, run): (Engine, Story)) {
    for seq in 2.. {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if let Err(problem) = engine.agent(AGENT).await {
            eprintln!("the made-up agent is not heard: {problem}");
        }
        engine.heartbeat(
            run.run,
            Some(&format!("short self-test of S64GNE0R100002: {} % done", (60 + seq) % 100)),
        );
        run.readings(seq, 5, 1).await;
        run.says(seq, &[("smartctl", "self-test routine in progress")]).await;
    }
}
