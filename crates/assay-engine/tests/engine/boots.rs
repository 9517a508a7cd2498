//! Getting a machine to run our agent: tokens, strangers, and machines that never come up.

use assay_engine::EngineError;
use assay_engine::agents::{Applicant, Boot};
use assay_engine::requests::VetOptions;
use assay_engine::runners::Order;
use assay_model::event::PowerAction;
use assay_model::{DecisionKind, Mac, Micros, RunId, RunState};
use assay_testkit::{Bench, canned};

use crate::story;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

async fn codes(bench: &Bench, run: RunId) -> Vec<String> {
    bench.check(run).await.run_findings.iter().map(|f| f.code.clone()).collect()
}

/// A run whose machine was switched on and has fetched its boot script.
async fn booted(bench: &Bench) -> (RunId, String) {
    let run = bench.vet().await;
    bench.power(run, true).await;
    (run, bench.boot().await)
}

#[tokio::test]
async fn a_stranger_boots_locally_and_is_listed() {
    let bench = Bench::new().await;
    let stranger = Mac([2, 0, 0, 0, 0, 9]);
    for _ in 0..2 {
        let answer = bench.engine.boot(stranger).await.expect("an answer");
        let Boot::Local { reason } = answer else { panic!("{answer:?}") };
        assert_eq!(reason, "this machine is not registered with Assay");
    }
    let listed = bench.engine.store().unknown_list().await.expect("read");
    assert_eq!(listed.iter().map(|u| (u.mac, u.times)).collect::<Vec<_>>(), [(stranger, 2)]);

    // A registered machine without a run boots locally, too, and is no stranger.
    let answer = bench.engine.boot(canned::MAC).await.expect("an answer");
    assert_eq!(answer, Boot::Local { reason: "no run is open for this machine".to_owned() });
    assert_eq!(bench.engine.store().unknown_list().await.expect("read").len(), 1);
}

#[tokio::test]
async fn a_queued_run_does_not_let_its_machine_boot() {
    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let run = bench.vet().await;
    let answer = bench.engine.boot(canned::MAC).await.expect("an answer");
    assert_eq!(answer, Boot::Local { reason: "its run does not want it to boot now".to_owned() });
    assert_eq!(bench.check(run).await.boots, 0);
}

#[tokio::test]
async fn the_same_hello_again_is_the_same_enrolment() {
    let bench = Bench::new().await;
    let (run, token) = booted(&bench).await;
    let applicant = bench.applicant(&token, SECRET);
    let (first, boot) = bench.engine.hello(&applicant).await.expect("it may enrol");
    let (again, same_boot) = bench.engine.hello(&applicant).await.expect("its answer was lost");
    assert_eq!((first.generation, boot), (again.generation, same_boot));
    let enrolments = bench.lines(run).await.iter().filter(|l| l.starts_with("Enrolled")).count();
    assert_eq!((enrolments, codes(&bench, run).await), (1, vec![]));
}

#[tokio::test]
async fn a_token_enrols_one_agent_only() {
    let bench = Bench::new().await;
    let (run, token) = booted(&bench).await;
    bench.engine.hello(&bench.applicant(&token, SECRET)).await.expect("it may enrol");
    for _ in 0..5 {
        let refused = bench.engine.hello(&bench.applicant(&token, OTHER)).await.expect_err("spent");
        assert!(
            matches!(&refused, EngineError::Refused(why) if why == "the token was used before"),
            "{refused:?}"
        );
    }
    assert!(bench.engine.agent(OTHER).await.expect("asked").is_none(), "the second has no way in");
    assert!(bench.engine.agent(SECRET).await.expect("asked").is_some(), "the first one's is good");
    // Said often, told three times: nobody can fill the journal by knocking.
    assert_eq!(codes(&bench, run).await, ["TokenReused"; 3]);
}

#[tokio::test]
async fn a_token_from_another_machine_is_refused() {
    let bench = Bench::new().await;
    let (run, token) = booted(&bench).await;
    let thief = Applicant { macs: vec![Mac([2, 0, 0, 0, 0, 9])], ..bench.applicant(&token, OTHER) };
    let refused = bench.engine.hello(&thief).await.expect_err("another machine");
    assert!(
        matches!(&refused, EngineError::Refused(why) if why.contains("none of the registered addresses")),
        "{refused:?}"
    );
    assert_eq!(codes(&bench, run).await, ["TokenWrongMachine"]);
    bench.engine.hello(&bench.applicant(&token, SECRET)).await.expect("the right one still may");
}

#[tokio::test]
async fn a_token_expires() {
    let bench = Bench::new().await;
    let options = VetOptions { boot_timeout_s: 3600, ..Bench::options() };
    let run = bench.vet_with(options).await;
    bench.power(run, true).await;
    let token = bench.boot().await;
    bench.clock.advance(Micros::seconds(900));
    bench.engine.hello(&bench.applicant(&token, SECRET)).await.expect("to the second it is good");

    let (old, run_again) = (bench.boot().await, run);
    bench.clock.advance(Micros::seconds(901));
    let refused = bench.engine.hello(&bench.applicant(&old, OTHER)).await.expect_err("expired");
    assert!(matches!(&refused, EngineError::Refused(why) if why == "the token has expired"), "{refused:?}");
    assert_eq!(codes(&bench, run_again).await, ["TokenExpired"]);
}

#[tokio::test]
async fn a_newer_boot_voids_the_older_token() {
    let bench = Bench::new().await;
    let (run, old) = booted(&bench).await;
    let new = bench.boot().await;
    let refused = bench.engine.hello(&bench.applicant(&old, OTHER)).await.expect_err("voided");
    assert!(
        matches!(&refused, EngineError::Refused(why) if why == "a newer boot has voided the token"),
        "{refused:?}"
    );
    assert_eq!(codes(&bench, run).await, ["TokenVoided"]);
    let (_, boot) = bench.engine.hello(&bench.applicant(&new, SECRET)).await.expect("the newest may");
    assert_eq!(boot, 2);
}

#[tokio::test]
async fn unknown_tokens_and_short_secrets_are_refused() {
    let bench = Bench::new().await;
    let (run, token) = booted(&bench).await;
    let unknown = bench.engine.hello(&bench.applicant("made up", SECRET)).await.expect_err("unknown");
    assert!(matches!(unknown, EngineError::NotFound(_)), "{unknown:?}");
    let short = bench.engine.hello(&bench.applicant(&token, "short")).await.expect_err("guessable");
    assert!(matches!(short, EngineError::Invalid(_)), "{short:?}");
    assert!(bench.check(run).await.enrolled.is_none());
}

#[tokio::test]
async fn a_dead_cmos_battery_is_found_and_does_not_bend_time() {
    let bench = Bench::new().await;
    let (run, token) = booted(&bench).await;
    let applicant = Applicant { clock: Micros::seconds(86_400), ..bench.applicant(&token, SECRET) };
    bench.engine.hello(&applicant).await.expect("no reason to refuse");
    let view = bench.check(run).await;
    assert_eq!(codes(&bench, run).await, ["ClockSkewed"]);
    assert!(view.run_findings[0].message.contains("off by -207"), "{}", view.run_findings[0].message);
    let now = bench.engine.now();
    assert_eq!(view.enrolled.as_ref().map(|e| e.at), Some(now), "events carry the server's time");
    assert!(bench.events(run).await.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[tokio::test]
async fn a_machine_that_never_asks_for_its_script_is_held() {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    bench.power(run, true).await;
    bench.after(599).await;
    assert_eq!(bench.view(run).await.state(), RunState::Booting);
    bench.after(1).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Boot")));
    assert_eq!(codes(&bench, run).await, ["MachineNeverBooted"]);
    insta::assert_snapshot!(view.run_findings[0].message, @r"No agent enrolled within 600 s (power: ForceRestart accepted; it never asked for its boot script)");
    assert_eq!(bench.news(run).await, ["RunStarted", "BootFailed", "RunHeld"]);

    // Nothing to waive: it was never there. A retry asks for power once more.
    let waive = bench.decide(run, DecisionKind::Waive, "never mind").await.expect_err("nothing to waive");
    assert!(
        matches!(&waive, EngineError::Illegal(why) if why.to_string().contains("nothing to waive")),
        "{waive:?}"
    );
    bench.after(60).await;
    bench.decide(run, DecisionKind::Retry, "the cable was loose").await.expect("held");
    let asked = |view: &assay_model::RunView| view.power.len();
    assert_eq!((bench.view(run).await.state(), asked(&*bench.view(run).await)), (RunState::Booting, 2));
    bench.after(30).await;
    assert_eq!(asked(&*bench.view(run).await), 2, "once");
    bench.power(run, true).await;
    bench.after(30).await;
    let agent = bench.enrol().await;
    bench.up_to(&agent, "the end").await;
    let (_, signed) = bench.sealed(run).await;
    assert_eq!(signed, "PASSED");
}

#[tokio::test]
async fn a_machine_that_fetched_its_script_and_fell_silent_is_told_apart() {
    let bench = Bench::new().await;
    let (run, _) = booted(&bench).await;
    bench.after(600).await;
    let view = bench.check(run).await;
    assert!(view.run_findings[0].message.contains("it fetched its boot script"), "{:?}", view.run_findings);
}

#[tokio::test]
async fn power_that_cannot_be_switched_is_said_at_once() {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    bench.power(run, false).await;
    let view = bench.check(run).await;
    assert_eq!(view.state(), RunState::FailedHolding);
    insta::assert_snapshot!(view.run_findings[0].message, @r"The machine could not be switched on: the BMC does not answer");
    bench.decide(run, DecisionKind::Abandon, "").await.expect("held");
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.state(), signed.as_str()), (RunState::Released, "FAILED"));
}

#[tokio::test]
async fn a_runner_that_never_answers_is_said_and_its_late_answer_changes_nothing() {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    let job = bench.view(run).await.power[0].job.clone();
    bench.after(600).await;
    let view = bench.check(run).await;
    assert!(view.run_findings[0].message.contains("the runner never said"), "{:?}", view.run_findings);
    bench.engine.power_done(run, job.clone(), true, "at last").await.expect("taken");
    bench.engine.power_done(run, job, false, "no, wait").await.expect("said again, it changes nothing");
    bench.turn().await;
    let view = bench.check(run).await;
    assert_eq!(view.state(), RunState::FailedHolding);
    assert_eq!(view.power[0].outcome, Some((true, "at last".to_owned())));
    let unknown =
        bench.engine.power_done(run, "1-power-9".to_owned(), true, "").await.expect_err("no such job");
    assert!(matches!(unknown, EngineError::NotFound(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_retry_of_a_machine_that_is_off_switches_it_on_once() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    // Someone pulls the plug, changes the disk, and presses Retry an hour later.
    bench.after(3600).await;
    bench.decide(run, DecisionKind::Retry, "changed").await.expect("held");
    assert_eq!(bench.view(run).await.power.len(), 2);
    let order = bench.power(run, true).await;
    assert!(matches!(order, Order::Power { action: PowerAction::Cycle, .. }), "{order:?}");
    bench.after(90).await;
    let agent = bench.enrol().await;
    assert_eq!(bench.view(run).await.power.len(), 2, "once");
    bench.from_on(&agent, "SpecValidate").await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((view.boots, signed.as_str()), (2, "PASSED"));
}

#[tokio::test]
async fn a_machine_that_does_not_come_back_between_stages_fails_the_stage_that_it_owed() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.after(121).await;
    bench.power(run, true).await;
    bench.after(600).await;
    let view = bench.check(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("SpecValidate")));
    let findings = view.findings();
    assert_eq!(findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["MachineDidNotReturn"]);
    insta::assert_snapshot!(findings[0].message, @"The machine fell silent and did not come back within 600 s (power: ForceRestart accepted; it never asked for its boot script); it was in SpecValidate");
    assert_eq!(
        bench.news(run).await,
        ["RunStarted", "MachineSuspect", "StageFailed", "RunHeld"],
        "no SpecMismatch"
    );
    insta::assert_snapshot!(story(&bench, run).await, @r"
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
        AgentSuspect
        PowerRequested cycle
        PowerDone ok: ForceRestart accepted
        StageJudged SpecValidate 1: fail
        Held
    ");
    bench.decide(run, DecisionKind::Abandon, "dead").await.expect("held");
    let order = bench.power(run, true).await;
    assert!(
        matches!(order, Order::Power { action: PowerAction::Off, .. }),
        "no agent is left to do it: {order:?}"
    );
    let (_, signed) = bench.sealed(run).await;
    assert_eq!(signed, "FAILED");
}
