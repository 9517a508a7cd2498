//! Releases and what changed since, with a real checkout.

use std::path::Path;

use assay_process::Cmd;
use assay_recipe::{
    Recipe,
    lint::{LintReport, RuleResult, Verdict, lint},
    proposals::Known,
    versions::{Checkout, Version, VersionsError},
};
use insta::assert_snapshot;

const COMPOSE: &str = r#"version: "3.8"
services:
  app:
    image: example/app:1.0
    configs: [{source: conf, target: /conf}]
    deploy: {labels: ["coop-cloud.${STACK_NAME}.version=1.0.0+1.0"]}
configs:
  conf: {name: "${STACK_NAME}_conf_${CONF_VERSION}", file: app.conf, template_driver: golang}
"#;

async fn git(folder: &Path, arguments: &[&str]) {
    let who = ["-c", "user.name=Author", "-c", "user.email=author@example.org", "-c", "commit.gpgsign=false"];
    Cmd::new("git").args(who).args(arguments.iter().copied()).cwd(folder).run_ok().await.unwrap();
}

async fn commit(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(folder, &["add", "-A"]).await;
    git(folder, &["commit", "-q", "--allow-empty", "-m", "a change"]).await;
}

fn rule<'r>(report: &'r LintReport, id: &str) -> &'r RuleResult {
    report.results.iter().find(|result| result.rule == id).unwrap()
}

/// A recipe with one release.
async fn released() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q", "-b", "main"]).await;
    let files = [
        ("compose.yml", COMPOSE),
        ("abra.sh", "export CONF_VERSION=v1\n"),
        ("app.conf", "listen 80\n"),
        (".env.sample", "TYPE=x\n"),
        ("release/1.0.0+1.0", "The first one.\n"),
    ];
    commit(folder.path(), &files).await;
    git(folder.path(), &["tag", "-a", "1.0.0+1.0", "-m", "first"]).await;
    folder
}

#[tokio::test]
async fn releases_are_read_from_tags() {
    let folder = released().await;
    let path = folder.path();
    commit(path, &[("release/1.0.1+1.0", "A mend.\n")]).await;
    git(path, &["tag", "1.0.1+1.0"]).await;
    git(path, &["tag", "before-the-move"]).await;
    commit(path, &[("release/1.10.0+1.1", "New.\n")]).await;
    git(path, &["tag", "-a", "1.10.0+1.1", "-m", "third"]).await;
    git(path, &["tag", "-a", "1.9.0+1.1", "-m", "a lower one at the same commit"]).await;
    commit(path, &[("README.md", "# X\n")]).await;

    let checkout = Checkout::open(path).await.unwrap();
    let releases = checkout.releases().await.unwrap();
    let told: Vec<String> = releases
        .releases
        .iter()
        .map(|release| format!("{} annotated {}", release.tag, release.annotated))
        .collect();
    assert_snapshot!(told.join("\n"), @r"
    1.0.0+1.0 annotated true
    1.0.1+1.0 annotated false
    1.9.0+1.1 annotated true
    1.10.0+1.1 annotated true
    ");
    assert_eq!(releases.other_tags, ["before-the-move"]);

    let previous =
        async |revision: &str| checkout.previous(revision).await.unwrap().map(|release| release.tag);
    assert_eq!(previous("HEAD").await.as_deref(), Some("1.10.0+1.1"));
    assert_eq!(previous("1.10.0+1.1").await.as_deref(), Some("1.0.1+1.0"));
    assert_eq!(previous("1.0.0+1.0").await, None);
    assert_eq!(releases.releases.last().unwrap().commit, checkout.commit("HEAD~1").await.unwrap());
    assert_eq!(checkout.head().await.unwrap().len(), 40);

    let notes = async |version: &str| {
        checkout.release_notes("HEAD", &Version::parse(version).unwrap()).await.unwrap()
    };
    assert_eq!(notes("1.0.1+1.0").await.as_deref(), Some("A mend.\n"));
    assert_eq!(notes("9.9.9").await, None);
    assert_eq!(checkout.file("1.0.0+1.0", "README.md").await.unwrap(), None);
    assert!(matches!(checkout.commit("nothing").await, Err(VersionsError::Refused { .. })));
    assert!(matches!(checkout.commit("--help").await, Err(VersionsError::Refused { .. })));
}

#[tokio::test]
async fn a_folder_within_a_checkout_is_not_taken_for_it() {
    let folder = released().await;
    let below = folder.path().join("release");
    let error = Checkout::open(&below).await.unwrap_err();
    assert!(error.to_string().contains("is not the top folder of a Git checkout"), "{error}");
}

#[tokio::test]
async fn a_config_that_changed_needs_a_new_version() {
    let folder = released().await;
    let path = folder.path();
    let drift = async || rule(&lint(&Recipe::open(path).unwrap()).await, "A001").clone();

    assert_eq!(drift().await.verdict, Verdict::Skip, "the first release has none before it");
    commit(path, &[("README.md", "# X\n")]).await;
    assert_eq!(drift().await.verdict, Verdict::Pass);

    // Not committed yet: the lint is about the files as they are.
    std::fs::write(path.join("app.conf"), "listen 8080\n").unwrap();
    let found = drift().await;
    assert_eq!(found.verdict, Verdict::Fail);
    assert_snapshot!(found.findings[0].message, @"the content changed since 1.0.0+1.0, and `CONF_VERSION` did not");
    assert_eq!(found.findings[0].file, "app.conf");

    std::fs::write(path.join("abra.sh"), "export CONF_VERSION=v2\n").unwrap();
    assert_eq!(drift().await.verdict, Verdict::Pass);

    std::fs::write(path.join("app.conf"), "listen 80\n").unwrap();
    std::fs::write(path.join("abra.sh"), "export CONF_VERSION=v1\n").unwrap();
    std::fs::write(path.join("compose.yml"), COMPOSE.replace(", template_driver: golang", "")).unwrap();
    assert_snapshot!(drift().await.findings[0].message, @"its `template_driver` changed since 1.0.0+1.0, and `CONF_VERSION` did not");
}

#[tokio::test]
async fn a_release_that_cannot_be_read_is_unverified() {
    let folder = released().await;
    commit(folder.path(), &[("compose.yml", "services: [\n")]).await;
    git(folder.path(), &["tag", "-a", "1.1.0+1.0", "-m", "broken"]).await;
    commit(folder.path(), &[("compose.yml", COMPOSE)]).await;
    let report = lint(&Recipe::open(folder.path()).unwrap()).await;
    let found = rule(&report, "A001");
    assert_eq!(found.verdict, Verdict::Unverified);
    assert_snapshot!(found.reason.as_deref().unwrap(), @"the release before cannot be read: release 1.1.0+1.0 cannot be read: compose.yml:1: this is no YAML that can be read: unclosed bracket '['");
}

#[tokio::test]
async fn a_lightweight_tag_is_found() {
    let folder = released().await;
    commit(folder.path(), &[("README.md", "# X\n")]).await;
    git(folder.path(), &["tag", "1.1.0+1.0"]).await;
    let report = lint(&Recipe::open(folder.path()).unwrap()).await;
    let found = rule(&report, "R014");
    assert_eq!(found.verdict, Verdict::Fail);
    assert_eq!(found.findings[0].message, "the tag `1.1.0+1.0` is lightweight");
    for id in ["R006", "R013"] {
        assert_eq!(rule(&report, id).verdict, Verdict::NotChecked);
    }
}

#[tokio::test]
async fn what_a_recipe_could_be_upgraded_to() {
    let folder = released().await;
    let told = async |tags: &[&str]| {
        let known = Known::of(&Recipe::open(folder.path()).unwrap()).await;
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let mut proposals = known.proposals(vec![Ok(tags)]);
        proposals.recipe = "shop".to_owned();
        let image = proposals.images.remove(0);
        let newer = image
            .newer
            .iter()
            .zip(&image.next_versions)
            .map(|(newer, next)| format!("{} → {next}", newer.tag));
        let mut lines: Vec<String> = newer.collect();
        lines.extend(image.problem);
        lines.extend(
            proposals.checklist.iter().map(|item| format!("{:?} {:?}: {}", item.state, item.task, item.what)),
        );
        format!("{} {:?} {:?}\n{}", image.image, image.services, image.files, lines.join("\n"))
    };
    assert_snapshot!(told(&["1.0", "1.1", "1.9", "2.0", "2.0-rc1"]).await, @r#"
    example/app ["app"] ["compose.yml"]
    1.9 → 1.1.0+1.9
    2.0 → 2.0.0+2.0
    Todo VersionLabel: it says 1.0.0+1.0, and 1.0.0+1.0 is released; raise it with the change
    Unknown ConfigVersions: there is no release before this
    Todo ReleaseNotes: write release/<version> with the new version
    Unknown NewSettings: there is no release before this
    Done Lint: no error
    Done AnnotatedTag: 1.0.0+1.0 is released
    "#);
    // The release that follows, half done.
    commit(
        folder.path(),
        &[
            ("compose.yml", &COMPOSE.replace("1.0.0+1.0", "1.1.0+1.1").replace("app:1.0", "app:1.1")),
            ("app.conf", "listen 8080\n"),
            (".env.sample", "TYPE=x\nMAIL_FROM=\nLIMIT=5\n"),
        ],
    )
    .await;
    assert_snapshot!(told(&["1.0", "1.1"]).await, @r#"
    example/app ["app"] ["compose.yml"]
    Done VersionLabel: it says 1.1.0+1.1, after 1.0.0+1.0
    Todo ConfigVersions: configs.conf: the content changed since 1.0.0+1.0, and `CONF_VERSION` did not
    Todo ReleaseNotes: write release/1.1.0+1.1: what changed, and what an operator has to do
    Todo NewSettings: operators of 1.0.0+1.0 have to set MAIL_FROM: say so in the release notes, which makes it a major version
    Todo Lint: `assay recipe lint` finds errors: A001
    Todo AnnotatedTag: after the merge: git tag --annotate 1.1.0+1.1
    "#);
}
