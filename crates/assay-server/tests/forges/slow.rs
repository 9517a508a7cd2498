//! A forge that takes its time: whoever asked it waits, and nobody else does.

use std::time::Duration;

use assay_testkit::ForgeDouble;
use assay_testkit::forge::{Dialect, Fault, Match};

use crate::site::{REPO, Site};

const OTHER: &str = "apps/blog";
/// Much shorter than the control plane waits for an answer of a forge: 20 s.
const SHORT: Duration = Duration::from_secs(8);

/// Brings the latest delivery, as the forge would; what was answered.
async fn bring(site: &Site) -> u16 {
    let waiting = site.forge.waiting_deliveries();
    let mut delivery = waiting.last().expect("it waits").clone();
    delivery.url = site.url("/hooks/forge/coop");
    tokio::time::timeout(SHORT, delivery.send()).await.expect("a delivery is taken at once")
}

fn ours(site: &Site, repo: &str, pull: u64) -> String {
    let all = site.forge.comments(repo, pull).into_iter();
    all.filter(|told| told.author.as_deref() == Some(ForgeDouble::BOT)).map(|told| told.body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_forge_takes_its_time_deliveries_are_taken_and_other_repositories_answered() {
    // Polled so seldom that only deliveries bring anything.
    let settings = "poll_s = 3600\nwebhook = { secret_file = \"hook\", register = true }";
    let site = Site::start_beside(Dialect::Forgejo, &[OTHER], settings).await;
    site.forge.add_member("apps", "bob", false);
    let registered = |forge: &ForgeDouble| !forge.hooks(REPO).is_empty() && !forge.hooks(OTHER).is_empty();
    site.forge.until("both are registered", registered).await;
    let (slow, _) = site.pull("work", "README.md", "one").await;
    let (beside, _) = site.pull("more", "README.md", "two").await;
    site.forge.commit(OTHER, "work", Some("main"), &[("README.md", "three")]).await;
    let other = site.forge.open_git_pull(OTHER, "bob", "work").await;

    // Whether alice may ask is not answered for now.
    site.forge.inject(Match::of("GET", "/orgs/apps/members/alice"), Fault::Slow, 1);
    site.say(slow, "alice", "!testme");
    assert_eq!(bring(&site).await, 204);
    let asked = |forge: &ForgeDouble| forge.count("GET", "/orgs/apps/members/alice") == 1;
    site.forge.until("it is asked about alice", asked).await;

    // Meanwhile another pull request's delivery is taken, and one of another repository is answered.
    site.say(beside, "bob", "!testme");
    assert_eq!(bring(&site).await, 204);
    site.forge.say(OTHER, other, "bob", "!testme");
    assert_eq!(bring(&site).await, 204);
    let told = |_: &ForgeDouble| ours(&site, OTHER, other).contains("queued");
    site.forge.until_within(SHORT, "the other repository's is answered", told).await;
    let heard = site.engine().store().forge_commands_latest(9).await.expect("read");
    assert_eq!(heard.len(), 3, "all of them were heard: {heard:#?}");
    let first = heard.iter().find(|command| command.author.as_deref() == Some("alice")).expect("heard");
    assert_eq!((first.attempts, ours(&site, REPO, slow).as_str()), (0, ""), "it still waits for its answer");
    assert_eq!(ours(&site, REPO, beside), "", "one after the other in a repository");

    site.forge.let_go();
    site.told(slow, "queued").await;
    site.told(beside, "queued").await;
}
