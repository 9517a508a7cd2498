//! How fast the journal takes events, beside bare SQLite given the same rows.
//!
//! Run by `cargo xtask bench`, which knows the goal. Ours is [`Store::transact`], one event each: the
//! decision on the current state, the hash chain, the rows that are a fold of the journal, the
//! commit and the news of it. The peer is a prepared `INSERT` through rusqlite on the calling
//! thread, with no foreign key and nothing else in the file: `BEGIN IMMEDIATE`, the very row that
//! ours has just written, `COMMIT`. Both sync every commit, on the same disk, in turns.
//!
//! Ours is measured twice: with all runs appending at once, as the machines of a fleet do, and one append after the
//! other, where nobody shares a commit with anybody. The peer does one row at a time in both.
//!
//! Prints one JSON object on stdout: for each way both rates and the median of the rounds' ratios.

use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay_model::event::{RunCreated, Target};
use assay_model::journal::StoredEvent;
use assay_model::{
    Check, Coverage, EventBody, Judgement, Mac, Micros, Owner, RunId, Sha256, StagePlan, TargetId, Verdict,
};
use assay_store::{Changes, Store, TransactError};
use rusqlite::{Connection, params};
use serde_json::json;
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many runs are written to in turns, as on a busy control plane.
const RUNS: usize = 20;
/// Stages per run; with the events of each, a run's journal stays below 200 events.
const STAGES: usize = 12;
/// Files stored per stage, as the SMART stage does for each disk.
const FILES: usize = 4;
/// How many events each run gets before it is the peer's turn: one stage's.
const TURN: usize = 7;
/// The first moment; later ones count from here.
const START: Micros = Micros::seconds(1_795_253_400);

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().ok_or("say in which folder, then how many rounds")?);
    let rounds: usize = args.next().and_then(|n| n.into_string().ok()).map_or(Ok(9), |n| n.parse())?;
    let (ours, peer) = (folder.join("ours.db"), folder.join("peer.db"));
    let store = Store::open(&format!("sqlite://{}", ours.display())).await?;
    let bare = open_peer(&peer)?;

    // In turns, so that both meet the same disk. The first round of each warms up and is not counted.
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for round in 0..2 * (rounds + 1) {
        let one_by_one = round % 2 == 1;
        let (ours, peer, rows) = take_turns(&store, &bare, round, one_by_one).await?;
        let rate = |took: Duration| rows as f64 / took.as_secs_f64();
        if round > 1 {
            let results = if one_by_one { &mut alone } else { &mut together };
            results.push((rate(ours), rate(peer), rows));
        }
        let how = if one_by_one { "one at a time" } else { "all runs at once" };
        eprintln!("round {round}, {how}: {rows} rows, ours {:.0}/s, bare {:.0}/s", rate(ours), rate(peer));
    }
    store.close().await?;
    println!("{}", json!({ "together": line(&together), "alone": line(&alone) }));
    Ok(())
}

fn line(results: &[(f64, f64, usize)]) -> serde_json::Value {
    let column = |of: fn(&(f64, f64, usize)) -> f64| median(results.iter().map(of).collect());
    json!({
        "value": column(|r| r.0),
        "peer_value": column(|r| r.1),
        "ratio": column(|r| r.0 / r.1),
        "rounds": results.len(),
        "rows": results.iter().map(|r| r.2).sum::<usize>(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One round: every event of the script is appended to each of the round's runs, and bare SQLite is
/// given the rows that this left. They take turns every few hundred rows, so that a disk that is
/// slow for a while is slow for both. How long each took, and for how many rows.
async fn take_turns(
    store: &Store,
    bare: &Connection,
    round: usize,
    alone: bool,
) -> Result<(Duration, Duration, usize)> {
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let number = (round * RUNS + n) as u128;
        let run = RunId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number));
        store.create_run(run, START, created(number)).await?;
        for event in [EventBody::Admitted { runner: "rack-7".into() }, enrolled()] {
            transact(store, run, START, event).await?;
        }
        runs.push(run);
    }
    let (mut ours, mut peer, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    let mut written = 3;
    for turn in script().chunks(TURN) {
        let begun = Instant::now();
        for event in turn {
            let at = START.plus(Micros::seconds(count as i64));
            if alone {
                for run in &runs {
                    transact(store, *run, at, event.clone()).await?;
                }
            } else {
                futures::future::try_join_all(
                    runs.iter().map(|run| transact(store, *run, at, event.clone())),
                )
                .await?;
            }
        }
        ours += begun.elapsed();
        let rows = rows(store, &runs, written, turn.len()).await?;
        peer += insert(bare, &rows)?;
        written += turn.len();
        count += rows.len();
    }
    Ok((ours, peer, count))
}

/// The latest `count` rows of each run, in the order in which they were written.
async fn rows(
    store: &Store,
    runs: &[RunId],
    before: usize,
    count: usize,
) -> Result<Vec<(RunId, StoredEvent)>> {
    let mut journals = Vec::new();
    for run in runs {
        let journal = store.journal(*run).await?;
        assert_eq!(journal.len(), before + count, "every event is stored");
        assay_model::journal::verify(*run, Sha256::ZERO, &journal)?;
        journals.push((*run, journal));
    }
    let at = |index: usize| journals.iter().map(move |(run, journal)| (*run, journal[index].clone()));
    Ok((before..before + count).flat_map(at).collect())
}

async fn transact(store: &Store, run: RunId, at: Micros, event: EventBody) -> Result<()> {
    let changes = Changes { events: vec![event], writes: Vec::new() };
    let done: std::result::Result<_, TransactError<Infallible>> =
        store.transact(run, at, |_| Ok(changes)).await;
    assert_eq!(done?.events.len(), 1, "one event was appended");
    Ok(())
}

/// A file with the journal's table alone, as fast as it can be had.
fn open_peer(path: &Path) -> Result<Connection> {
    let bare = Connection::open(path)?;
    bare.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        CREATE TABLE events (run blob NOT NULL, seq bigint NOT NULL, at bigint NOT NULL, kind text NOT NULL,
            body blob NOT NULL, prev_hash blob NOT NULL, hash blob NOT NULL, PRIMARY KEY (run, seq)) WITHOUT ROWID",
    )?;
    Ok(bare)
}

/// The same rows, one transaction each.
fn insert(bare: &Connection, rows: &[(RunId, StoredEvent)]) -> Result<Duration> {
    let mut begin = bare.prepare("BEGIN IMMEDIATE")?;
    let mut insert = bare.prepare(
        "INSERT INTO events (run, seq, at, kind, body, prev_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )?;
    let mut commit = bare.prepare("COMMIT")?;
    let started = Instant::now();
    for (run, event) in rows {
        begin.execute([])?;
        insert.execute(params![
            run.0.as_bytes(),
            event.seq,
            event.at.0,
            event.kind,
            event.body,
            event.prev_hash.0,
            event.hash.0,
        ])?;
        commit.execute([])?;
    }
    Ok(started.elapsed())
}

/// What one machine's run appends once it is enrolled.
fn script() -> Vec<EventBody> {
    let mut events = Vec::new();
    for index in 0..STAGES {
        let stage = plan(index).name;
        events.push(EventBody::StageStarted {
            stage: stage.clone(),
            index,
            attempt: 1,
            generation: index as i64 + 2,
        });
        for file in 0..FILES {
            let name = format!("smart-S5GXNE0R{index:02}{file:04}.txt");
            events.push(EventBody::ArtifactStored {
                stage: Some(stage.clone()),
                attempt: 1,
                digest: Sha256::of(name.as_bytes()),
                name,
                bytes: 18_231,
                late: false,
            });
        }
        events.push(EventBody::EvidenceReceived {
            stage: stage.clone(),
            attempt: 1,
            digest: Sha256::of(stage.as_str().as_bytes()),
            problem: None,
            late: false,
        });
        let judgement = judgement(&stage);
        events.push(EventBody::StageJudged { stage, index, attempt: 1, required: true, judgement });
    }
    events
}

/// As large as those of a server with eight disks.
fn judgement(stage: &assay_model::StageName) -> Judgement {
    let check = |disk: usize, what: &str| Check {
        name: format!("disk S5GXNE0R{disk:06}: {what}"),
        verdict: Verdict::Pass,
        expected: "0".into(),
        seen: "0".into(),
    };
    let checks = (0..8)
        .flat_map(|disk| {
            ["critical warning", "media errors", "percentage used"].map(|what| check(disk, what))
        })
        .collect();
    Judgement {
        verdict: Verdict::Pass,
        message: format!("{stage}: 24 of 24 checks passed on 8 disks"),
        checks,
        findings: Vec::new(),
        coverage: vec![Coverage { what: "disks".into(), covered: 8, total: 8 }],
        unverified: Vec::new(),
    }
}

fn enrolled() -> EventBody {
    EventBody::Enrolled {
        boot: 1,
        mac: Some(Mac([0x52, 0x54, 0, 0, 0, 1])),
        system_uuid: Some("4c4c4544-0042".into()),
        agent: "0.1.0".into(),
        clock_skew_us: -1200,
        generation: 1,
    }
}

fn plan(index: usize) -> StagePlan {
    StagePlan {
        name: format!("Stage{index}").as_str().into(),
        owner: Owner::Agent,
        required: true,
        timeout_s: 600,
    }
}

fn created(number: u128) -> RunCreated {
    RunCreated {
        number: 0,
        pipeline: assay_model::Pipeline::Host,
        profile: "standard".into(),
        target: Target { id: TargetId(Uuid::from_u128(number + 1)), name: format!("node{number}") },
        stages: (0..STAGES).map(plan).collect(),
        spec: json!({ "format": 1, "system": { "product": "R650" }, "disks": [{ "serial": "S1" }, { "serial": "S2" }] }),
        macs: vec![Mac([0x52, 0x54, 0, 0, 0, 1])],
        power: json!({ "method": "manual" }),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".into(),
        machine: None,
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: assay_model::host::order::RunOptions::default(),
    }
}
