//! From a push to a verdict: a pull request touches an image's sources, "CI" puts the medium where it belongs, and a real runner
//! boots it on a virtual machine. The forge is played, and so is CI: the medium is iPXE's own, from Debian's package.

use std::time::Duration;

use assay_model::Clock as _;
use assay_process::Cmd;
use assay_testkit::forge::Dialect;
use assay_testkit::{ForgeDouble, ServerProcess, SimClock, free_ports};

use crate::world::{GRACE, ready};

const REPO: &str = "infra/images";
const MEDIUM: &str = "/usr/lib/ipxe/ipxe.iso";
const PROFILE: &str = include_str!("../../../../examples/images/ipxe.toml");
/// A boot without KVM, on a machine that is busy with other tests.
const WHOLE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_push_touches_is_booted_and_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let clock = SimClock::at(assay_engine::clock::SystemClock::default().now());
    let forge = ForgeDouble::start_with(Dialect::Forgejo, clock).await;
    let main = forge.git_repository(REPO, &[("ipxe/profile.toml", PROFILE)]).await;
    forge.add_member("infra", ForgeDouble::BOT, false);
    forge.add_member("infra", "alice", false);
    for name in ["data", "media"] {
        std::fs::create_dir(at(name)).expect("a folder");
    }
    let settings = format!(
        "[[forge]]\nname = \"coop\"\nkind = \"forgejo\"\naddress = \"{}\"\ntoken_file = \"coop.token\"\n\
         repositories = [\"{REPO}\"]\npoll_s = 1\nauthors = {{ members = true }}\n\
         [[forge.image]]\nname = \"ipxe\"\nrepository = \"{REPO}\"\nprofile = \"ipxe/profile.toml\"\n\
         paths = [\"ipxe/**\"]\nmedium = \"{}/ipxe-{{commit}}.iso\"\n",
        forge.url(),
        at("media").display()
    );
    std::fs::write(at("data/forges.toml"), settings).expect("written");
    std::fs::write(at("data/coop.token"), ForgeDouble::TOKEN).expect("written");
    let mut server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), at("data"), free_ports());
    server.start(&[]).await;
    let runner = Cmd::new(env!("CARGO_BIN_EXE_assay"))
        .args(["runner", "--name", "bench", "--vm", "--data"])
        .arg(at("data"))
        .arg("--server")
        .arg(server.url())
        .arg("--agents")
        .arg(format!("127.0.0.1:{}", server.ports.agents))
        .arg("--state")
        .arg(at("r"));
    let mut runner = ready(runner).await;
    // What was there before asks for nothing: a second look is after the first was stored.
    let looks = |forge: &ForgeDouble| forge.count("GET", "/infra/images.git/info/refs") >= 2;
    forge.until("it looks for commits", looks).await;

    let head = forge.commit(REPO, "faster", Some(&main), &[("ipxe/embed.ipxe", "#!ipxe\n")]).await;
    let pull = forge.open_git_pull(REPO, "alice", "faster").await;
    let ours = |forge: &ForgeDouble| {
        let all = forge.comments(REPO, pull).into_iter();
        all.filter(|told| told.author.as_deref() == Some(ForgeDouble::BOT))
            .map(|told| told.body)
            .collect::<String>()
    };
    forge.until("it waits for its medium", |forge| ours(forge).contains("is not there yet")).await;
    std::fs::copy(MEDIUM, at("media/part")).expect("Debian's package ipxe is installed");
    std::fs::rename(at("media/part"), at("media").join(format!("ipxe-{head}.iso"))).expect("renamed");
    let ended = |forge: &ForgeDouble| {
        ours(forge).contains("`image ipxe`: ✅") || ours(forge).contains("`image ipxe`: ❌")
    };
    forge.until_within(WHOLE, "a verdict in the comment", ended).await;
    let told = ours(&forge);
    assert!(told.contains("### `image ipxe`: ✅ pass, in "), "{told}");
    assert!(told.contains(&format!("Commit `{head}`, asked: `a push` by `alice`.")), "{told}");
    let sealed = told.split("Sealed: `").nth(1).and_then(|rest| rest.split('`').next()).expect("a digest");
    let is_set = |forge: &ForgeDouble| {
        forge.statuses(REPO, &head).last().is_some_and(|status| status.state == "success")
    };
    forge.until("the commit's status", is_set).await;
    let status = forge.statuses(REPO, &head).pop().expect("set");
    assert_eq!(status.context, "assay/image-ipxe");
    assert!(status.description.contains(&format!("sealed {sealed}")), "{status:?}");
    runner.stop(GRACE).await.expect("it ends");
    server.stop().await;
}
