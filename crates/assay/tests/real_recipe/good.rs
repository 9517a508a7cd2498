//! Recipes in good order, through all stages.

use assay_model::{RunResult, Verdict};
use assay_process::Cmd;

use crate::world::{World, critical, ladder, seen, stage, verdicts};

const ALL_PASS: &str = "Lint pass, Install pass, Upgrade pass, Backup pass, Restore pass, Custom pass, Teardown pass, Reporting pass";

#[tokio::test]
async fn a_static_site_is_proven_through_all_stages() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let junit = world.path("junit.xml");
    let junit_there = junit.display().to_string();
    let tested = world.test(&recipe, &["--junit", &junit_there, "--seed", "11259375"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    assert_eq!(report.run.result, Some(RunResult::Pass));
    assert_eq!(verdicts(&report), ALL_PASS);
    assert_eq!(ladder(&report), "5: pass pass pass pass pass");
    assert_eq!(critical(&report), [""; 0]);
    // Every claim has its check.
    let seen = seen(&report);
    for (check, saw) in [
        ("service app", "runs"),
        ("tasks of app", "replaced"),
        ("the stack that is restored into", "nothing of the old one"),
        ("what stays", "nothing"),
        ("secrets", "seen nowhere"),
        // Installed once, and once more for the restore.
        ("deployments of a stack", "2"),
    ] {
        assert_eq!(seen.get(check).map(String::as_str), Some(saw), "{check}: {seen:#?}");
    }
    assert!(seen["test functional/feed"].starts_with("exit code 0"), "{seen:#?}");
    assert!(seen.keys().any(|check| check.starts_with("witness in volume content")), "{seen:#?}");
    // The domain is drawn from the seed, so that a run can be had again.
    assert!(seen.keys().any(|check| check.contains("staticsi-abcdef.test")), "{seen:#?}");
    for name in ["dockerd.log", "logs-app.txt", "functional-feed.log", "backup.json", "restore.json"] {
        let there = tested.out.join("artifacts").join(name).is_file();
        assert!(
            there,
            "{name} is not among {:?}",
            report.artifacts.iter().map(|a| &a.name).collect::<Vec<_>>()
        );
    }
    let html = std::fs::read_to_string(tested.out.join("report.html")).expect("a report");
    assert!(html.contains("LEVEL 5"), "the level is in the headline");
    let junit = std::fs::read_to_string(junit).expect("JUnit");
    assert!(junit.contains(r#"tests="8" skipped="0" failures="0" errors="0""#), "{junit}");
    let verified = Cmd::new(env!("CARGO_BIN_EXE_assay")).arg("verify").arg(tested.out.join("bundle.tar"));
    assert_eq!(verified.run().await.expect("it ran").code(), Some(0));
}

#[tokio::test]
async fn an_app_with_a_database_keeps_its_rows_through_upgrade_and_disaster() {
    let world = World::new().await;
    let recipe = world.checkout("ledger").await;
    let tested = world.test(&recipe, &[]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    assert_eq!(
        (verdicts(&report).as_str(), ladder(&report).as_str()),
        (ALL_PASS, "5: pass pass pass pass pass")
    );
    // Rows are looked for after the upgrade, and again after the restore.
    let rows: Vec<_> = report
        .stages
        .iter()
        .filter(|stage| stage.checks.iter().any(|check| check.name == "witness in rows in db (PostgreSQL)"))
        .map(|stage| (stage.name.as_str(), stage.verdict))
        .collect();
    assert_eq!(rows, [("Upgrade", Some(Verdict::Pass)), ("Restore", Some(Verdict::Pass))]);
    let seen = seen(&report);
    for ran in ["hooks/pre_upgrade", "test_upgrade", "functional/entries"] {
        let check = seen.iter().find(|(check, _)| check.ends_with(&format!("test {ran}")));
        assert!(check.is_some_and(|(_, saw)| saw.starts_with("exit code 0")), "{ran}: {seen:#?}");
    }
    assert!(seen["backup pre hook of db"].starts_with("exit code 0"), "{seen:#?}");
}

#[tokio::test]
async fn an_upgrade_is_proven_from_each_release_that_is_named() {
    let world = World::new().await;
    let recipe = world.checkout("notes").await;
    let tested = world.test(&recipe, &["--stages", "Upgrade"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    let upgrade = stage(&report, "Upgrade");
    assert!(
        upgrade.message.starts_with("1.1.0+1.0 → ") && upgrade.message.ends_with("; from 1.0.0+1.0 as well"),
        "{}",
        upgrade.message
    );
    let seen = seen(&report);
    for (check, saw) in [
        ("tasks of app", "replaced"),
        ("upgrade from 1.0.0+1.0: tasks of app", "replaced"),
        ("witness in volume notes", "as it was"),
        ("upgrade from 1.0.0+1.0: witness in volume notes", "as it was"),
        ("upgrade from 1.0.0+1.0: what stays", "nothing"),
        ("what stays", "nothing"),
        // Installed once at each of the two.
        ("deployments of a stack", "2"),
    ] {
        assert_eq!(seen.get(check).map(String::as_str), Some(saw), "{check}: {seen:#?}");
    }
    // Each release's own words are among the evidence.
    let log = std::fs::read_to_string(tested.out.join("artifacts/from-1-0-0-1-0-test_upgrade.log"));
    assert!(log.expect("a log").contains("begun with release 1.0, and still there"));
    assert!(tested.said.contains("upgrade from 1.0.0+1.0: deploying"), "{}", tested.said);
    // A quick run says what it leaves out.
    let quick = world.test(&recipe, &["--quick"]).await;
    assert!(
        quick.said.contains("neither upgrade (from 1.1.0+1.0, 1.0.0+1.0) nor backup was tried"),
        "{}",
        quick.said
    );
}

#[tokio::test]
async fn an_app_with_a_file_of_sqlite_keeps_its_rows_through_upgrade_and_disaster() {
    let world = World::new().await;
    let recipe = world.checkout("shelf").await;
    let tested = world.test(&recipe, &[]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    assert_eq!(
        (verdicts(&report).as_str(), ladder(&report).as_str()),
        (ALL_PASS, "5: pass pass pass pass pass")
    );
    let rows = |stage: &str| {
        let checks = crate::world::stage(&report, stage).checks.iter();
        checks.filter(|check| check.name == "witness in rows in app (SQLite)").count()
    };
    assert_eq!((rows("Upgrade"), rows("Restore")), (1, 1));
}

#[tokio::test]
async fn two_runs_at_once_do_not_meet() {
    let world = World::new().await;
    let (one, other) = (world.checkout("static-site").await, world.checkout("dangling-depends-on").await);
    // The same seed, so the same names, ports and addresses in both.
    let quick = ["--quick", "--seed", "7"];
    let (one, other) = tokio::join!(
        world.test_with(&one, |command| command.args(quick)),
        world.test_with(&other, |command| command.args(quick)),
    );
    for tested in [&one, &other] {
        assert_eq!(tested.code, Some(0), "{}", tested.said);
        assert_eq!(seen(&tested.report())["what stays"], "nothing");
    }
    world.is_clean();
}
