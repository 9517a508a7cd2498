//! Recipes with dependencies, whole: a provider that people sign in at, a browser that does, and another recipe deployed first.
//!
//! Needs what `cargo xtask providers` makes (before this is built), root, Docker and Chromium with its driver.

mod canary;

use assay_model::{RunResult, Severity, Verdict};

use canary::Canary;

#[tokio::test]
async fn somebody_signs_in_at_the_provider_in_a_browser() {
    let run = Canary::checkout("sso").await.test(&[]).await;
    assert_eq!(run.report.run.result, Some(RunResult::Pass), "{}", run.said);
    assert_eq!(run.level(), Some(5));
    let login = run.artifact("browser-login.log");
    assert!(login.contains("signed in as Ada Lovelace"), "{login}");
    // It was the real thing: the page, the code, the token, and who that is.
    let provider = run.artifact("dependency-sso.log");
    for step in ["GET /auth 303", "GET /interaction/", "POST /token 200", "GET /me 200"] {
        assert!(provider.contains(step), "{step} is not in\n{provider}");
    }
    // One deployment, and one more for the restore: a provider is none.
    assert_eq!(run.check("Teardown", "deployments of a stack"), ("2".to_owned(), "2".to_owned()));
    let otherwise = run.report.findings.iter().find(|finding| finding.code == "DeployedOtherwise");
    let otherwise = &otherwise.expect("it is told that services are led to the proxy").message;
    assert!(otherwise.contains("lead to the run's proxy"), "{otherwise}");
}

#[tokio::test]
async fn a_wrong_redirect_fails_the_browser_s_test_and_what_it_saw_is_kept() {
    let run = Canary::checkout("sso-wrong-redirect").await.test(&[]).await;
    assert_eq!(run.report.run.result, Some(RunResult::Fail), "{}", run.said);
    assert_eq!(run.level(), Some(3));
    let critical: Vec<_> =
        run.report.findings.iter().filter(|finding| finding.severity == Severity::Critical).collect();
    let [finding] = critical.as_slice() else { panic!("one finding was to be expected: {critical:#?}") };
    assert_eq!(
        (finding.code.as_str(), finding.stage.as_ref().map(assay_model::StageName::as_str)),
        ("TestFailed", Some("Custom"))
    );
    assert!(finding.message.contains("the provider does not ask who it is"), "{}", finding.message);
    assert!(run.artifact("browser-login.html").contains("invalid_redirect_uri"));
    let picture = run.bytes("browser-login.png");
    assert_eq!(picture.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()));
    assert!(run.artifact("dependency-sso.log").contains("invalid_redirect_uri"));
}

/// The same provider, out of the runner's hand.
#[tokio::test]
async fn a_warm_provider_gives_the_run_a_realm() {
    let canary = Canary::checkout("sso").await;
    canary.change("tests/assay.toml", |settings| {
        settings.replace("provider = \"oidc\"", "provider = \"oidc\"\nkind = \"warm\"")
    });
    let run = canary.test(&["--quick"]).await;
    assert_eq!(run.report.run.result, Some(RunResult::Pass), "{}", run.said);
    assert!(run.artifact("browser-login.log").contains("signed in as Ada Lovelace"));
    assert!(run.artifact("dependency-sso.log").contains("POST /token 200"));
}

#[tokio::test]
async fn another_recipe_is_deployed_first_and_counts() {
    let canary = Canary::checkout("static-site").await;
    canary.depend_on_ledger();
    let others = Canary::checkout("ledger").await;
    let recipes = others.parent();

    let run = canary.test(&["--quick", "--recipes", &recipes]).await;
    assert_eq!(run.report.run.result, Some(RunResult::Pass), "{}", run.said);
    let asked = run.artifact("functional-books.log");
    assert!(asked.contains(r#""ready": true, "release": "1.0""#), "its latest release answers: {asked}");
    assert_eq!(run.check("Teardown", "deployments of a stack"), ("2".to_owned(), "2".to_owned()));
    assert_eq!(run.check("Teardown", "what stays").1, "nothing");

    // Nobody says where it is.
    let run = canary.test(&["--quick"]).await;
    assert_eq!(run.report.run.result, Some(RunResult::Fail), "{}", run.said);
    assert_eq!(run.verdict("Install"), Some(Verdict::Fail));
    assert_eq!(run.verdict("Teardown"), Some(Verdict::Pass));
    let finding =
        run.report.findings.iter().find(|finding| finding.code == "DependencyFailed").expect("it is told");
    insta::assert_snapshot!(finding.message, @"the dependency books did not come up: there is no recipe ledger (no folder with recipes was named); name the folder that has its checkout with --recipes");
}
