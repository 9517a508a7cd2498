//! What a recipe's runs come to over time, with real ones: a planted bug of the recipe's, one of Assay's, and a moved tag are each
//! named as what they are. Needs root, Docker's programs, restic, git, and a kernel with overlayfs.

mod world;

use assay_model::RunResult;
use assay_pipelines::recipe::over_time::changed::{CHANGED, NO_BASELINE};
use assay_pipelines::recipe::over_time::{Aspect, Results, SCHEMA, SinceGreen};

use world::World;

/// Green, then red since the image behind the same tag is another one: the red run says so before anybody runs anything again.
#[tokio::test]
async fn a_tag_that_was_moved_since_green_is_named_in_the_red_run() {
    let world = World::new().await;
    let data = world.path().join("data");
    let green = world.test(&world.images(), &data, "green").await;
    assert_eq!(green.schema, SCHEMA);
    assert_eq!(green.run.result, Some(RunResult::Pass), "{green:#?}");
    assert!(green.is_baseline(), "{:?}", green.spared);
    assert_eq!((green.flags.clean_teardown, green.flags.no_secret_leak), (Some(true), Some(true)));
    assert!(green.harness.sha256.is_some() && green.invocation.iter().any(|word| word == "--seed"));
    assert!(green.tests.iter().any(|test| test.name.starts_with("functional/")), "{:?}", green.tests);
    assert!(green.stages.iter().any(|stage| stage.pressure.is_some() && !stage.phases.is_empty()));

    let red = world.test(&world.with_moved_tag().await, &data, "red").await;
    assert_eq!(red.run.result, Some(RunResult::Fail), "{red:#?}");
    let since = red.since_green.as_ref().expect("it was compared");
    let images: Vec<&str> = since.changes(Aspect::Images).map(|change| change.message.as_str()).collect();
    assert_eq!(images.len(), 1, "{since:?}");
    assert!(images[0].starts_with("the tag static-web:1.0 was moved: it is "), "{images:?}");
    for other in [Aspect::Commit, Aspect::Harness, Aspect::Configuration, Aspect::Ipvs, Aspect::Runner] {
        assert_eq!(since.changes(other).count(), 0, "{since:?}");
    }
    // It stands in the signed report, too, and judges nothing there.
    let report = world.report("red");
    let told: Vec<_> = report.findings.iter().filter(|finding| finding.code == CHANGED).collect();
    assert!(told.iter().any(|finding| finding.message.starts_with(images[0])), "{:?}", report.findings);
}

/// Nothing was ever green here, and that is said.
#[tokio::test]
async fn a_red_run_without_a_green_one_before_it_says_so() {
    let world = World::new().await;
    let red = world.test(&world.with_moved_tag().await, &world.path().join("data"), "red").await;
    assert_eq!(red.since_green, Some(SinceGreen::NeverGreen));
    assert!(world.report("red").findings.iter().any(|finding| finding.code == NO_BASELINE));
}

/// The same three, by running two builds at two commits.
#[tokio::test]
async fn who_is_to_blame_is_said_in_one_sentence() {
    let world = World::new().await;
    let (good, bad) = (world.head().await, world.with_a_bug().await);
    let (old, broken) = (world.build("old", ""), world.build_with_broken_restic("new"));
    let images = world.images();

    let recipe = world.ab(&[&old, &old], &[&good, &bad], &images, "Lint", "recipe").await;
    assert_eq!(recipe["answer"], "recipe_regressed", "{recipe:#}");
    assert!(recipe["sentence"].as_str().is_some_and(|told| told.starts_with("recipe regressed: ")));

    let harness = world.ab(&[&old, &broken], &[&good], &images, "Backup", "harness").await;
    assert_eq!(harness["answer"], "harness_regressed", "{harness:#}");
    assert_ne!(harness["cells"][0]["harness_sha256"], harness["cells"][1]["harness_sha256"]);

    let moved = world.with_moved_tag().await;
    let drifted = world.ab(&[&old, &old], &[&good], &moved, "Lint", "world").await;
    assert_eq!(drifted["answer"], "world_drifted", "{drifted:#}");
}

/// A sweep writes what the next one is held against, and the next one says what became worse and why.
#[tokio::test]
async fn a_sweep_against_its_own_baseline_names_what_became_worse() {
    let world = World::new().await;
    let first = world.sweep(&world.images(), None, "first").await;
    assert_eq!(first["counts"]["new"], 1, "{first:#}");
    let baseline = world.path().join("first/baseline.json");
    let second = world.sweep(&world.with_moved_tag().await, Some(&baseline), "second").await;
    assert_eq!(second["rows"][0]["standing"], "worse", "{second:#}");
    let since: SinceGreen = serde_json::from_value(second["rows"][0]["since"].clone()).expect("compared");
    assert_eq!(since.changes(Aspect::Images).count(), 1, "{since:?}");
    // What is worse stays in the baseline as it was when it was good.
    let next = std::fs::read(world.path().join("second/baseline.json")).expect("written");
    let next: serde_json::Value = serde_json::from_slice(&next).expect("JSON");
    let kept: Results = serde_json::from_value(next["recipes"]["static-site"].clone()).expect("results");
    assert_eq!(kept.run.result, Some(RunResult::Pass));
}
