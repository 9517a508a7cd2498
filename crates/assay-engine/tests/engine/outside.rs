//! A stage that the runner collects while the machine runs memtest86+: there, what is read, and back again.

use assay_engine::EngineError;
use assay_engine::agents::{Boot, Todo};
use assay_engine::outside::{Console, Reading};
use assay_engine::requests::VetOptions;
use assay_engine::runners::{Order, Waiting, order};
use assay_model::event::PowerAction;
use assay_model::host::memtest::{MemtestEvidence, MemtestFault};
use assay_model::{Clock as _, DecisionKind, Micros, RunId, RunResult, RunState, StageName, Verdict};
use assay_testkit::{Bench, ScriptedAgent, canned};
use serde_json::json;

use crate::story;

const MEMTEST: &str = "Memtest86";

/// A machine whose BMC carries its serial console.
async fn bench() -> (Bench, Waiting) {
    let mut bench = Bench::new().await;
    bench.host.power =
        json!({ "method": "ipmi", "address": "10.0.0.1", "credential": "rack1", "console": "ttyS1,57600" });
    bench.engine.store().host_put(&bench.host).await.expect("stored");
    let runner = bench.engine.waiting("rack-2", &["ipmi".to_owned()]);
    (bench, runner)
}

fn only(stages: &[&str]) -> VetOptions {
    VetOptions { only: stages.iter().map(|name| StageName::from(*name)).collect(), ..Bench::options() }
}

async fn now(bench: &Bench, run: RunId) -> Order {
    order(&*bench.view(run).await)
}

fn is_cycle(order: &Order) -> bool {
    matches!(order, Order::Power { action: PowerAction::Cycle, .. })
}

async fn served_memtest(bench: &Bench) -> bool {
    let boot = bench.engine.boot(canned::MAC).await.expect("an answer");
    boot == Boot::Memtest { console: Some("ttyS1,57600".to_owned()) }
}

/// A run of three stages whose second is memtest86+: the first is done.
async fn about_to_leave(bench: &Bench) -> (RunId, ScriptedAgent) {
    let run = bench.vet_with(only(&["Inventory", MEMTEST, "PSU"])).await;
    bench.power(run, true).await;
    let agent = bench.enrol().await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    (run, agent)
}

/// The machine is switched for the stage, fetches memtest86+, and the runner is told to read; what.
async fn into_memtest(bench: &Bench, run: RunId) -> Reading {
    assert!(is_cycle(&bench.power(run, true).await));
    assert!(served_memtest(bench).await);
    let Order::Read(reading) = now(bench, run).await else { panic!("{:?}", now(bench, run).await) };
    reading
}

async fn told(bench: &Bench, run: RunId, reading: &Reading, evidence: MemtestEvidence) -> bool {
    let Reading { stage, attempt, generation, .. } = reading.clone();
    let text = "Memtest86+ v6.10".to_owned();
    bench.clock.advance(Micros::seconds(60));
    let late = bench.engine.console(run, Console { stage, attempt, generation, evidence, text }).await;
    bench.turn().await;
    late.expect("taken")
}

#[tokio::test]
async fn there_and_back_and_on_with_the_next_stage() {
    let (bench, _runner) = bench().await;
    let (run, agent) = about_to_leave(&bench).await;
    assert_eq!(
        bench.todo(&agent).await,
        Todo::Wait,
        "nothing for the agent: its machine is about to be switched"
    );

    let reading = into_memtest(&bench, run).await;
    assert_eq!((reading.attempt, reading.passes), (1, 1));
    // Hours later: nobody misses the agent, and nobody takes the machine for dead.
    for _ in 0..6 {
        bench.after(1800).await;
        assert!(matches!(now(&bench, run).await, Order::Read(_)));
    }
    assert!(!told(&bench, run, &reading, canned::memtest()).await);
    assert!(is_cycle(&bench.power(run, true).await), "back into the live image");
    bench.after(60).await;
    let agent = bench.enrol().await;
    bench.rest(&agent).await;
    insta::assert_snapshot!(story(&bench, run).await, @r"
    RunCreated web-3
    Admitted rack-2
    PowerRequested cycle
    PowerDone ok: ForceRestart accepted
    BootServed boot 1
    Enrolled boot 1, generation 1
    StageStarted Inventory 1, generation 2
    PostMortem boot 1, 0 records
    EvidenceReceived Inventory 1
    StageJudged Inventory 1: pass
    StageStarted Memtest86 1, generation 3
    PowerRequested cycle
    PowerDone ok: ForceRestart accepted
    MemtestServed Memtest86 1
    ArtifactStored memtest-console.txt
    EvidenceReceived Memtest86 1
    StageJudged Memtest86 1: pass
    PowerRequested cycle
    PowerDone ok: ForceRestart accepted
    BootServed boot 2
    Enrolled boot 2, generation 4
    StageStarted PSU 1, generation 5
    PostMortem boot 2, 0 records
    EvidenceReceived PSU 1
    StageJudged PSU 1: pass
    StageStarted Reporting 1, generation 6
    EvidenceReceived Reporting 1
    StageJudged Reporting 1: pass
    RunCompleted pass
    Sealed
    ");
    let view = bench.check(run).await;
    assert_eq!(view.result, Some(RunResult::Pass), "{:?}", view.findings());
    assert!(view.artifacts.iter().any(|artifact| artifact.name == "memtest-console.txt"));
}

#[tokio::test]
async fn a_stuck_bit_fails_it_and_the_held_machine_comes_back() {
    let (bench, _runner) = bench().await;
    let run = bench.vet_with(only(&[MEMTEST])).await;
    // What needs no agent needs no live image first.
    let reading = into_memtest(&bench, run).await;
    let fault = MemtestFault { pass: 0, test: 2, address: 0x150_0000, expected: 1, found: 3 };
    let red = MemtestEvidence { passes: 0, errors: 7, faults: vec![fault], ..canned::memtest() };
    told(&bench, run, &reading, red).await;
    let view = bench.view(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some(MEMTEST)));
    assert_eq!(view.findings()[0].code, "MemoryBitError");

    assert!(is_cycle(&bench.power(run, true).await), "so that somebody can look at it from within");
    let agent = bench.enrol().await;
    assert!(matches!(bench.todo(&agent).await, Todo::Hold { .. }));
    assert_eq!(now(&bench, run).await, Order::Wait, "once");

    bench.after(60).await;
    bench.decide(run, DecisionKind::Retry, "other modules").await.expect("held");
    let again = into_memtest(&bench, run).await;
    assert_eq!(again.attempt, 2);
    assert!(again.generation > reading.generation && again.job != reading.job);
    // What was read for the first try says nothing about the second.
    let late = Console {
        stage: reading.stage,
        attempt: reading.attempt,
        generation: reading.generation,
        evidence: canned::memtest(),
        text: String::new(),
    };
    assert!(!bench.engine.console(run, late).await.expect("known already"));
    assert!(matches!(now(&bench, run).await, Order::Read(_)));
    told(&bench, run, &again, canned::memtest()).await;
    assert_eq!(bench.view(run).await.stages[0].verdict(), Some(Verdict::Pass));
}

#[tokio::test]
async fn who_decides_while_the_machine_is_on_its_way_back_does_not_interrupt_it() {
    let (bench, _runner) = bench().await;
    let (run, _) = about_to_leave(&bench).await;
    let reading = into_memtest(&bench, run).await;
    let fault = MemtestFault { pass: 0, test: 2, address: 0x150_0000, expected: 1, found: 3 };
    told(&bench, run, &reading, MemtestEvidence { errors: 7, faults: vec![fault], ..canned::memtest() })
        .await;
    assert!(is_cycle(&bench.power(run, true).await), "so that somebody can look at it from within");
    let switched = bench.view(run).await.power.len();

    bench.after(5).await;
    bench.decide(run, DecisionKind::Waive, "the module is on its way").await.expect("held");
    bench.after(20).await;
    assert_eq!(bench.view(run).await.power.len(), switched, "its power was cycled a moment ago");
    let agent = bench.enrol().await;
    assert!(matches!(bench.todo(&agent).await, Todo::Stage { stage, .. } if stage == "PSU"));
    bench.rest(&agent).await;
    assert_eq!(bench.check(run).await.power.len(), switched);
}

#[tokio::test]
async fn nothing_read_is_no_pass_and_nothing_lasts_for_ever() {
    let (mut bench, _runner) = bench().await;
    let run = bench.vet_with(only(&[MEMTEST])).await;
    let reading = into_memtest(&bench, run).await;
    // A console on which nothing was drawn.
    let dark = MemtestEvidence { listened_s: 600.0, passes_asked: 1, ..MemtestEvidence::default() };
    told(&bench, run, &reading, dark).await;
    let view = bench.view(run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Unverified));
    assert!(view.unverified()[0].contains("drew nothing on the serial console"), "{:?}", view.unverified());

    // The runner never comes back, over a restart of the server, too.
    bench.after(60).await;
    bench.decide(run, DecisionKind::Retry, "").await.expect("held");
    let reading = into_memtest(&bench, run).await;
    bench.restart().await;
    let Order::Read(same) = now(&bench, run).await else { panic!("{:?}", now(&bench, run).await) };
    assert_eq!(same, reading);
    let left = reading.until.since(bench.clock.now()).0 / 1_000_000;
    bench.after(left + 119).await;
    assert!(bench.view(run).await.status.open, "the runner has a moment to tell");
    bench.after(2).await;
    let view = bench.view(run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Error));
    let said = &view.stages[0].judgement().expect("judged").message;
    assert!(said.contains("brought nothing of the machine's console"), "{said}");
    assert_eq!(view.state(), RunState::FailedHolding);
}

#[tokio::test]
async fn a_machine_that_cannot_be_switched_says_so_and_one_that_is_cancelled_goes_off() {
    let (bench, _runner) = bench().await;
    let run = bench.vet_with(only(&[MEMTEST])).await;
    bench.power(run, false).await;
    let view = bench.view(run).await;
    let said = &view.stages[0].judgement().expect("judged").message;
    assert!(said.contains("could not be booted for Memtest86: the BMC does not answer"), "{said}");

    bench.after(60).await;
    bench.decide(run, DecisionKind::Retry, "").await.expect("held");
    into_memtest(&bench, run).await;
    bench.decide(run, DecisionKind::Cancel, "").await.expect("open");
    let off = bench.power(run, true).await;
    assert!(matches!(off, Order::Power { action: PowerAction::Off, .. }), "not the console: {off:?}");
    assert!(!served_memtest(&bench).await);
    assert_eq!(bench.view(run).await.state(), RunState::Cancelled);
}

#[tokio::test]
async fn it_is_part_of_a_run_only_where_it_was_asked_for_and_can_be_read() {
    let (mut bench, _runner) = bench().await;
    let with = VetOptions { with: vec![StageName::from(MEMTEST)], ..Bench::options() };
    let run = bench.vet_with(with.clone()).await;
    let view = bench.view(run).await;
    let names: Vec<_> = view.stages.iter().map(|stage| stage.plan.name.as_str()).collect();
    assert_eq!(names[3..6], ["CPUStress", MEMTEST, "Storage"]);
    assert!(view.created.options.left_out.is_empty(), "such a run is a whole one");
    bench.decide(run, DecisionKind::Cancel, "").await.expect("open");
    bench.power(run, true).await;

    for power in [json!({ "method": "manual" }), json!({ "method": "wol", "mac": "0c:c4:7a:12:34:56" })] {
        bench.host.power = power;
        let refused = bench.engine.vet(&bench.host, with.clone()).await.expect_err("nobody could read it");
        assert!(matches!(refused, EngineError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains("serial console"), "{refused}");
    }
    let plain = bench.engine.vet(&bench.host, Bench::options()).await.expect("queued");
    assert!(plain.stages.iter().all(|stage| stage.plan.name != MEMTEST));
}
