//! Silence: suspect, given up, back again; reboots; stages that take too long.

use assay_engine::agents::Todo;
use assay_model::view::AttemptOutcome;
use assay_model::{DecisionKind, RunState, Verdict};
use assay_testkit::{Bench, canned};

use crate::story;

#[tokio::test]
async fn a_minute_of_silence_is_shown_and_costs_nothing() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.after(14).await;
    assert_eq!(bench.view(run).await.suspect_since, None);
    bench.after(1).await;
    assert!(bench.view(run).await.suspect_since.is_some());
    bench.after(45).await;
    assert!(bench.heard(&agent).await);
    assert_eq!(bench.view(run).await.suspect_since, None);
    bench.up_to(&agent, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
    assert!(view.stages.iter().all(|s| s.attempts.len() == 1), "no attempt was lost");
    assert_eq!(bench.news(run).await, ["RunStarted", "AgentSuspect", "RunCompleted"]);
    let lines = bench.lines(run).await;
    let count = |what: &str| lines.iter().filter(|l| l.as_str() == what).count();
    assert_eq!((count("AgentSuspect"), count("AgentReturned")), (1, 1));
}

#[tokio::test]
async fn two_minutes_of_silence_lose_the_attempt_and_switch_the_machine_once() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    assert!(bench.heard(&agent).await);
    bench.after(119).await;
    assert_eq!(bench.view(run).await.stages[0].attempts[0].outcome, AttemptOutcome::Open);
    bench.after(1).await;
    let view = bench.check(run).await;
    assert_eq!(
        view.stages[0].attempts[0].outcome,
        AttemptOutcome::Lost("the agent was silent for 120 s".to_owned())
    );
    assert_eq!(view.power.len(), 2);
    bench.after(5).await;
    bench.power(run, true).await;
    bench.after(60).await;
    let back = bench.enrol().await;
    assert!(!bench.heard(&agent).await, "the old boot's credential is void");
    bench.up_to(&back, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((signed.as_str(), view.power.len(), view.boots), ("PASSED", 2, 2));
    insta::assert_snapshot!(story(&bench, run).await, @r"
        RunCreated web-3
        Admitted bench
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 1
        Enrolled boot 1, generation 1
        StageStarted Inventory 1, generation 2
        AgentSuspect
        AttemptLost Inventory 1: the agent was silent for 120 s
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 2
        Enrolled boot 2, generation 3
        StageStarted Inventory 2, generation 4
        EvidenceReceived Inventory 2
        StageJudged Inventory 2: pass
        StageStarted SpecValidate 1, generation 5
        EvidenceReceived SpecValidate 1
        StageJudged SpecValidate 1: pass
        StageStarted SMART 1, generation 6
        EvidenceReceived SMART 1
        StageJudged SMART 1: pass
        StageStarted Reporting 1, generation 7
        EvidenceReceived Reporting 1
        StageJudged Reporting 1: pass
        RunCompleted pass
        Sealed
    ");
}

#[tokio::test]
async fn a_stage_without_evidence_three_times_is_an_error_of_the_runner() {
    let bench = Bench::new().await;
    let (run, _) = bench.running().await;
    for _ in 0..2 {
        bench.after(120).await;
        bench.power(run, true).await;
        bench.after(60).await;
        bench.enrol().await;
    }
    bench.after(120).await;
    let view = bench.check(run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Error));
    assert_eq!((view.state(), view.stages[0].attempts.len()), (RunState::FailedHolding, 3));
    insta::assert_snapshot!(view.stages[0].judgement().expect("judged").message, @r"3 tries without evidence; the last: the agent was silent for 120 s");
    // A retry has three tries of its own.
    bench.decide(run, DecisionKind::Retry, "").await.expect("held");
    bench.power(run, true).await;
    bench.after(60).await;
    bench.enrol().await;
    bench.after(120).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.stages[0].attempts.len()), (RunState::Running, 4));
    assert!(matches!(view.stages[0].attempts[3].outcome, AttemptOutcome::Lost(_)));

    // Waived, a runner's error says nothing about the machine; abandoned, the run has failed.
    bench.decide(run, DecisionKind::Cancel, "").await.expect("running");
    bench.power(run, true).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result), (RunState::Cancelled, None));
}

#[tokio::test]
async fn a_reboot_in_the_middle_of_a_stage_is_found_and_the_stage_begins_again() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SMART").await;
    bench.clock.advance(assay_model::Micros::seconds(40));
    let back = bench.enrol().await;
    let view = bench.check(run).await;
    let smart = &view.stages[2];
    assert_eq!(
        smart.attempts[0].outcome,
        AttemptOutcome::Lost("the machine rebooted in the middle of it".to_owned())
    );
    assert_eq!(smart.attempts.len(), 2);
    assert_eq!(view.power.len(), 1, "it came back by itself");
    let codes: Vec<_> = view.run_findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["MachineRebooted"]);
    bench.collect(&back, "SMART", &canned::evidence("SMART")).await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
    assert_eq!(view.findings().iter().filter(|f| f.code == "MachineRebooted").count(), 1);
}

#[tokio::test]
async fn a_stage_that_takes_too_long_is_tried_again_on_the_same_boot() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let timeout = i64::from(bench.view(run).await.stages[0].plan.timeout_s);
    // The agent is alive all the while.
    for _ in 0..timeout / 10 {
        bench.after(10).await;
        assert!(bench.heard(&agent).await);
    }
    let view = bench.check(run).await;
    assert_eq!(
        view.stages[0].attempts[0].outcome,
        AttemptOutcome::Lost(format!("it did not end within {timeout} s"))
    );
    assert_eq!((view.stages[0].attempts.len(), view.power.len()), (2, 1));
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the next try") };
    assert_eq!((attempt, generation), (2, view.stages[0].attempts[1].generation));
    bench.up_to(&agent, "the end").await;
    let (_, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
}

#[tokio::test]
async fn a_held_machine_that_falls_silent_is_shown_once() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    for _ in 0..20 {
        bench.after(60).await;
    }
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.power.len()), (RunState::FailedHolding, 1));
    assert_eq!(bench.news(run).await.iter().filter(|n| *n == "AgentSuspect").count(), 1);
}
