//! Pull requests that touch an image's sources: what a push asks for, whose push, once, and when its medium is there.

use assay_model::{RunState, Sha256};
use assay_pipelines::image::ImageSpec;
use assay_testkit::ForgeDouble;
use assay_testkit::forge::Dialect;
use tempfile::TempDir;

use crate::site::{FILES, REPO, Site};

const PROFILE: &str =
    "name = \"node-installer\"\n[[phase]]\nname = \"installed\"\nmarker = \"DONE\"\ntimeout = \"60s\"\n";

/// A folder for media, and the settings of an image that is made of `installer/`.
fn media(more: &str) -> (TempDir, String) {
    let media = tempfile::tempdir().expect("a folder");
    let image = format!(
        "[[forge.image]]\nname = \"node\"\nrepository = \"{REPO}\"\nprofile = \"installer/profile.toml\"\n\
         paths = [\"installer/**\"]\nmedium = \"{}/node-{{commit}}.iso\"\n{more}\n",
        media.path().display()
    );
    (media, image)
}

fn with_profile<'a>(files: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    files.iter().copied().chain([("installer/profile.toml", PROFILE)]).collect()
}

/// CI puts a medium where it belongs: in one step.
fn build(media: &TempDir, commit: &str) -> Sha256 {
    let (part, whole) = (media.path().join("part"), media.path().join(format!("node-{commit}.iso")));
    std::fs::write(&part, commit).expect("written");
    std::fs::rename(part, whole).expect("renamed");
    Sha256::of(commit.as_bytes())
}

impl Site {
    /// What was there before asks for nothing; a second look is after the first was stored.
    async fn watched(&self) {
        let looks = |forge: &ForgeDouble| forge.count("GET", "/apps/wiki.git/info/refs") >= 2;
        self.forge.until("it was looked at twice", looks).await;
    }

    async fn push(&self, pull: u64, branch: &str, parent: &str, content: &str) -> String {
        let files = [("installer/disks.sh", content)];
        let head = self.forge.commit(REPO, branch, Some(parent), &files).await;
        self.forge.push_git(REPO, pull, &head).await;
        head
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_asks_for_what_it_touches_and_waits_for_the_medium() {
    let (media, image) = media("");
    let mut site = Site::start_with(Dialect::GitHub, &with_profile(&FILES), &image).await;
    site.watched().await;
    let (other, _) = site.pull("words", "README.md", "newer").await;
    let (pull, head) = site.pull("disks", "installer/disks.sh", "one").await;
    let told = site.told(pull, "is not there yet").await;
    assert!(told.contains("### `image node`: ⏸️ waits"), "{told}");
    assert!(told.contains(&format!("node-{head}.iso is not there yet")), "{told}");
    assert!(told.contains(&format!("Commit `{head}`, asked: `a push` by `alice`.")), "{told}");
    assert!(site.runs().await.is_empty(), "nobody waits in the line for it");

    let sha256 = build(&media, &head);
    let told = site.told(pull, "queued").await;
    assert!(
        told.contains("### `image node`: ⏳ queued · [run 1](https://assay.example.org/runs/1)"),
        "{told}"
    );
    site.forge.until("the status", |forge| !forge.statuses(REPO, &head).is_empty()).await;
    let status = site.forge.statuses(REPO, &head).remove(0);
    assert_eq!((status.context.as_str(), status.state.as_str()), ("assay/image-node", "pending"));
    let created = site.runs().await[0].created.clone();
    let by = (created.target.name.as_str(), created.requested_by.as_str());
    assert_eq!(by, ("node-installer", "alice@coop"));
    let spec = ImageSpec::of(&created.spec).expect("an image");
    assert_eq!((spec.sha256, spec.profile.name.as_str()), (Some(sha256), "node-installer"));
    assert_eq!(spec.image, media.path().join(format!("node-{head}.iso")));
    let source = spec.source.expect("it is a commit's");
    assert_eq!((source.commit.as_str(), source.trusted.as_str()), (head.as_str(), site.main.as_str()));
    assert!(source.not_taken.is_empty(), "{:?}", source.not_taken);
    assert!(created.options.asked.pull_request.is_some_and(|of| of.ends_with(&format!("{REPO}#{pull}"))));

    // The server goes away; what is pushed meanwhile asks once, and takes the older run's place.
    site.end().await;
    let newer = site.push(pull, "disks", &head, "two").await;
    site.serve().await;
    site.told(pull, &format!("node-{newer}.iso is not there yet")).await;
    assert_eq!(site.runs().await.len(), 1);
    build(&media, &newer);
    let told = site.told(pull, "[run 2]").await;
    assert!(told.contains(&newer) && !told.contains(&head), "{told}");
    site.until(1, RunState::Superseded).await;
    let said = format!("superseded by {}", &newer[..12]);
    let ended = |forge: &ForgeDouble| {
        forge.statuses(REPO, &head).last().is_some_and(|status| status.description == said)
    };
    site.forge.until("the older commit's status", ended).await;

    // Its recipe is asked for by a comment, and stands in the same one.
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "recipe wiki").await;
    assert!(told.contains("[run 2]") && told.contains("[run 3]"), "{told}");
    assert_eq!(site.runs().await.len(), 3, "the image was under test already");
    site.say(pull, "alice", "!testme cancel");
    let cancelled = |text: &str| text.matches("cancelled by `alice`").count() == 2;
    site.forge.until("both are cancelled", |_| site.ours(pull).iter().any(|text| cancelled(text))).await;
    assert!(site.ours(other).is_empty(), "what touches no image asks for nothing");
    assert_eq!(site.forge.count("GET", "/repos/apps/wiki/pulls/1"), 1, "and is looked at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_push_starts_nothing_by_itself() {
    let (media, image) = media("");
    let quick = format!("until = \"Prepare\"\n{PROFILE}");
    let files = [FILES[1], ("installer/profile.toml", quick.as_str())];
    let site = Site::start_with(Dialect::Forgejo, &files, &image).await;
    site.watched().await;
    let head = site.forge.commit(REPO, "theirs", Some(&site.main), &[("installer/disks.sh", "x")]).await;
    let pull = site.forge.open_git_pull(REPO, "mallory", "theirs").await;
    let medium = build(&media, &head);
    let told = site.told(pull, "says !testme").await;
    assert!(told.contains("mallory may not ask for runs here") && told.contains("members of apps"), "{told}");
    // A member's pull request, but from somebody else's fork: who knows who pushes there.
    site.forge.fork_git(REPO, "mallory/wiki").await;
    let fork = site.forge.open_git_pull_from(REPO, "mallory/wiki", "alice", "theirs").await;
    site.told(fork, "says !testme").await;

    site.say(pull, "mallory", "!testme");
    let told = site.told(pull, "One of them can say").await;
    assert!(told.contains("says !testme for it"), "beside what waits: {told}");
    site.say(pull, "alice", "!testme --quick");
    site.told(pull, "an image is tested as a whole").await;
    assert!(site.runs().await.is_empty());
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "[run 1]").await;
    assert!(told.contains("asked: `!testme` by `alice`") && !told.contains("mallory"), "{told}");
    assert_eq!(site.runs().await[0].created.requested_by, "alice@coop");

    // A runner does it: the verdict stands in the comment, and at the commit.
    site.work(&serde_json::json!({ "bytes": head.len(), "sha256": medium, "medium": "as a CD", "staged": [],
        "accel": "kvm", "disks": [] }))
        .await;
    let told = site.told(pull, "`image node`: ✅ pass").await;
    assert!(told.contains("Sealed: ") && told.contains("/images/node-installer"), "{told}");
    let done = |forge: &ForgeDouble| {
        forge.statuses(REPO, &head).last().is_some_and(|status| status.state == "success")
    };
    site.forge.until("the commit's status", done).await;
    // Once more: an image that has ended is tested again for whoever says so.
    site.say(pull, "alice", "!testme");
    site.told(pull, "[run 2]").await;

    let (other, _) = site.pull("words", "README.md", "newer").await;
    site.say(other, "alice", "!testme");
    let told = site.told(other, "no recipe in this repository").await;
    assert!(told.contains("touches none of the files"), "{told}");
    assert_eq!(site.runs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tested_is_told() {
    let (media, image) = media("within_s = 1");
    // The trusted branch has no profile; the pull request brings one.
    let site = Site::start_with(Dialect::Forgejo, &FILES[1..], &image).await;
    site.watched().await;
    let (pull, head) = site.pull("first", "installer/profile.toml", PROFILE).await;
    site.told(pull, "no medium of this commit came within 0 minutes").await;
    build(&media, &head);
    site.say(pull, "alice", "!testme");
    let told = site.told(pull, "bring the profile in by itself first").await;
    assert!(told.contains("⚠️ error") && told.contains("installer/profile.toml of main"), "{told}");

    // It is in, and the pull request eases it: the trusted one is taken, and the change is named.
    let main =
        site.forge.commit(REPO, "main", Some(&site.main), &[("installer/profile.toml", PROFILE)]).await;
    let eased = format!("{PROFILE}[console]\nallow = [\"FailedUnit\"]\n");
    let head = site.forge.commit(REPO, "eased", Some(&main), &[("installer/profile.toml", &eased)]).await;
    let pull = site.forge.open_git_pull(REPO, "alice", "eased").await;
    build(&media, &head);
    site.told(pull, "[run 1]").await;
    let spec = ImageSpec::of(&site.runs().await[0].created.spec).expect("an image");
    assert!(spec.profile.console.allow.is_empty(), "the trusted branch's");
    assert_eq!(spec.source.expect("a commit's").not_taken, ["installer/profile.toml"]);

    let files =
        format!("{PROFILE}[join]\nby = \"git\"\npath = \"x/{{host}}.yaml\"\nschema = \"node.schema.json\"\n");
    let main = site.forge.commit(REPO, "main", Some(&main), &[("installer/profile.toml", &files)]).await;
    let head = site.forge.commit(REPO, "named", Some(&main), &[("installer/disks.sh", "x")]).await;
    let pull = site.forge.open_git_pull(REPO, "alice", "named").await;
    build(&media, &head);
    site.told(pull, "say in forges.toml where they lie on the runner").await;
    assert_eq!(site.runs().await.len(), 1);
}
