//! One pull request: asked, told, superseded, cancelled, refused.

use assay_model::RunState;
use assay_pipelines::recipe::RecipeSpec;
use assay_testkit::ForgeDouble;
use assay_testkit::forge::{Dialect, Scope};

use crate::site::{REPO, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_makes_a_run_and_one_comment_tells_of_it() {
    for dialect in [Dialect::Forgejo, Dialect::GitHub] {
        let site = Site::start(dialect, "").await;
        let (pull, head) = site.pull("newer", "README.md", "newer").await;
        site.say(pull, "bob", "what about this?");
        site.say(pull, "alice", "!testme --extra\nplease");
        let told = site.told(pull, "queued").await;
        assert!(told.contains("[run 1](https://assay.example.org/runs/1)"), "{told}");
        assert!(told.contains(&format!("Commit `{head}`, asked: `!testme --extra` by `alice`.")), "{told}");
        assert!(told.contains("no runner is connected"), "it says why it waits: {told}");
        site.forge.until("the status", |forge| !forge.statuses(REPO, &head).is_empty()).await;
        let status = site.forge.statuses(REPO, &head).remove(0);
        assert_eq!((status.context.as_str(), status.state.as_str()), ("assay/recipe", "pending"));
        assert_eq!(status.target_url.as_deref(), Some("https://assay.example.org/runs/1"));

        let runs = site.runs().await;
        assert_eq!(runs.len(), 1);
        let created = &runs[0].created;
        assert_eq!((created.target.name.as_str(), created.requested_by.as_str()), ("wiki", "alice@coop"));
        let address = site.forge.url().replace("http://", "");
        assert_eq!(created.options.asked.pull_request, Some(format!("{address}/{REPO}#{pull}")));
        let spec = RecipeSpec::of(&created.spec).expect("a recipe");
        assert_eq!(spec.commit.as_deref(), Some(head.as_str()));
        assert!(spec.asked.extra && !spec.asked.quick);
        let source = spec.source.expect("it comes as a bundle");
        assert_eq!((source.trusted.as_str(), source.trusted_ref.as_str()), (site.main.as_str(), "main"));
        assert!(source.not_taken.is_empty());
        assert!(site.engine().artifacts().exists(source.bundle).await.expect("read"));
        assert!(runs[0].artifacts.iter().any(|artifact| artifact.digest == source.bundle));
        // Git was shown the token; nobody else but this forge was asked for anything.
        let asked = site.forge.asked();
        let fetched: Vec<_> = asked.iter().filter(|asked| asked.path.contains("git-upload-pack")).collect();
        assert!(
            !fetched.is_empty()
                && fetched.iter().all(|asked| asked.login.as_deref() == Some(ForgeDouble::BOT))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_decides_comes_from_the_trusted_branch_and_a_change_of_it_is_flagged() {
    let site = Site::start(Dialect::Forgejo, "").await;
    let settings = "[http]\npath = \"/whatever\"\nexpect = [500]\n";
    let (pull, head) = site.pull("eased", "tests/assay.toml", settings).await;
    site.say(pull, "alice", "!testme");
    site.told(pull, "queued").await;
    let runs = site.runs().await;
    let spec = RecipeSpec::of(&runs[0].created.spec).expect("a recipe");
    assert_eq!(spec.commit.as_deref(), Some(head.as_str()), "the change is what is tested");
    assert_eq!(spec.source.expect("a bundle").not_taken, ["tests/assay.toml"]);
    let main = serde_json::to_value(&spec.settings).expect("JSON");
    assert!(!main.to_string().contains("whatever"), "by the settings of main: {main:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_commit_takes_the_place_of_an_older_one() {
    let site = Site::start(Dialect::Forgejo, "").await;
    let (pull, first) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme");
    site.told(pull, "[run 1]").await;
    let second = site.forge.commit(REPO, "work", Some(&first), &[("README.md", "two")]).await;
    site.forge.push_git(REPO, pull, &second).await;
    site.say(pull, "alice", "!testme --quick");
    let told = site.told(pull, "[run 2]").await;
    assert!(told.contains(&second), "{told}");
    site.until(1, RunState::Superseded).await;
    assert_eq!(site.runs().await.len(), 2);
    // The older commit does not wait for ever.
    let ended = |forge: &ForgeDouble| {
        forge.statuses(REPO, &first).last().is_some_and(|status| status.state == "error")
    };
    site.forge.until("the older commit's status", ended).await;
    let said = site.forge.statuses(REPO, &first).pop().expect("told");
    assert_eq!(said.description, format!("superseded by {}", &second[..12]));
    let contexts: Vec<String> =
        site.forge.statuses(REPO, &second).into_iter().map(|status| status.context).collect();
    assert!(contexts.iter().all(|context| context == "assay/recipe-quick"), "{contexts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_is_told_and_nothing_to_cancel_too() {
    let site = Site::start(Dialect::Forgejo, "").await;
    let (pull, head) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme cancel");
    site.told(pull, "nothing to cancel").await;
    site.say(pull, "alice", "!testme");
    site.told(pull, "queued").await;
    site.say(pull, "alice", "!testme cancel");
    let told = site.told(pull, "cancelled by `alice`").await;
    assert!(told.contains("[run 1]"), "{told}");
    site.until(1, RunState::Cancelled).await;
    let ended = |forge: &ForgeDouble| {
        forge.statuses(REPO, &head).last().is_some_and(|status| status.description == "cancelled")
    };
    site.forge.until("the commit's status", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_once_and_takes_nothing_away() {
    let site = Site::start(Dialect::Forgejo, "").await;
    let (pull, _) = site.pull("work", "README.md", "one").await;
    site.say(pull, "mallory", "!testme");
    let told = site.told(pull, "may not ask for runs here").await;
    assert!(told.contains("`mallory`") && told.contains("members of apps"), "{told}");
    site.say(pull, "mallory", "!testme");
    site.say(pull, "mallory", "!testme cancel");
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "queued").await;
    assert!(!told.contains("mallory"), "{told}");
    site.say(pull, "eve", "!testme cancel");
    let told = site.told(pull, "eve may not ask").await;
    assert!(told.contains("queued") && told.contains("[run 1]"), "beside what the comment is about: {told}");
    assert_eq!(site.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_up_says_why() {
    let site = Site::start(Dialect::Forgejo, "").await;
    let (pull, _) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme --quik");
    let told = site.told(pull, "did you mean").await;
    assert!(told.contains("--quick"), "{told}");
    site.forge.close(REPO, pull, false);
    site.say(pull, "alice", "!testme");
    site.told(pull, "is not open").await;

    // The trusted branch's own settings do not read: somebody has to correct them first.
    let broken = [("tests/assay.toml", "[http]\npth = \"/\"\n")];
    site.forge.commit(REPO, "main", Some(&site.main), &broken).await;
    let (other, _) = site.pull("more", "README.md", "two").await;
    site.say(other, "alice", "!testme");
    let told = site.told(other, "error").await;
    assert!(told.contains("pth") && told.contains("trusted branch"), "{told}");
    assert!(site.runs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_set_statuses_the_comment_says_so() {
    let site = Site::start(Dialect::Forgejo, "").await;
    site.forge.remove_writer(REPO, ForgeDouble::BOT);
    site.forge.add_token(
        ForgeDouble::TOKEN,
        ForgeDouble::BOT,
        &[Scope::WriteIssue, Scope::ReadRepository, Scope::ReadOrganization, Scope::ReadUser],
    );
    let (pull, head) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "there is no commit status").await;
    assert!(told.contains("queued"), "{told}");
    assert!(site.forge.statuses(REPO, &head).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_nobody_listens_is_heard_later_and_once() {
    let mut site = Site::start(Dialect::Forgejo, "").await;
    let (pull, _) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme");
    site.told(pull, "[run 1]").await;
    site.end().await;
    let (other, _) = site.pull("more", "README.md", "two").await;
    site.say(other, "alice", "!testme");
    site.say(pull, "bob", "and this?");
    site.serve().await;
    site.told(other, "[run 2]").await;
    site.told(pull, "[run 1]").await;
    assert_eq!(site.runs().await.len(), 2, "the first was not taken twice");
}
