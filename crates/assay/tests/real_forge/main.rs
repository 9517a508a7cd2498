//! From a comment in a pull request to a verdict in one: the real control plane, a real runner with a real Docker daemon, real
//! Git; the forge is played. Needs root and what `cargo xtask setup` installs.

mod image;
mod world;

use std::time::Duration;

use assay_testkit::ForgeDouble;

use world::{REPO, World};

/// A whole run, begun twice, on a machine that is busy with other tests.
const WHOLE: Duration = Duration::from_mins(10);

/// `!testme`, and then everything dies in the middle of the run: the control plane and the runner, by SIGKILL. They are started
/// again, and the pull request gets its verdict: in the same comment, once, with a commit status that names the sealed run.
#[tokio::test(flavor = "multi_thread")]
async fn forge_testme_survives_restart() {
    let mut world = World::start().await;
    let (pull, head) = world.pull().await;
    world.say(pull, "alice", "!testme");
    world
        .forge
        .until_within(WHOLE, "the run is under way", |_| world.ours(pull).contains("running: `Install`"))
        .await;
    assert!(world.ours(pull).contains("[run 1]"));

    world.kill_both().await;
    world.say(pull, "bob", "what is taking so long?");
    world.start_both().await;

    let ended =
        |_: &ForgeDouble| world.ours(pull).contains("### ✅ pass") || world.ours(pull).contains("### ❌");
    world.forge.until_within(WHOLE, "a verdict in the comment", ended).await;
    let told = world.ours(pull);
    assert!(told.contains("### ✅ pass, level "), "{told}");
    assert!(told.contains(&format!("Commit `{head}`, asked: `!testme` by `alice`.")), "{told}");
    assert!(told.contains("`Restore`") && told.contains("Sealed: `"), "{told}");
    assert!(
        told.contains("tests/functional/changed.sh"),
        "what was not taken from the change is flagged: {told}"
    );
    let authors = world.forge.comments(REPO, pull).into_iter().map(|told| told.author.unwrap_or_default());
    assert_eq!(authors.collect::<Vec<_>>(), ["alice", ForgeDouble::BOT, "bob"], "one comment of ours");

    let is_set = |forge: &ForgeDouble| {
        forge.statuses(REPO, &head).last().is_some_and(|status| status.state == "success")
    };
    world.forge.until("the commit's status", is_set).await;
    let status = world.forge.statuses(REPO, &head).pop().expect("set");
    let sealed = told.split("Sealed: `").nth(1).and_then(|rest| rest.split('`').next()).expect("a digest");
    assert!(status.description.contains(&format!("sealed {sealed}")), "{status:?}");

    // What anybody can check: the run's bundle, without the control plane.
    let run = world.run(1).await;
    assert_eq!(
        (run["summary"]["state"].as_str(), run["summary"]["result"].as_str()),
        (Some("Completed"), Some("pass"))
    );
    let verified = world.verify(1).await;
    assert!(verified.contains(sealed), "{verified}");

    // And what anybody can do again, with the evidence alone.
    let reproduced = world.reproduce().await;
    assert_eq!(reproduced["reproduced"], true, "{reproduced:#}");
    assert!(
        reproduced["differences"].as_array().is_some_and(|all| {
            all.iter().all(|one| {
                one.as_str().is_some_and(|text| !text.contains("commit") && !text.contains("image"))
            })
        }),
        "{reproduced:#}"
    );
    world.stop().await;
}
