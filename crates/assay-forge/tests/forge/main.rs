//! Our clients against the forge double: every call in both dialects, every refusal, lost answers, and the whole way from a
//! comment to a command through restarts.

mod burst;
mod calls;
mod hooks;
mod refusals;

use std::time::Duration;

use assay_forge::{Forge, Forgejo, GitHub, Limits, RepoName, Secret};
use assay_testkit::forge::{Dialect, ForgeDouble};

pub(crate) const HEAD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const BASE: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub(crate) const REPO: &str = "coop/plausible";
pub(crate) const BOTH: [Dialect; 2] = [Dialect::Forgejo, Dialect::GitHub];

pub(crate) fn repo() -> RepoName {
    REPO.parse().expect("a name")
}

/// A forge with one repository, one pull request (1), and an organisation.
pub(crate) async fn forge(dialect: Dialect) -> ForgeDouble {
    let forge = ForgeDouble::start(dialect).await;
    forge.repository(REPO);
    forge.add_member("coop", "alice", true);
    forge.add_member("coop", "hidden", false);
    forge.add_member("coop", ForgeDouble::BOT, false);
    forge.add_to_team("coop", "maintainers", "alice");
    forge.open_pull(REPO, "alice", HEAD, BASE, &["compose.yml", "abra.sh"]);
    forge
}

/// Tests of time limits wait for this long, and nothing else does.
pub(crate) fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(20), ..Limits::default() }
}

pub(crate) fn client(forge: &ForgeDouble, dialect: Dialect, token: &str, limits: Limits) -> Box<dyn Forge> {
    let token = Secret::new(token);
    match dialect {
        Dialect::Forgejo => Box::new(Forgejo::new(&forge.url(), token, limits).expect("settings")),
        Dialect::GitHub => Box::new(GitHub::new(&forge.url(), token, limits).expect("settings")),
    }
}

pub(crate) fn bot(forge: &ForgeDouble, dialect: Dialect) -> Box<dyn Forge> {
    client(forge, dialect, ForgeDouble::TOKEN, limits())
}
