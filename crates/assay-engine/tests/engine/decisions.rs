//! From pass to fail, and what operators make of a failure.

use assay_engine::EngineError;
use assay_engine::agents::Todo;
use assay_engine::requests::VetOptions;
use assay_engine::runners::Order;
use assay_model::event::PowerAction;
use assay_model::{DecisionKind, RunResult, RunState, Verdict};
use assay_testkit::{Bench, canned};

use crate::{story, wrong_disk};

#[tokio::test]
async fn a_healthy_machine_passes() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "the end").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(
        (view.state(), view.result, view.overridden),
        (RunState::Completed, Some(RunResult::Pass), false)
    );
    assert_eq!(signed, "PASSED");
    assert_eq!(bench.news(run).await, ["RunStarted", "RunCompleted"]);
    let lines = bench.lines(run).await;
    insta::assert_snapshot!(lines[..11].join("\n"), @r"
        RunCreated web-3
        Admitted bench
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 1
        Enrolled boot 1, generation 1
        StageStarted Inventory 1, generation 2
        PostMortem boot 1, 0 records
        EvidenceReceived Inventory 1
        StageJudged Inventory 1: pass
        StageStarted SpecValidate 1, generation 3
    ");
    // Every stage begins, brings evidence and is judged, once and in the plan's order.
    let began: Vec<_> =
        lines.iter().filter_map(|l| l.strip_prefix("StageStarted ")?.split(' ').next()).collect();
    let planned: Vec<_> = view.stages.iter().map(|s| s.plan.name.as_str()).collect();
    assert_eq!(began, planned);
    insta::assert_snapshot!(lines[lines.len() - 4..].join("\n"), @r"
        EvidenceReceived Reporting 1
        StageJudged Reporting 1: pass
        RunCompleted pass
        Sealed
    ");
    let Todo::Shutdown { reason } = bench.todo(&agent).await else {
        panic!("the machine is not needed any more")
    };
    assert_eq!(reason, "run 1 is Completed");
    let addenda = bench.engine.store().addenda(run).await.expect("read");
    assert_eq!(addenda.iter().map(|a| a.kind.as_str()).collect::<Vec<_>>(), ["ReportStored@1"]);
}

#[tokio::test]
async fn a_failure_is_held_retried_and_passes() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    let held = bench.check(run).await;
    assert_eq!((held.state(), held.failed_stage()), (RunState::FailedHolding, Some("SpecValidate")));
    assert!(matches!(bench.todo(&agent).await, Todo::Hold { .. }));
    assert_eq!(bench.news(run).await, ["RunStarted", "SpecMismatch", "RunHeld"]);

    bench.clock.advance(assay_model::Micros::seconds(10));
    assert!(bench.heard(&agent).await);
    bench.decide(run, DecisionKind::Retry, "the disk was put back").await.expect("held");
    let again = bench.view(run).await;
    assert_eq!((again.state(), again.failed_stage(), again.hold_until), (RunState::Running, None, None));
    bench.from_on(&agent, "SpecValidate").await;

    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.result, view.overridden, signed.as_str()), (Some(RunResult::Pass), false, "PASSED"));
    assert_eq!(view.stages[1].attempts.len(), 2);
    assert_eq!(view.power.len(), 1, "the machine was on: nobody switched it again");
    assert_eq!(view.decisions[0].stage.as_deref(), Some("SpecValidate"));
}

#[tokio::test]
async fn a_waived_failure_is_on_the_verdict_for_ever() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    for reason in ["", " \n "] {
        let refused = bench.decide(run, DecisionKind::Waive, reason).await.expect_err("a reason is needed");
        assert!(
            matches!(&refused, EngineError::Invalid(why) if why.contains("needs a reason")),
            "{refused:?}"
        );
    }
    assert_eq!(bench.view(run).await.state(), RunState::FailedHolding);
    bench.decide(run, DecisionKind::Waive, "it is the spare").await.expect("held");
    bench.rest(&agent).await;

    // The disk S2 is there for SMART; only the waived stage was red.
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(
        (view.state(), view.result, view.overridden),
        (RunState::Completed, Some(RunResult::Pass), true)
    );
    assert_eq!(signed, "WARNED");
    assert_eq!(view.stages[1].verdict(), Some(Verdict::Fail), "a waiver does not change what was found");
    assert!(view.stages[1].waived);
    let late = bench.decide(run, DecisionKind::Retry, "").await.expect_err("it is over");
    assert!(matches!(late, EngineError::Illegal(_)), "{late:?}");
    bench.check(run).await;
}

#[tokio::test]
async fn an_abandoned_run_gives_its_machine_back() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    bench.decide(run, DecisionKind::Abandon, "").await.expect("held");
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(
        (view.state(), view.result, signed.as_str()),
        (RunState::Released, Some(RunResult::Fail), "FAILED")
    );
    assert!(matches!(bench.todo(&agent).await, Todo::Shutdown { .. }));
    assert_eq!(bench.news(run).await, ["RunStarted", "SpecMismatch", "RunHeld", "Decided", "RunReleased"]);
    // The host is free for the next run.
    bench.clock.advance(assay_model::Micros::seconds(1));
    assert_ne!(bench.vet().await, run);
}

#[tokio::test]
async fn a_hold_ends_by_itself() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running_with(VetOptions { hold_s: 3600, ..Bench::options() }).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    bench.after(3599).await;
    assert_eq!(bench.check(run).await.state(), RunState::FailedHolding);
    bench.after(1).await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(
        (view.state(), view.result, signed.as_str()),
        (RunState::Released, Some(RunResult::Fail), "FAILED")
    );
    assert_eq!(bench.news(run).await.last().map(String::as_str), Some("RunReleased"));
}

#[tokio::test]
async fn a_run_that_does_not_hold_is_completed_as_failed() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running_with(VetOptions { holds: false, ..Bench::options() }).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!(
        (view.state(), view.result, signed.as_str()),
        (RunState::Completed, Some(RunResult::Fail), "FAILED")
    );
    assert_eq!(view.failed_stage(), Some("SpecValidate"));
    assert_eq!(bench.news(run).await, ["RunStarted", "SpecMismatch", "RunCompleted"]);
    assert!(view.unverified().contains(&"SMART: never judged".to_owned()), "{:?}", view.unverified());
}

#[tokio::test]
async fn cancelled_in_the_queue_nothing_was_ever_switched() {
    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let run = bench.vet().await;
    assert_eq!(bench.view(run).await.state(), RunState::Queued);
    assert_eq!(
        bench.engine.waiting_reason(&*bench.view(run).await),
        "no runner is connected; start one with `assay runner`"
    );
    bench.decide(run, DecisionKind::Cancel, "").await.expect("it may");
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result, signed.as_str()), (RunState::Cancelled, None, "FAILED"));
    assert!(view.power.is_empty());
}

#[tokio::test]
async fn cancelled_while_booting_the_machine_is_switched_off_and_never_on_again() {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    assert_eq!(bench.view(run).await.state(), RunState::Booting);
    // The runner has not answered yet: its cycle is overtaken by the off.
    bench.decide(run, DecisionKind::Cancel, "wrong machine").await.expect("it may");
    assert_eq!(bench.check(run).await.state(), RunState::Cancelling);
    let twice = bench.decide(run, DecisionKind::Cancel, "").await.expect_err("once is enough");
    assert!(matches!(twice, EngineError::Illegal(_)), "{twice:?}");
    let off = bench.engine.view(run).await.expect("there").power.last().expect("asked").job.clone();
    let order = assay_engine::runners::order(&*bench.view(run).await);
    assert_eq!(order, Order::Power { job: off.clone(), action: PowerAction::Off });

    // Its answer is committed; before the dispatcher's next turn the older cycle must not come up.
    bench.engine.power_done(run, off, true, "off").await.expect("taken");
    assert_eq!(assay_engine::runners::order(&*bench.view(run).await), Order::Wait);
    bench.turn().await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result), (RunState::Cancelled, None));
    assert_eq!(assay_engine::runners::order(&view), Order::End);
    let local = bench.engine.boot(canned::MAC).await.expect("an answer");
    assert!(matches!(local, assay_engine::agents::Boot::Local { .. }), "{local:?}");
}

#[tokio::test]
async fn cancelled_while_running_the_target_stays_reserved_until_it_is_off() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.decide(run, DecisionKind::Cancel, "").await.expect("it may");
    assert!(matches!(bench.todo(&agent).await, Todo::Shutdown { .. }));
    // The BMC cannot do it: the agent's word is needed, or its silence.
    bench.power(run, false).await;
    assert_eq!(bench.check(run).await.state(), RunState::Cancelling);
    let busy = bench.engine.vet(&bench.host, Bench::options()).await.expect_err("still reserved");
    assert!(matches!(busy, EngineError::Refused(_)), "{busy:?}");
    bench.engine.off(run);
    bench.turn().await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!(view.state(), RunState::Cancelled);
    insta::assert_snapshot!(story(&bench, run).await, @r"
        RunCreated web-3
        Admitted bench
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        BootServed boot 1
        Enrolled boot 1, generation 1
        StageStarted Inventory 1, generation 2
        PostMortem boot 1, 0 records
        Decided cancel by jonas
        PowerRequested off
        PowerDone failed: the BMC does not answer
        CancelConfirmed the agent said that it is switching the machine off
        Sealed
    ");
}

#[tokio::test]
async fn cancelled_with_a_silent_machine_and_no_power_switch_waits_for_the_lease() {
    let bench = Bench::new().await;
    let (run, _agent) = bench.running().await;
    bench.decide(run, DecisionKind::Cancel, "").await.expect("it may");
    bench.power(run, false).await;
    bench.after(119).await;
    assert_eq!(bench.view(run).await.state(), RunState::Cancelling);
    bench.after(1).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!(view.state(), RunState::Cancelled);
}

#[tokio::test]
async fn one_host_is_never_tested_twice_at_once() {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    let refused = bench.engine.vet(&bench.host, Bench::options()).await.expect_err("busy");
    insta::assert_snapshot!(refused, @r"web-3 is in run 1 (Booting); a host is never tested twice at once. Decide about that run first");
    bench.decide(run, DecisionKind::Cancel, "").await.expect("it may");
    bench.power(run, true).await;
    bench.sealed(run).await;
    bench.vet().await;
    let profile = VetOptions { profile: "thorough".to_owned(), ..Bench::options() };
    let unknown = bench.engine.vet(&bench.host, profile).await.expect_err("no such profile");
    assert!(matches!(&unknown, EngineError::Invalid(why) if why.contains("`thorough`")), "{unknown:?}");
}

#[tokio::test]
async fn a_muted_check_cannot_fail_the_run_and_the_verdict_says_that_it_was_muted() {
    let bench = Bench::new().await;
    // First find out which codes the wrong disk has: muting less than all of them changes nothing.
    let (run, agent) = bench.running_with(VetOptions { holds: false, ..Bench::options() }).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    let mut codes: Vec<String> = bench.sealed(run).await.0.findings().into_iter().map(|f| f.code).collect();
    codes.sort();
    codes.dedup();
    assert!(!codes.is_empty());

    bench.clock.advance(assay_model::Micros::seconds(60));
    let options = VetOptions { muted: codes.clone(), holds: false, ..Bench::options() };
    let (run, agent) = bench.running_with(options).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &wrong_disk()).await;
    bench.rest(&agent).await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.result, signed.as_str()), (Some(RunResult::Pass), "WARNED"));
    assert_eq!(view.unverified().last(), Some(&format!("checks switched off: {}", codes.join(", "))));
}
