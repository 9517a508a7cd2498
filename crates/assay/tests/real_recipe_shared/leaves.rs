//! Recipes that leave something, or would take something of others'.

use crate::world::{World, stack_of};

#[tokio::test]
async fn what_will_not_go_is_told_by_kind_name_and_age_and_taken_away_when_it_can_be() {
    let world = World::new().await;
    let stack = stack_of("static-site", 5);
    let mut running = world.start("static-site", &["--seed", "5"]).await;
    running.says("Custom began").await;
    // Somebody holds the app's volume: Docker does not remove it then.
    let holder = format!("create --name holder --network none -v {stack}_content:/held static-web:1.0");
    world.docker(&holder).await;
    let tested = running.ended().await;
    assert_eq!(tested.code, Some(1), "{}", tested.said);
    let left = tested.critical("LeftBehind");
    let [left] = left.as_slice() else { panic!("one thing stays: {left:#?}") };
    let told =
        left.starts_with(&format!("volume {stack}_content (")) && left.contains("s old) is still there");
    assert!(told, "{left}");
    let report = tested.report();
    let unclaimed = report.unverified.iter().find(|words| words.contains("container holder"));
    assert!(unclaimed.is_some_and(|words| words.contains("left alone")), "{:#?}", report.unverified);
    // Nobody holds it any more: whoever comes next takes it away, and leaves the stranger alone.
    world.docker("rm holder").await;
    let stays = world.left_of_runs(&[&stack]).await;
    assert_eq!(stays, [format!("config assay-run-{stack}"), format!("volume {stack}_content")]);
    let next = world.test("static-site", &["--seed", "6", "--quick"]).await;
    assert_eq!(next.code, Some(0), "{}", next.said);
    assert_eq!(world.left_of_runs(&[&stack, &stack_of("static-site", 6)]).await, [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn a_name_that_may_be_somebody_else_s_is_refused() {
    let world = World::new().await;
    world.docker("volume create site-cache").await;
    let tested = world.test("leaves-a-volume", &["--seed", "5"]).await;
    assert_eq!(tested.code, Some(1), "{}", tested.said);
    let refused = tested.critical("ReachesOut");
    assert!(refused.iter().any(|why| why.contains("`site-cache` is a name that others")), "{refused:#?}");
    let volumes = world.docker("volume ls --quiet").await;
    assert_eq!(volumes.trim(), "site-cache");
    world.end().await;
}
