//! The server stops and starts: nothing is forgotten that matters, and nothing is said twice.

use assay_model::view::AttemptOutcome;
use assay_model::{DecisionKind, Micros, RunState};
use assay_testkit::{Bench, canned};

#[tokio::test]
async fn a_restart_between_any_two_turns_changes_nothing() {
    let mut bench = Bench::new().await;
    let run = bench.vet().await;
    bench.restart().await;
    bench.turn().await;
    bench.power(run, true).await;
    bench.restart().await;
    bench.after(60).await;
    let agent = bench.enrol().await;
    for stage in ["Inventory", "SpecValidate", "SMART"] {
        bench.restart().await;
        bench.turn().await;
        bench.collect(&agent, stage, &canned::evidence(stage)).await;
    }
    bench.rest(&agent).await;
    bench.restart().await;
    bench.turn().await;
    let (view, signed) = bench.sealed(run).await;
    assert_eq!((signed.as_str(), view.power.len()), ("PASSED", 1));
    assert!(view.stages.iter().all(|s| s.attempts.len() == 1));
    assert_eq!(bench.news(run).await, ["RunStarted", "RunCompleted"]);
}

#[tokio::test]
async fn no_attempt_is_given_up_within_one_lease_of_a_start() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    // The server is away for more than a lease. The agent could not be heard: not its fault.
    bench.clock.advance(Micros::seconds(150));
    bench.restart().await;
    bench.turn().await;
    bench.after(119).await;
    assert_eq!(bench.view(run).await.stages[0].attempts[0].outcome, AttemptOutcome::Open);
    assert!(bench.heard(&agent).await);
    bench.after(31).await;
    let view = bench.check(run).await;
    // Its own time limit runs all the while: 300 s.
    assert!(
        matches!(&view.stages[0].attempts[0].outcome, AttemptOutcome::Lost(why) if why == "it did not end within 300 s")
    );
    assert_eq!(view.power.len(), 1, "it is alive: no need to switch it");
}

#[tokio::test]
async fn a_restart_makes_no_silent_agent_heard() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.after(20).await;
    assert_eq!(bench.news(run).await, ["RunStarted", "MachineSuspect"]);
    bench.restart().await;
    bench.after(20).await;
    bench.after(20).await;
    let view = bench.check(run).await;
    assert!(view.suspect_since.is_some(), "nobody has heard it");
    assert_eq!(bench.news(run).await, ["RunStarted", "MachineSuspect"], "and nobody is told twice");
    assert!(bench.heard(&agent).await);
    assert_eq!(bench.view(run).await.suspect_since, None);
}

#[tokio::test]
async fn a_hold_that_ran_out_while_the_server_was_away_ends_at_its_start() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    bench.clock.advance(Micros::seconds(200_000));
    bench.restart().await;
    // First the silent agent is suspected, 15 s after the start; the hold does not wait for that.
    bench.turn().await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!(view.state(), RunState::Released);
    let refused = bench.decide(run, DecisionKind::Retry, "").await.expect_err("too late");
    assert!(refused.to_string().contains("sealed"), "{refused}");
}

#[tokio::test]
async fn a_run_that_another_version_goes_on_with_says_so_once() {
    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let run = bench.vet().await;
    let told = async |bench: &Bench, here: &str| {
        assay_engine::dispatcher::name_older_runs(&bench.engine, here).await.expect("looked at");
        let view = bench.view(run).await;
        let told = view.run_findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>();
        told.join("; ").replace(env!("CARGO_PKG_VERSION"), "its own")
    };
    assert_eq!(told(&bench, env!("CARGO_PKG_VERSION")).await, "");
    let waited = told(&bench, "99.0").await;
    assert_eq!(waited, "the run was asked for under Assay its own and is done by 99.0");
    bench.runner_present(true);
    bench.turn().await;
    bench.power(run, true).await;
    bench.restart().await;
    let begun = told(&bench, "99.1").await;
    assert_eq!(
        begun,
        format!(
            "{waited}; the run was begun by Assay its own and goes on with 99.1: its evidence is of both"
        )
    );
    assert_eq!(told(&bench, "99.1").await, begun, "once for each version");
}
