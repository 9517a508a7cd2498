//! The kill test: the real server is killed with SIGKILL before and after every journal commit of a
//! full run, and started again. Nobody can tell afterwards: same verdict, same journal, every
//! notification at most once, every power job ordered until it is acknowledged and never again.
//!
//! The run covers a failure, a hold and a waiver: host registered and vetted over the API, a runner
//! that speaks the runner protocol, a machine that boots through the boot script and runs the real
//! agent on canned evidence. `crates/assay-store/src/kill.rs` has the kill points.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assay_api::operator::RunDetail;
use assay_model::view::StageView;
use assay_model::{Event, EventBody, RunId, RunResult, RunState, RunView, Sha256, Verdict, journal};
use assay_store::{OutboxRow, OutboxState, Store};
use assay_testkit::{
    Api, CannedMachine, ExitReason, FakeRunner, PATIENCE, Received, ServerProcess, WebhookSink, canned,
    free_ports, lines,
};
use serde_json::json;

/// Where the kill point is told.
const KILL_AT: &str = "ASSAY_KILL_AT";
/// A run has some thirty commits; one that has more than this does not come to its end.
const MOST_COMMITS: u64 = 200;
/// The pause before the finished run's files are looked at again.
const AGAIN: Duration = Duration::from_millis(20);

/// All that is to be seen of a run when it is over.
struct Outcome {
    /// How often the server died.
    deaths: u32,
    run: Arc<RunView>,
    events: Vec<Event>,
    addenda: Vec<String>,
    outbox: Vec<OutboxRow>,
    received: Vec<Received>,
    jobs: Vec<String>,
    ordered_again: Vec<String>,
    ends: Vec<ExitReason>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_every_commit() {
    every_commit("before").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_commit() {
    every_commit("after").await;
}

/// Not one death but dozens in one run: at nearly every step, the recovery itself is killed, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_over_and_over_in_one_run() {
    let undisturbed = full_run(&|_| None).await;
    // The first commit after a start may be one that whoever asked has to ask for again (a boot
    // fetch, a claim), so always dying at it would never get anywhere.
    let points = ["after:1", "before:2", "after:2", "before:3", "after:3"];
    let killed = full_run(&|start| Some(points[start % points.len()].to_owned())).await;
    assert!(killed.deaths > 10, "it died only {} times", killed.deaths);
    same(&undisturbed, &killed, "over and over");
}

async fn every_commit(moment: &str) {
    let undisturbed = full_run(&|_| None).await;
    healthy_witness(&undisturbed);
    for commit in 1..=MOST_COMMITS {
        let point = format!("{moment}:{commit}");
        let killed = full_run(&|start| (start == 0).then(|| point.clone())).await;
        if killed.deaths == 0 {
            assert!(commit > 20, "only {commit} commits: the kill points do not work");
            println!("{} commits, killed {moment} each of them", commit - 1);
            return;
        }
        same(&undisturbed, &killed, &point);
    }
    panic!("the run does not end");
}

/// What the undisturbed run must look like: a comparison with nonsense would prove nothing.
fn healthy_witness(seen: &Outcome) {
    assert_eq!(seen.deaths, 0);
    assert_eq!(seen.jobs, ["1-power-1"]);
    let news: Vec<_> = seen.outbox.iter().map(|row| row.outgoing.event.as_str()).collect();
    assert_eq!(news, ["RunStarted", "SpecMismatch", "RunHeld", "Decided", "RunCompleted"]);
    assert_eq!(seen.received.len(), news.len());
    let verdicts: Vec<_> = seen.run.stages.iter().map(StageView::verdict).collect();
    // SpecValidate was made to fail; the canned machine has no GPU, which is a skip.
    let good = |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::Pass | Verdict::Skip));
    assert_eq!(verdicts.iter().position(|v| !good(v)), Some(1), "{verdicts:?}");
    assert_eq!(verdicts[1], Some(Verdict::Fail));
    assert!(verdicts.len() >= 4 && verdicts[2..].iter().all(good), "{verdicts:?}");
    assert_eq!(seen.addenda, ["ReportStored@1"]);
}

/// Nobody can tell the two apart.
fn same(undisturbed: &Outcome, killed: &Outcome, what: &str) {
    assert_eq!(verdicts(&killed.run), verdicts(&undisturbed.run), "{what}");
    assert_eq!(told(killed), told(undisturbed), "{what}: every event once, none missing");
    assert_eq!(files(&killed.run), files(&undisturbed.run), "{what}: every artifact once");
    assert_eq!(killed.jobs, undisturbed.jobs, "{what}: every power job once");
    assert_eq!(killed.ordered_again, Vec::<String>::new(), "{what}");
    assert_eq!(killed.addenda, undisturbed.addenda, "{what}: the report is stored once");
    assert_eq!(killed.ends, undisturbed.ends, "{what}: the machine goes off once");

    let news = |o: &Outcome| o.outbox.iter().map(|row| row.outgoing.event.clone()).collect::<Vec<_>>();
    assert_eq!(news(killed), news(undisturbed), "{what}");
    let mut arrivals: BTreeMap<&str, u32> = BTreeMap::new();
    for received in &killed.received {
        *arrivals.entry(received.key.as_str()).or_default() += 1;
    }
    let mut in_doubt = 0;
    for row in &killed.outbox {
        let (id, times) = (&row.outgoing.id, arrivals.remove(row.outgoing.id.as_str()).unwrap_or(0));
        match row.state {
            OutboxState::Sent => assert_eq!(times, 1, "{what}: {id} was sent"),
            OutboxState::Unknown => {
                in_doubt += 1;
                assert!(times <= 1, "{what}: {id} arrived {times} times");
            }
            state => panic!("{what}: {id} is left {}", state.as_str()),
        }
    }
    assert!(arrivals.is_empty(), "{what}: arrived and not in the outbox: {arrivals:?}");
    assert!(in_doubt <= killed.deaths, "{what}: {in_doubt} notifications are in doubt");
}

/// State, result, whether anything was waived; of every stage its verdict, how many tries it took,
/// and whether it was waived.
type Conclusion = (RunState, Option<RunResult>, bool, Vec<(Option<Verdict>, usize, bool)>);

/// State, result and every stage's verdict.
fn verdicts(run: &RunView) -> Conclusion {
    let stages = run.stages.iter().map(|s| (s.verdict(), s.attempts.len(), s.waived)).collect();
    (run.state(), run.result, run.overridden, stages)
}

/// The events in an order of their own. Left out is what may honestly differ: how often a machine
/// whose answer was lost fetched its boot script, and how readings fell into batches.
fn told(outcome: &Outcome) -> Vec<String> {
    let mut all: Vec<_> = lines(&outcome.events)
        .into_iter()
        .filter(|line| !line.starts_with("BootServed"))
        .map(|line| match line.split(' ').next() {
            Some(told @ ("Enrolled" | "PostMortem")) => told.to_owned(),
            _ => line,
        })
        .collect();
    all.sort();
    all
}

fn files(run: &RunView) -> Vec<(String, Sha256)> {
    let mut all: Vec<_> = run.artifacts.iter().map(|a| (a.name.clone(), a.digest)).collect();
    all.sort();
    all
}

/// A whole run. `kill_at` says where each start of the server (counted from 0) is to die.
async fn full_run(kill_at: &(dyn Fn(usize) -> Option<String> + Sync)) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = WebhookSink::start().await;
    let mut server =
        ServerProcess::new(env!("CARGO_BIN_EXE_assay"), folder.path().join("data"), free_ports()).args([
            "--webhook",
            &sink.url(),
            "--webhook-allow-internal",
        ]);
    server.fake_live_image();
    start(&mut server, kill_at(0)).await;

    let machine = Arc::new(CannedMachine::default());
    machine.brings("SpecValidate", serde_json::to_value(canned::swapped_disk()).expect("plain data"));
    let runner = FakeRunner::start(&server.url(), &server.join_token(), server.ports, Arc::clone(&machine));
    let (api, database) = (server.api(), server.database());

    // A task of its own: `settled` opens the database and takes its lock for a moment, and must not be
    // left standing there while the server that needs the lock is waited for below.
    let mut operator = tokio::spawn(async move {
        vet_and_waive(&api).await;
        settled(&database).await
    });
    let mut deaths = 0;
    let (run, store) = {
        loop {
            tokio::select! {
                done = &mut operator => break done.expect("the operator gets through"),
                status = server.died() => {
                    use std::os::unix::process::ExitStatusExt as _;
                    assert_eq!(status.signal(), Some(9), "it ended by itself: {:#?}", server.said());
                    deaths += 1;
                    assert!(deaths < 500, "it never gets anywhere");
                    start(&mut server, kill_at(deaths)).await;
                }
            }
        }
    };
    let ends = runner.machine_ended().await;
    server.stop().await;
    let outcome = Outcome {
        deaths: u32::try_from(deaths).expect("few"),
        events: store.events_after(run.id, 0, u32::MAX).await.expect("read"),
        addenda: store.addenda(run.id).await.expect("read").into_iter().map(|a| a.kind).collect(),
        outbox: store.outbox_of(run.id).await.expect("read"),
        received: sink.received(),
        jobs: runner.jobs(),
        ordered_again: runner.ordered_again(),
        ends,
        run,
    };
    store.close().await.expect("closes");
    outcome
}

async fn start(server: &mut ServerProcess, kill_at: Option<String>) {
    match kill_at {
        Some(point) => server.start(&[(KILL_AT, &point)]).await,
        None => server.start(&[]).await,
    }
}

/// What an operator does at the command line, who tries again when the server is away.
async fn vet_and_waive(api: &Api) {
    let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
    let added = api.insist("POST", "/api/v1/hosts", Some(&host)).await;
    assert!(matches!(added.status, 201 | 409), "{added:?}");
    // An answer may have been lost: then the host is busy with this very run.
    let vetted = api.insist("POST", &format!("/api/v1/hosts/{}/vet", canned::HOST), Some(&json!({}))).await;
    assert!(matches!(vetted.status, 201 | 409), "{vetted:?}");
    until_state(api, RunState::FailedHolding).await;
    let waiver = json!({ "kind": "waive", "why": "it is the spare" });
    let answer = api.insist("POST", "/api/v1/runs/1/decisions", Some(&waiver)).await;
    assert!(matches!(answer.status, 200 | 409), "{answer:?}");
    let run = until_state(api, RunState::Completed).await;
    assert_eq!(run.report.decisions.len(), 1, "one waiver, however often it was sent");
}

async fn until_state(api: &Api, state: RunState) -> RunDetail {
    api.until("/api/v1/runs/1", |answer| {
        let run: RunDetail = answer.clone().expect(200).json();
        assert!(run.summary.number == 1 && run.summary.target == canned::HOST);
        (run.summary.state == state).then_some(run)
    })
    .await
}

/// The run once everything about it is done: sealed, its report stored, its news sent or given up.
/// Reads the database beside the server, and checks the journal.
async fn settled(database: &str) -> (Arc<RunView>, Store) {
    let store = Store::open(database).await.expect("the database opens beside the server");
    let waiting = async {
        loop {
            let id = store.run_id(1).await.expect("read").expect("the run");
            let outbox = store.outbox_of(id).await.expect("read");
            let under_way =
                |row: &OutboxRow| matches!(row.state, OutboxState::Pending | OutboxState::Sending);
            let stored = !store.addenda(id).await.expect("read").is_empty();
            if stored && !outbox.iter().any(under_way) {
                return id;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let id = tokio::time::timeout(PATIENCE, waiting).await.expect("report and news come to their end");
    (verified(&store, id).await, store)
}

async fn verified(store: &Store, id: RunId) -> Arc<RunView> {
    let stored = store.journal(id).await.expect("read");
    let head = journal::verify(id, Sha256::ZERO, &stored).expect("the chain is unbroken");
    let addenda = store.addenda(id).await.expect("read");
    journal::verify(id, head, &addenda).expect("the addendum hangs on the sealed head");
    let events = store.events_after(id, 0, u32::MAX).await.expect("read");
    let folded = RunView::fold(id, &events).expect("legal").expect("not empty");
    let view = store.view(id).await.expect("read").expect("there");
    assert_eq!(folded, *view);
    assert!(
        matches!(events.last().map(|e| &e.body), Some(EventBody::Sealed(_))),
        "the seal is the last event"
    );
    let seal = view.seal.as_ref().expect("sealed");
    assert_eq!((seal.head, seal.result), (stored[stored.len() - 2].hash, view.result));
    view
}
