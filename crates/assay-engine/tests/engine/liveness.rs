//! Silence: suspect, given up, back again; reboots; stages that take too long.

use assay_engine::agents::Todo;
use assay_model::view::AttemptOutcome;
use assay_model::{DecisionKind, RunState, Verdict};
use assay_testkit::Bench;

use crate::story;

#[tokio::test]
async fn a_minute_of_silence_is_shown_and_costs_nothing() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.after(12).await;
    assert_eq!(bench.view(run).await.suspect_since, None);
    bench.after(1).await;
    assert!(bench.view(run).await.suspect_since.is_some());
    bench.after(47).await;
    assert!(bench.heard(&agent).await);
    assert_eq!(bench.view(run).await.suspect_since, None);
    bench.up_to(&agent, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
    assert!(view.stages.iter().all(|s| s.attempts.len() == 1), "no attempt was lost");
    assert_eq!(bench.news(run).await, ["RunStarted", "MachineSuspect", "RunCompleted"]);
    let lines = bench.lines(run).await;
    let count = |what: &str| lines.iter().filter(|l| l.as_str() == what).count();
    assert_eq!((count("AgentSuspect"), count("AgentReturned")), (1, 1));
}

#[tokio::test]
async fn a_machine_that_hangs_is_cycled_once_and_fails_the_stage_in_which_it_hung() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    assert!(bench.heard(&agent).await);
    bench.after(119).await;
    assert_eq!(bench.view(run).await.power.len(), 1);
    bench.after(1).await;
    let view = bench.check(run).await;
    assert_eq!((view.power.len(), &view.stages[0].attempts[0].outcome), (2, &AttemptOutcome::Open));
    bench.after(5).await;
    bench.power(run, true).await;
    bench.after(60).await;
    let back =
        bench.enrol_telling(&[("dmesg-erst-1", "<4>[  9.1] watchdog: BUG: soft lockup - CPU#1 stuck")]).await;
    assert!(!bench.heard(&agent).await, "the old boot's credential is void");
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Inventory")));
    let finding = &view.findings()[0];
    assert_eq!(finding.code, "MachineHung");
    assert_eq!(finding.evidence, ["crash-2-1-dmesg-erst-1.txt"]);
    insta::assert_snapshot!(finding.message, @"The machine fell silent during Inventory and answered only after its power was cycled: watchdog: BUG: soft lockup - CPU#1 stuck");
    assert_eq!(bench.news(run).await, ["RunStarted", "MachineSuspect", "StageFailed", "RunHeld"]);
    insta::assert_snapshot!(story(&bench, run).await, @r"
        RunCreated web-3
        Admitted bench
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 1
        Enrolled boot 1, generation 1
        StageStarted Inventory 1, generation 2
        PostMortem boot 1, 0 records
        AgentSuspect
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 2
        Enrolled boot 2, generation 3
        ArtifactStored crash-2-1-dmesg-erst-1.txt
        PostMortem boot 2, 1 records
        StageJudged Inventory 1: fail
        Held
    ");
    // Repaired, it goes on: the boot that is there is as good as any.
    bench.clock.advance(assay_model::Micros::seconds(60));
    assert!(bench.heard(&back).await);
    bench.decide(run, DecisionKind::Retry, "another module").await.expect("held");
    bench.up_to(&back, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((signed.as_str(), view.power.len()), ("PASSED", 2));
}

#[tokio::test]
async fn a_network_that_was_cut_costs_nothing_but_time() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.after(130).await;
    assert_eq!(bench.view(run).await.power.len(), 2);
    // Nobody can switch it from here, and then the cable is plugged in again.
    bench.power(run, false).await;
    bench.after(40).await;
    assert!(bench.heard(&agent).await);
    assert_eq!(bench.view(run).await.suspect_since, None);
    bench.up_to(&agent, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((signed.as_str(), view.power.len(), view.boots), ("PASSED", 2, 1));
    assert!(view.stages.iter().all(|s| s.attempts.len() == 1), "no attempt was lost");
    assert!(view.findings().is_empty(), "{:?}", view.findings());
}

#[tokio::test]
async fn a_stage_without_evidence_three_times_is_an_error_of_the_runner() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let out_of_time = async || {
        for _ in 0..30 {
            bench.after(10).await;
            assert!(bench.heard(&agent).await);
        }
    };
    for tries in 2..=3 {
        out_of_time().await;
        assert_eq!(bench.view(run).await.stages[0].attempts.len(), tries);
    }
    out_of_time().await;
    let view = bench.check(run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Error));
    assert_eq!((view.state(), view.stages[0].attempts.len()), (RunState::FailedHolding, 3));
    insta::assert_snapshot!(view.stages[0].judgement().expect("judged").message, @"3 tries without evidence; the last: it did not end within 300 s");
    // A retry has three tries of its own.
    bench.decide(run, DecisionKind::Retry, "").await.expect("held");
    out_of_time().await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.stages[0].attempts.len()), (RunState::Running, 5));
    assert!(matches!(view.stages[0].attempts[3].outcome, AttemptOutcome::Lost(_)));

    // Cancelled, the run says nothing about the machine.
    bench.decide(run, DecisionKind::Cancel, "").await.expect("running");
    bench.power(run, true).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result), (RunState::Cancelled, None));
}

/// A run in `SMART` whose machine has rebooted by itself; another boot of it is enrolled.
async fn rebooted(
    bench: &Bench,
    records: &[(&str, &str)],
) -> (assay_model::RunId, assay_testkit::ScriptedAgent) {
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SMART").await;
    bench.clock.advance(assay_model::Micros::seconds(40));
    (run, bench.enrol_telling(records).await)
}

#[tokio::test]
async fn a_machine_that_reboots_under_test_has_failed() {
    let bench = Bench::new().await;
    let (run, back) = rebooted(&bench, &[]).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("SMART")));
    assert_eq!(
        (view.stages[2].attempts.len(), view.power.len()),
        (1, 1),
        "no silent second try, and no power"
    );
    let finding = &view.findings()[0];
    assert_eq!(
        (finding.code.as_str(), finding.stage.as_ref().map(assay_model::StageName::as_str)),
        ("MachineRebooted", Some("SMART"))
    );
    insta::assert_snapshot!(finding.message, @"The machine rebooted by itself during SMART and kept no record of why");
    assert_eq!(bench.news(run).await, ["RunStarted", "StageFailed", "RunHeld"]);
    // Somebody says that it was them.
    bench.clock.advance(assay_model::Micros::seconds(5));
    bench.decide(run, DecisionKind::Retry, "I pressed the wrong button").await.expect("held");
    bench.rest(&back).await;
    let (_, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
}

#[tokio::test]
async fn a_machine_that_crashes_says_why() {
    const PANIC: &str = "Panic#1 Part1\n<0>[  101.1] mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 8\n\
        <0>[  101.2] Kernel panic - not syncing: Fatal machine check\n";
    let bench = Bench::new().await;
    let (run, _) = rebooted(&bench, &[("mce-erst-1", "\u{0}\u{1b}[2J"), ("dmesg-erst-2", PANIC)]).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("SMART")));
    let finding = &view.findings()[0];
    assert_eq!(finding.code, "MachineCrashed");
    insta::assert_snapshot!(finding.message, @"The machine crashed during SMART: Kernel panic - not syncing: Fatal machine check");
    assert_eq!(finding.evidence, ["crash-2-1-mce-erst-1.txt", "crash-2-2-dmesg-erst-2.txt"]);
    let kept: Vec<_> = view
        .artifacts
        .iter()
        .map(|a| (a.stage.as_ref().map(assay_model::StageName::as_str), a.late))
        .collect();
    assert_eq!(kept, [(Some("SMART"), false); 2], "verbatim, beside the stage that it is about");
    let bytes = bench.engine.artifacts().get(view.artifacts[1].digest).await.expect("kept");
    assert_eq!(bytes, PANIC.as_bytes());
    // Said again, because the answer was lost, it changes nothing.
    bench.engine.post_mortem(run, vec![("other".to_owned(), "BUG: x".to_owned())]).await.expect("taken");
    assert_eq!(bench.check(run).await.seq, view.seq);
}

#[tokio::test]
async fn an_agent_that_tells_no_death_is_waited_for_ten_seconds() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SMART").await;
    bench.clock.advance(assay_model::Micros::seconds(40));
    bench.enrol_silently().await;
    bench.after(9).await;
    assert_eq!(bench.view(run).await.state(), RunState::Running);
    bench.after(1).await;
    let view = bench.check(run).await;
    assert_eq!(
        (view.state(), view.findings()[0].code.as_str()),
        (RunState::FailedHolding, "MachineRebooted")
    );
}

#[tokio::test]
async fn a_muted_reboot_is_tried_again() {
    let bench = Bench::new().await;
    let options =
        assay_engine::requests::VetOptions { muted: vec!["MachineRebooted".to_owned()], ..Bench::options() };
    let (run, agent) = bench.running_with(options).await;
    bench.up_to(&agent, "SMART").await;
    bench.clock.advance(assay_model::Micros::seconds(40));
    let back = bench.enrol().await;
    assert_eq!(
        bench.check(run).await.stages[2].attempts[0].outcome,
        AttemptOutcome::Lost(
            "the machine rebooted in the middle of it (MachineRebooted is switched off)".to_owned()
        )
    );
    bench.rest(&back).await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.result, signed.as_str()), (Some(assay_model::RunResult::Pass), "WARNED"));
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
    assert_eq!(bench.news(run).await.iter().filter(|n| *n == "MachineSuspect").count(), 1);
}
