//! Recipes with one fault each: red at the right stage, for the right reason, with the rest of the ladder as it is.

use crate::world::{World, critical, ladder, seen, stage, verdicts};

/// Runs a canary; what its report says: exit code, critical codes by stage, the ladder.
async fn told(world: &World, canary: &str, more: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let recipe = world.checkout(canary).await;
    let tested = world.test(&recipe, more).await;
    let report = tested.report();
    eprintln!("{canary}: {}", verdicts(&report));
    (tested.code, critical(&report), ladder(&report))
}

fn red(codes: &[&str], ladder: &str) -> (Option<i32>, Vec<String>, String) {
    (Some(1), codes.iter().map(|code| (*code).to_owned()).collect(), ladder.to_owned())
}

/// And it comes to the same again where nothing of the recipe is, from the evidence alone: with what was not committed, and
/// without an operator's settings.
#[tokio::test]
async fn a_crash_loop_is_told_with_its_last_words_and_reproduced_from_its_evidence() {
    let world = World::new().await;
    let recipe = world.checkout("crash-on-boot").await;
    std::fs::write(recipe.join("notes.txt"), "not committed\n").expect("written");
    std::fs::create_dir_all(recipe.join("tests")).expect("a folder");
    std::fs::write(recipe.join("tests/.env"), "PASSWORD=hunter2\n").expect("written");
    let tested = world.test(&recipe, &[]).await;
    let report = tested.report();
    assert_eq!((tested.code, ladder(&report).as_str()), (Some(1), "0: fail unver unver unver pass"));
    assert_eq!(critical(&report), ["Install CrashLoop"]);
    let install = stage(&report, "Install");
    assert!(install.message.contains("last words: httpd:"), "{}", install.message);
    assert!(
        install.seconds.is_some_and(|seconds| seconds < 60.0),
        "its timeout is two minutes: {:?}",
        install.seconds
    );

    std::fs::remove_dir_all(&recipe).expect("gone");
    let (code, again, out) = world.reproduce(&tested).await;
    assert_eq!((code, &again["reproduced"]), (Some(0), &true.into()), "{again:#}");
    assert_eq!(again["sentence"], "reproduced: fail again, every stage as before");
    let left_out = "tests/.env: it is not committed, and operators have secrets in files of that name";
    assert_eq!(again["not_in_evidence"], serde_json::json!([left_out]));
    let (then, now) = (results(&tested.out), results(&out));
    assert_eq!(then["version"]["commit"], now["version"]["commit"]);
    assert_eq!(then["version"]["changed"], serde_json::json!(["notes.txt", "tests/.env"]));
    assert_eq!(now["version"]["changed"], serde_json::json!(["notes.txt"]));
    let images = |of: &serde_json::Value| {
        let all = of["images"].as_array().cloned().unwrap_or_default();
        all.iter().map(|image| (image["reference"].clone(), image["id"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(images(&then), images(&now));
    assert!(!images(&then).is_empty());
    let kept = std::fs::read(tested.out.join("artifacts/recipe.tar")).expect("the recipe");
    assert!(!kept.windows(7).any(|bytes| bytes == b"hunter2"), "an operator's settings are in the evidence");
    world.is_clean();
}

fn results(out: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(out.join("results.json")).expect("results")).expect("JSON")
}

/// It may fail a thousand times while it waits for its database, and then it goes on failing.
#[tokio::test]
async fn failing_is_not_tolerated_any_more_once_the_database_is_there() {
    let world = World::new().await;
    let recipe = world.checkout("ledger").await;
    let tests = recipe.join("tests");
    let settings = std::fs::read_to_string(tests.join("assay.toml")).expect("settings");
    let tolerant = "[deploy]\ntolerate_restarts = { app = 1000 }\ntolerate_until = { app = \"db\" }\n";
    std::fs::write(tests.join("assay.toml"), settings.replacen("[deploy]\n", tolerant, 1)).expect("written");
    let overlay = "version: \"3.8\"\nservices:\n  app:\n    entrypoint: [\"/bin/sh\", \"-c\", \"echo it gives up; exit 3\"]\n";
    std::fs::write(tests.join("compose.assay.yml"), overlay).expect("written");
    let tested = world.test(&recipe, &["--stages", "Lint"]).await;
    let report = tested.report();
    assert_eq!((tested.code, critical(&report)), (Some(1), vec!["Install CrashLoop".to_owned()]));
    let install = stage(&report, "Install");
    assert!(install.message.contains("it gives up"), "{}", install.message);
    assert!(
        install.seconds.is_some_and(|seconds| seconds < 120.0),
        "its timeout is three minutes: {install:?}"
    );
}

#[tokio::test]
async fn what_the_lint_finds_comes_true() {
    let world = World::new().await;
    let told = told(&world, "config-without-version", &["--stages", "Lint,Upgrade"]).await;
    assert_eq!(told, red(&["Lint LintA001", "Upgrade DeployRejected"], "1: pass fail unver unver fail"));
}

#[tokio::test]
async fn an_upgrade_that_loses_data_is_no_upgrade() {
    let world = World::new().await;
    let told = told(&world, "upgrade-loses-data", &["--stages", "Upgrade"]).await;
    assert_eq!(
        told,
        red(&["Upgrade HookFailed", "Upgrade UpgradeLostData"], "1: pass fail unver unver unver")
    );
}

#[tokio::test]
async fn an_upgrade_that_may_not_skip_a_release_is_told_with_the_release() {
    let world = World::new().await;
    let recipe = world.checkout("upgrade-skips-a-release").await;
    let tested = world.test(&recipe, &["--stages", "Upgrade"]).await;
    let report = tested.report();
    assert_eq!(critical(&report), ["Upgrade UpdatePaused"], "{}", tested.said);
    assert_eq!((tested.code, ladder(&report).as_str()), (Some(1), "1: pass fail unver unver unver"));
    let message = &stage(&report, "Upgrade").message;
    assert!(
        message.starts_with("upgrade from 1.0.0+1.0: app: ") && message.contains("upgrade to 1.1 first"),
        "{message}"
    );
    // From the release before it is fine.
    assert_eq!(seen(&report)["tasks of app"], "replaced");
}

#[tokio::test]
async fn a_backup_without_what_sqlite_writes_ahead_brings_no_rows_back() {
    let world = World::new().await;
    let recipe = world.checkout("backup-without-the-log").await;
    let tested = world.test(&recipe, &["--stages", "Backup,Restore"]).await;
    let report = tested.report();
    assert!(critical(&report).contains(&"Restore RestoreLostData".to_owned()), "{:?}", critical(&report));
    assert_eq!(tested.code, Some(1));
    assert!(seen(&report)["witness in rows in app (SQLite)"] != "as it was", "{:?}", seen(&report));
}

#[tokio::test]
async fn an_empty_dump_is_no_backup() {
    let world = World::new().await;
    let told = told(&world, "empty-dump", &["--stages", "Backup"]).await;
    assert_eq!(told, red(&["Backup DumpEmpty"], "1: pass unver fail unver unver"));
}

#[tokio::test]
async fn a_restore_that_brings_nothing_back_is_none() {
    let world = World::new().await;
    let told = told(&world, "restore-brings-nothing", &["--stages", "Backup,Restore"]).await;
    assert_eq!(told, red(&["Restore RestoreLostData"], "1: pass unver fail unver unver"));
}

#[tokio::test]
async fn a_test_of_the_recipes_own_that_fails_is_enough() {
    let world = World::new().await;
    let told = told(&world, "failing-test", &["--stages", "Custom"]).await;
    assert_eq!(told, red(&["Custom TestFailed"], "1: pass unver unver fail unver"));
}

#[tokio::test]
async fn a_secret_in_a_log_costs_the_verdict_and_no_rung() {
    let world = World::new().await;
    let told = told(&world, "secret-in-logs", &["--quick"]).await;
    assert_eq!(told, red(&["Teardown SecretLeaked"], "1: pass unver unver pass pass"));
}

#[tokio::test]
async fn what_dies_of_its_first_request_is_not_healed_by_a_restart() {
    let world = World::new().await;
    let told = told(&world, "dies-when-used", &["--quick"]).await;
    assert_eq!(told, red(&["Teardown DiedLater"], "1: pass unver unver pass pass"));
}
