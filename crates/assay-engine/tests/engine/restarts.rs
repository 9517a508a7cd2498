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
