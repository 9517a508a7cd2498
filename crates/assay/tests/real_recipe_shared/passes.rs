//! Recipes in good order, and what they leave alone.

use assay_model::RunResult;

use crate::world::{World, stack_of};

const ALL_PASS: &str = "Lint pass, Install pass, Upgrade pass, Backup pass, Restore pass, Custom pass, Teardown pass, Reporting pass";

#[tokio::test]
async fn a_recipe_passes_beside_neighbours_whose_names_begin_alike_and_leaves_nothing() {
    let world = World::new().await;
    let stack = stack_of("static-site", 0x00ab_cdef);
    let neighbours = [format!("{stack}_d"), "shop".to_owned()];
    for neighbour in &neighbours {
        world.neighbour(neighbour).await;
    }
    let mut before = Vec::new();
    for neighbour in &neighbours {
        before.extend(world.things_of(neighbour).await);
    }
    let census = world.census().await;
    let tested = world.test("static-site", &["--seed", "11259375"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    assert_eq!((report.run.result, tested.verdicts().as_str()), (Some(RunResult::Pass), ALL_PASS));
    assert_eq!(report.ladder.map(|ladder| ladder.level), Some(5));
    for (check, saw) in [
        ("what stays", "nothing"),
        ("the stack that is restored into", "nothing of the old one"),
        ("deployments of a stack", "2"),
    ] {
        assert_eq!(tested.seen(check), saw, "{check}");
    }
    // The neighbours' image was there; nothing had to be brought, and the record says so.
    let otherwise = report.findings.iter().find(|finding| finding.code == "DeployedOtherwise");
    let otherwise = &otherwise.expect("networks are told").message;
    assert!(otherwise.contains(&format!("network proxy: {stack}_proxy, of the run's own")), "{otherwise}");
    let results = std::fs::read_to_string(tested.out.join("results.json")).expect("results");
    assert!(results.contains(r#""ground": "shared""#), "{results}");
    assert!(tested.said.contains("shared_swarm"), "the manifest says it: {}", tested.said);
    // Not a thing more than before, and not one less.
    let left: Vec<String> = world.census().await.since(&census).iter().map(ToString::to_string).collect();
    assert_eq!(left, [""; 0]);
    let mut after = Vec::new();
    for neighbour in &neighbours {
        after.extend(world.things_of(neighbour).await);
    }
    assert_eq!(before, after);
    assert!(before.iter().any(|thing| thing.starts_with(&format!("secret {stack}_d_key_v1"))), "{before:#?}");
    world.end().await;
}

#[tokio::test]
async fn an_app_with_a_database_keeps_its_rows_and_its_images_stay_for_the_next_run() {
    let world = World::new().await;
    let tested = world.test("ledger", &["--seed", "7"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    assert_eq!(tested.verdicts(), ALL_PASS);
    let kept = tested.seen("images that were brought into the shared swarm");
    assert!(kept.contains("ledger:1.0") && kept.contains("postgres:15"), "{kept}");
    assert_eq!(world.left_of_runs(&[&stack_of("ledger", 7)]).await, [""; 0]);
    // What is there is not brought once more, and another image under its name is not taken for it.
    let again = world.test("ledger", &["--seed", "8", "--quick"]).await;
    assert_eq!(again.code, Some(0), "{}", again.said);
    let report = again.report();
    let teardown = report.stages.iter().find(|stage| stage.name == "Teardown").expect("a stage");
    assert!(!teardown.checks.iter().any(|check| check.name.starts_with("images")), "{teardown:#?}");
    for tag in ["ledger:1.0", "ledger:1.1", "ledger:2.0"] {
        world.docker(&format!("tag postgres:15 {tag}")).await;
    }
    let other = world.test("ledger", &["--seed", "9", "--quick"]).await;
    assert_ne!(other.code, Some(0));
    assert!(other.said.contains("has another image under the name ledger:"), "{}", other.said);
    assert_eq!(world.left_of_runs(&[&stack_of("ledger", 9)]).await, [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn a_dependency_is_deployed_beside_the_app_and_reached_by_it_and_goes_with_it() {
    let world = World::new().await;
    let recipes = world.checkout("ledger").await.parent().expect("a folder").display().to_string();
    let settings = world.checkout("static-site").await.join("tests/assay.toml");
    let text = std::fs::read_to_string(&settings).expect("settings");
    let more = "[[dependencies]]\nname = \"books\"\nrecipe = \"ledger\"\n";
    std::fs::write(&settings, format!("{text}\n{more}")).expect("written");
    let tested = world.test("static-site", &["--seed", "3", "--quick", "--recipes", &recipes]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    assert_eq!(tested.seen("what stays"), "nothing");
    assert_eq!(tested.seen("deployments of a stack"), "2");
    let report = tested.report();
    let led = report.findings.iter().find(|found| found.message.contains("lead to the run's proxy"));
    assert!(led.is_some_and(|found| found.code == "DeployedOtherwise"), "{:#?}", report.findings);
    assert_eq!(world.left_of_runs(&[&stack_of("static-site", 3)]).await, [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn two_runs_at_once_do_not_meet_and_one_name_is_given_once() {
    let world = World::new().await;
    let mut one = world.start("static-site", &["--seed", "1"]).await;
    one.says("Upgrade began").await;
    // The same seed gives the same stack: that is refused, and disturbs nobody.
    let same = world.test("static-site", &["--seed", "1", "--quick"]).await;
    assert_ne!(same.code, Some(0));
    let stack = stack_of("static-site", 1);
    assert!(same.said.contains(&format!("another run has the stack {stack}")), "{}", same.said);
    let other = world.test("dangling-depends-on", &["--seed", "1", "--quick"]).await;
    let one = one.ended().await;
    for tested in [&one, &other] {
        assert_eq!(tested.code, Some(0), "{}", tested.said);
        assert_eq!(tested.seen("what stays"), "nothing");
    }
    assert_eq!(one.verdicts(), ALL_PASS);
    assert_eq!(world.left_of_runs(&[&stack, &stack_of("dangling-depends-on", 1)]).await, [""; 0]);
    world.end().await;
}
