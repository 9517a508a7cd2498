//! Images on machines: what a finished run says about an image on a kind of machine, and what follows from it.

use assay_engine::EngineError;
use assay_engine::compat::Compat;
use assay_model::compat::{self, CellState, DueReason, Filter, Fingerprint, TrialVerdict, days};
use assay_model::event::{RunCreated, Target};
use assay_model::host::inventory::{Bios, Board, Inventory, PciDevice};
use assay_model::host::order::RunOptions;
use assay_model::{
    DecisionKind, EventBody, Finding, HostId, Judgement, Mac, Micros, Owner, Pipeline, RunId, RunResult,
    RunState, RunView, Severity, Sha256, StageName, StagePlan, TargetId, Verdict,
};
use assay_store::{Changes, HostRow, ImageSeen, Write};
use assay_testkit::{Bench, ScriptedAgent, canned};
use serde_json::json;

const AGE: Micros = days(compat::MAX_AGE_DAYS);

/// The canned machine, with all that a fingerprint asks for.
fn machine() -> Inventory {
    let text = |text: &str| Some(text.to_owned());
    let mut machine = canned::inventory();
    machine.board = Board {
        manufacturer: text("Dell"),
        product: text("0PJ80M"),
        version: text("A01"),
        serial: text("B1"),
    };
    machine.bios = Bios { vendor: text("Dell"), version: text("2.19.1"), date: text("06/04/2023") };
    machine.cpus[0].model = text("Intel(R) Xeon(R) Gold 6338");
    machine.pci = vec![controller("020000", "8086:1592", "ice")];
    machine
}

/// The same after somebody put a card in.
fn with_another_card() -> Inventory {
    let mut machine = machine();
    machine.pci.push(controller("010700", "1000:00e6", "mpt3sas"));
    machine
}

fn controller(class: &str, id: &str, driver: &str) -> PciDevice {
    PciDevice {
        vendor_device: id.to_owned(),
        class: class.to_owned(),
        driver: Some(driver.to_owned()),
        ..PciDevice::default()
    }
}

/// A run of `my` on the bench's host, up to the end of its inventory: Clearance is open.
async fn begin(bench: &Bench, machine: &Inventory) -> RunId {
    let plan =
        |name: &str, owner| StagePlan { name: StageName::from(name), owner, required: true, timeout_s: 600 };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Image,
        profile: "standard".to_owned(),
        target: Target { id: TargetId::from(bench.host.id), name: bench.host.name.clone() },
        stages: vec![
            plan("Inventory", Owner::Agent),
            plan("Clearance", Owner::Agent),
            plan("Boot", Owner::Runner),
            plan("Reporting", Owner::Orchestrator),
        ],
        spec: json!({ "image": "/images/my.iso", "folder": "/images", "seed": 7, "profile": { "name": "my" } }),
        machine: Some(
            serde_json::to_value(
                assay_model::host::spec::HostSpec::from_yaml(canned::SPEC).expect("the canned spec"),
            )
            .expect("plain"),
        ),
        macs: bench.host.macs.clone(),
        power: bench.host.power.clone(),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".to_owned(),
        harness: "0".to_owned(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let id = RunId(uuid::Uuid::now_v7());
    bench
        .engine
        .store()
        .create_run(id, assay_model::Clock::now(&bench.clock), created)
        .await
        .expect("queued");
    bench.turn().await;
    bench.power(id, true).await;
    bench.after(60).await;
    let agent: ScriptedAgent = bench.enrol().await;
    bench.collect(&agent, "Inventory", &canned::with_counters(machine)).await;
    id
}

/// Clearance lets the machine go, the image is read, and Boot comes out like this.
async fn boot(bench: &Bench, run: RunId, image: &[u8], verdict: Verdict, codes: &[&str]) {
    let judgement = |verdict, codes: &[&str]| {
        let findings = codes.iter().map(|code| Finding::new(code, Severity::Critical, "m", "n")).collect();
        Judgement { verdict, findings, ..Judgement::error("as told") }
    };
    let judged = |name: &str, index, judgement| EventBody::StageJudged {
        stage: StageName::from(name),
        index,
        attempt: 1,
        required: true,
        judgement,
    };
    let stage = StageName::from("Boot");
    let changes = Changes {
        events: vec![
            judged("Clearance", 1, judgement(Verdict::Pass, &[])),
            EventBody::StageStarted { stage, index: 2, attempt: 1, generation: 90 },
            judged("Boot", 2, judgement(verdict, codes)),
        ],
        writes: vec![Write::Image(ImageSeen {
            digest: Sha256::of(image),
            bytes: image.len() as u64,
            volume: Some("MINE".to_owned()),
            whole: true,
        })],
    };
    let now = assay_model::Clock::now(&bench.clock);
    let done = bench.engine.store().transact(run, now, |_| Ok::<_, String>(changes)).await;
    done.expect("may happen");
    bench.turn().await;
}

/// A whole run over these bytes on this machine.
async fn passed(bench: &Bench, machine: &Inventory, image: &[u8]) -> RunId {
    let run = begin(bench, machine).await;
    boot(bench, run, image, Verdict::Pass, &[]).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result), (RunState::Completed, Some(RunResult::Pass)));
    run
}

async fn failed(bench: &Bench, machine: &Inventory, image: &[u8], code: &str) -> RunId {
    let run = begin(bench, machine).await;
    boot(bench, run, image, Verdict::Fail, &[code]).await;
    bench.decide(run, DecisionKind::Abandon, "it is the image").await.expect("decided");
    bench.sealed(run).await;
    run
}

/// A vet that takes an inventory and is then called off.
async fn looked_at(bench: &Bench, machine: &Inventory) {
    let (run, agent) = bench.running().await;
    bench.collect(&agent, "Inventory", &canned::with_counters(machine)).await;
    bench.decide(run, DecisionKind::Cancel, "that was all").await.expect("decided");
    bench.power(run, true).await;
    bench.after(1).await;
    assert_eq!(bench.view(run).await.state(), RunState::Cancelled);
}

async fn known(bench: &Bench) -> Compat {
    bench.engine.compat().await.expect("an answer")
}

/// State and staleness of `image` on the bench's host, and the codes of the newest run.
fn checked(known: &Compat, host: &HostRow, image: &str) -> (CellState, bool, Vec<String>) {
    let checked = known.check(host, image, AGE).expect("an answer");
    let codes = checked.cell.newest().map(|trial| trial.outcome.codes.clone()).unwrap_or_default();
    (checked.cell.state, checked.cell.stale, codes)
}

/// What the journal and the evidence say when they are read anew, beside what the store says.
async fn replay_says_the_same(bench: &Bench) {
    let trials = bench.engine.store().trials().await.expect("read");
    assert!(!trials.is_empty());
    for trial in trials {
        let events = bench.events(trial.run).await;
        let view = RunView::fold(trial.run, &events).expect("legal").expect("not empty");
        assert_eq!(compat::outcome(&view), Some(trial.outcome));
        let evidence = view.stages[0].latest().and_then(|attempt| attempt.evidence.as_ref()).expect("taken");
        let bytes = bench.engine.artifacts().get(evidence.digest).await.expect("kept");
        let inventory = Inventory::from_evidence(&serde_json::from_slice(&bytes).expect("JSON"));
        let fingerprint = Fingerprint::of(&inventory.expect("an inventory")).expect("it tells enough");
        assert_eq!(fingerprint.digest(), trial.machine);
    }
}

#[tokio::test]
async fn a_run_that_passed_makes_its_image_work_on_its_kind_of_machine() {
    let bench = Bench::new().await;
    let run = passed(&bench, &machine(), b"good").await;
    let found = known(&bench).await;
    assert_eq!(checked(&found, &bench.host, "my"), (CellState::Works, false, vec![]));
    assert_eq!(found.trials.len(), 1);
    let trial = &found.trials[0];
    assert_eq!(
        (trial.run, trial.host_name.as_str(), trial.outcome.verdict),
        (run, "web-3", TrialVerdict::Pass)
    );
    let grid = found.grid(&Filter::default(), AGE);
    let rows: Vec<_> =
        grid.rows.iter().map(|row| format!("{} {}: {}", row.kind, row.spoken, row.cells[0].state)).collect();
    assert_eq!(
        rows,
        [
            "machine Dell 0PJ80M A01, Intel(R) Xeon(R) Gold 6338: works",
            "board Dell 0PJ80M A01: works",
            "firmware Dell 2.19.1 06/04/2023: works",
            "processor Intel(R) Xeon(R) Gold 6338: works",
            "network 8086:1592: works",
        ]
    );
    // The image by its digest and the beginning of that; other bytes are another image.
    let digest = Sha256::of(b"good").to_string();
    assert_eq!(checked(&found, &bench.host, &digest).0, CellState::Works);
    assert_eq!(checked(&found, &bench.host, &digest[..12].to_uppercase()).0, CellState::Works);
    assert_eq!(checked(&found, &bench.host, &Sha256::of(b"bad").to_string()).0, CellState::Unknown);
    replay_says_the_same(&bench).await;

    // Time makes it stale, and a further run makes it fresh.
    bench.clock.advance(days(91));
    let found = known(&bench).await;
    assert_eq!(checked(&found, &bench.host, "my"), (CellState::Works, true, vec![]));
    assert_eq!(found.due(AGE).iter().map(|due| due.reason).collect::<Vec<_>>(), [DueReason::Stale]);
    passed(&bench, &machine(), b"good").await;
    assert_eq!(checked(&known(&bench).await, &bench.host, "my"), (CellState::Works, false, vec![]));
}

#[tokio::test]
async fn a_run_that_failed_makes_it_fail_and_a_pass_does_not_undo_that() {
    let bench = Bench::new().await;
    let run = begin(&bench, &machine()).await;
    boot(&bench, run, b"bad", Verdict::Fail, &["KernelPanic"]).await;
    assert_eq!(bench.view(run).await.state(), RunState::FailedHolding);
    assert_eq!(known(&bench).await.trials, [], "as long as an operator may decide, it says nothing");
    bench.decide(run, DecisionKind::Abandon, "it is the image").await.expect("decided");
    let told = vec!["KernelPanic".to_owned()];
    assert_eq!(checked(&known(&bench).await, &bench.host, "my"), (CellState::Fails, false, told));
    passed(&bench, &machine(), b"bad").await;
    assert_eq!(checked(&known(&bench).await, &bench.host, "my").0, CellState::Mixed);
    // A newer image begins anew.
    failed(&bench, &machine(), b"worse", "NoDisk").await;
    let found = known(&bench).await;
    assert_eq!(checked(&found, &bench.host, "my"), (CellState::Fails, false, vec!["NoDisk".to_owned()]));
    replay_says_the_same(&bench).await;
}

#[tokio::test]
async fn a_run_that_never_booted_the_image_changes_nothing() {
    let bench = Bench::new().await;
    let run = begin(&bench, &machine()).await;
    bench.decide(run, DecisionKind::Cancel, "not now").await.expect("decided");
    bench.power(run, true).await;
    bench.after(1).await;
    assert_eq!(bench.view(run).await.state(), RunState::Cancelled);
    let found = known(&bench).await;
    assert_eq!(found.trials, []);
    assert_eq!(found.hosts.len(), 1, "what the machine is, is known all the same");
    let digest = Sha256::of(b"x").to_string();
    assert_eq!(checked(&found, &bench.host, &digest), (CellState::Unknown, false, vec![]));
}

#[tokio::test]
async fn a_machine_with_a_new_card_is_another_kind_and_its_parts_say_what_is_new() {
    let bench = Bench::new().await;
    passed(&bench, &machine(), b"good").await;
    looked_at(&bench, &with_another_card()).await;
    let found = known(&bench).await;
    let checked = found.check(&bench.host, "my", AGE).expect("an answer");
    assert_eq!((checked.cell.state, checked.seen_in), (CellState::Unknown, 2));
    let parts: Vec<_> =
        checked.parts.iter().map(|(part, cell)| format!("{}: {}", part.counted(), cell.state)).collect();
    assert_eq!(
        parts,
        [
            "Dell 0PJ80M A01: works",
            "Dell 2.19.1 06/04/2023: works",
            "Intel(R) Xeon(R) Gold 6338: works",
            "8086:1592: works",
            "1000:00e6: unknown",
        ]
    );
    let due = found.due(AGE);
    assert_eq!((due.len(), due[0].reason, due[0].after), (1, DueReason::MachineChanged, 1));
    let before = found.machine(due[0].after_machine).expect("it is known");
    let now = found.machine(due[0].machine).expect("it is known");
    assert_eq!(now.changes_since(before), ["storage 1000:00e6 is new"]);
    passed(&bench, &with_another_card(), b"good").await;
    assert_eq!(known(&bench).await.due(AGE), []);
}

#[tokio::test]
async fn what_a_host_is_must_be_known_before_anything_is_said_of_it() {
    let bench = Bench::new().await;
    let stranger = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: "web-4".to_owned(),
        macs: vec![Mac([0x3c, 0xec, 0xef, 0, 0, 9])],
        spec_yaml: String::new(),
        power: json!({ "method": "manual" }),
        created_at: assay_model::Clock::now(&bench.clock),
    };
    bench.engine.store().host_put(&stranger).await.expect("stored");
    let refused = |found: &Compat, host: &HostRow| match found.check(host, "my", AGE) {
        Err(EngineError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(&known(&bench).await, &stranger);
    assert_eq!(
        why,
        "it is not known what web-4 is: no run has taken an inventory of it. Have its inventory taken: `assay host vet \
         web-4 --profile quick`"
    );
    // The canned machine names no board and no PCI bus.
    looked_at(&bench, &canned::inventory()).await;
    let why = refused(&known(&bench).await, &bench.host);
    assert!(why.contains("does not tell what processor it has, nor what is on its PCI bus"), "{why}");
    looked_at(&bench, &machine()).await;
    let found = known(&bench).await;
    assert_eq!(found.seen_in.get("web-3"), Some(&2));
    for (image, words) in [("my", "no image `my`"), ("0123456", "no image"), ("01234567", "no image")] {
        let answer = found.check(&bench.host, image, AGE).expect_err("nobody has tried any");
        assert!(
            matches!(&answer, EngineError::NotFound(_)) && answer.to_string().contains(words),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_inventory_that_an_older_version_took_still_counts() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    drop(agent);
    // As that version wrote it: the evidence and its verdict, and no row of the machine.
    let bytes = serde_json::to_vec(&machine()).expect("plain");
    let digest = bench.engine.artifacts().put(bytes).await.expect("kept");
    let stage = || StageName::from("Inventory");
    let judgement = Judgement { verdict: Verdict::Pass, ..Judgement::error("as told") };
    let events = vec![
        EventBody::EvidenceReceived { stage: stage(), attempt: 1, digest, problem: None, late: false },
        EventBody::StageJudged { stage: stage(), index: 0, attempt: 1, required: true, judgement },
    ];
    let now = assay_model::Clock::now(&bench.clock);
    let changes = Changes { events, writes: Vec::new() };
    bench.engine.store().transact(run, now, |_| Ok::<_, String>(changes)).await.expect("may happen");
    assert_eq!(bench.engine.store().machines_last_seen().await.expect("read"), []);
    let found = known(&bench).await;
    assert_eq!((found.hosts.len(), found.seen_in.get("web-3")), (1, Some(&1)));
}
