//! What one can ask for: other versions, fewer stages, a look at the stack.

use assay_model::{RunResult, Verdict};
use assay_pipelines::recipe::over_time::Results;
use assay_process::{Cmd, Signal};

use crate::world::{World, critical, ladder, report, stage, verdicts};

#[tokio::test]
async fn a_commit_is_tested_as_it_is_in_history() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    // What is changed in the folder is none of its business.
    std::fs::write(recipe.join("compose.yml"), "nothing of the sort").expect("written");
    let tested = world.test(&recipe, &["--quick", "--commit", "1.0.0+1.0"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    assert!(
        stage(&report, "Install").message.starts_with("1.0.0+1.0: 1 service up"),
        "{}",
        verdicts(&report)
    );
    assert_eq!(report.run.profile, "quick", "it never counts as the whole");
    assert_eq!(verdicts(&report), "Lint pass, Install pass, Custom pass, Teardown pass, Reporting pass");
    assert_eq!(ladder(&report), "1: pass unver unver pass pass");
}

#[tokio::test]
async fn a_folder_with_changes_says_so() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    std::fs::write(recipe.join("notes.txt"), "not committed").expect("written");
    let tested = world.test(&recipe, &["--stages", "Upgrade"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    let upgrade = stage(&report, "Upgrade");
    assert!(
        upgrade.message.starts_with("1.0.0+1.0 → ") && upgrade.message.contains("+U: "),
        "{}",
        upgrade.message
    );
    assert_eq!(
        verdicts(&report),
        "Install pass, Upgrade pass, Teardown pass, Reporting pass",
        "only what was asked for"
    );
}

#[tokio::test]
async fn a_folder_without_history_has_nothing_to_be_upgraded_from() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    std::fs::remove_dir_all(recipe.join(".git")).expect("removed");
    let tested = world.test(&recipe, &["--stages", "Upgrade"]).await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    let upgrade = stage(&report, "Upgrade");
    assert_eq!(upgrade.verdict, Some(Verdict::Skip));
    assert!(upgrade.message.contains("no release before it"), "{}", upgrade.message);
    assert!(stage(&report, "Install").message.starts_with("the folder as it is: "), "{}", verdicts(&report));
}

#[tokio::test]
async fn a_folder_that_is_no_recipe_is_told_as_one() {
    let world = World::new().await;
    let empty = world.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let tested = world.test(&empty, &[]).await;
    assert_eq!(tested.code, Some(1), "{}", tested.said);
    let report = tested.report();
    assert_eq!(critical(&report), ["Lint NoRecipe", "Install StackInvalid"]);
    assert!(
        // Files are named as they are in the recipe, wherever the runner had it.
        stage(&report, "Lint").message.starts_with("the recipe has no `compose.yml`"),
        "{}",
        stage(&report, "Lint").message
    );
    assert_eq!(ladder(&report), "0: fail skip unver unver fail");
    // Settings that do not read are refused before anything is started.
    std::fs::create_dir(empty.join("tests")).expect("a folder");
    std::fs::write(empty.join("tests/assay.toml"), "[deploy]\ntimout = \"2m\"\n").expect("written");
    let tested = world.test(&empty, &[]).await;
    assert!(tested.code.is_some_and(|code| code > 1), "{:?}", tested.code);
    assert!(tested.said.contains("timout") && tested.said.contains("timeout"), "{}", tested.said);
    assert!(report_is_absent(&tested.out));
}

fn report_is_absent(out: &std::path::Path) -> bool {
    report(out).is_none()
}

#[tokio::test]
async fn a_stack_that_is_kept_answers_until_ctrl_c() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let mut running = world.start(&recipe, &["--quick", "--keep"]).await;
    running.says("the stack is up; Ctrl-C takes it down").await;
    let report = report(&running.out).expect("the verdict is there already");
    assert_eq!(report.run.result, Some(RunResult::Pass));
    let how = &stage(&report, "Teardown").message;
    let how =
        how.strip_prefix("left up, as asked: ").unwrap_or_else(|| panic!("it says how to get in: {how}"));
    // The line as it stands there, at a shell.
    let line = how.split("; docker -H ").next().expect("the first command").to_owned();
    let asked = Cmd::new("sh").args(["-c", &line]).run().await.expect("it ran");
    assert!(
        asked.stdout_text().contains("These pages live in the volume"),
        "{line}\n{}",
        asked.stderr_text()
    );
    let traces = world.traces();
    assert!(!traces.processes.is_empty() && !traces.namespaces.is_empty(), "it runs: {traces:#?}");
    running.signal(Signal::INT);
    assert_eq!(running.ended().await, Some(0), "{:#?}", running.said);
    assert_eq!(traces.still_there(), [""; 0]);
    world.is_clean();
}

#[tokio::test]
async fn a_backup_tool_that_does_not_work_is_the_runners_fault() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let tools = world.path("tools");
    std::fs::create_dir(&tools).expect("a folder");
    std::os::unix::fs::symlink("/bin/false", tools.join("restic")).expect("a link");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a PATH"));
    let tested =
        world.test_with(&recipe, |command| command.args(["--stages", "Backup"]).env("PATH", path)).await;
    let report = tested.report();
    let backup = stage(&report, "Backup");
    assert_eq!(backup.verdict, Some(Verdict::Error), "{}: {}", verdicts(&report), backup.message);
    assert!(backup.message.contains("restic"), "{}", backup.message);
    assert!(critical(&report).iter().all(|code| !code.starts_with("Backup")), "the recipe is not blamed");
    world.is_clean();
}

#[tokio::test]
async fn a_pass_without_the_generic_checks_says_so_everywhere_and_counts_for_nothing() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let settings = recipe.join("tests/assay.toml");
    let text = std::fs::read_to_string(&settings).expect("settings");
    std::fs::write(&settings, text.replace("These pages live in the volume", "Nobody wrote this"))
        .expect("written");
    let tested = world
        .test_with(&recipe, |command| command.args(["--stages", "Custom"]).env("ASSAY_SKIP_GENERIC", "1"))
        .await;
    // What is wrong with it is what nobody looked at.
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    assert!(tested.said.contains("THE GENERIC CHECKS ARE OFF"), "{}", tested.said);
    let report = tested.report();
    let off = "checks switched off: NoAnswer, WrongStatus, WrongContent, WrongContentType";
    assert!(report.unverified.iter().any(|told| told == off), "{:?}", report.unverified);
    let html = std::fs::read_to_string(tested.out.join("report.html")).expect("a report");
    assert!(html.contains("CHECKS MUTED"), "the headline says it");
    let results = std::fs::read(tested.out.join("results.json")).expect("results");
    let results: Results = serde_json::from_slice(&results).expect("they read");
    assert!(
        results.spared.iter().any(|spared| spared == "the checks that every recipe gets were off"),
        "{:?}",
        results.spared
    );
    assert!(results.spared.iter().any(|spared| spared.starts_with("checks switched off: NoAnswer")));
    assert!(!results.is_baseline(), "later runs are not held against it");
    // Any other value leaves them on.
    let tested = world
        .test_with(&recipe, |command| command.args(["--stages", "Custom"]).env("ASSAY_SKIP_GENERIC", "0"))
        .await;
    assert_eq!((tested.code, critical(&tested.report())), (Some(1), vec!["Install WrongContent".to_owned()]));
    // A server's runs are other people's, too.
    let elsewhere = world
        .test_with(&recipe, |command| {
            command.args(["--server", "http://127.0.0.1:9", "--token", "none"]).env("ASSAY_SKIP_GENERIC", "1")
        })
        .await;
    assert!(elsewhere.code.is_some_and(|code| code > 1), "{:?}", elsewhere.code);
    assert!(elsewhere.said.contains("is for one's own machine"), "{}", elsewhere.said);
    world.is_clean();
}

#[tokio::test]
async fn the_same_again_has_the_settings_that_an_upgraded_app_has() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let change = |file: &str, from: &str, to: &str| {
        let path = recipe.join(file);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
    };
    change(
        "compose.yml",
        "    networks:\n      - proxy\n",
        "    environment:\n      SITE_MODE: ${SITE_MODE:-plain}\n    networks:\n      - proxy\n",
    );
    change(
        "tests/assay.toml",
        "[deploy]\n",
        "[stages]\nidempotence = true\n\n[deploy]\nupgrade_env = { SITE_MODE = \"fancy\" }\n",
    );
    let tested = world.test(&recipe, &["--stages", "Upgrade,Idempotence"]).await;
    let report = tested.report();
    assert_eq!((tested.code, critical(&report)), (Some(0), Vec::new()), "{}", tested.said);
    let again = stage(&report, "Idempotence");
    assert_eq!(again.message, "deployed again, and no task was replaced");
    assert_eq!(again.checks.last().map(|check| check.seen.as_str()), Some("the same tasks run"));
}
