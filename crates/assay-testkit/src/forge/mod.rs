//! A forge: Forgejo's dialect or GitHub's over real HTTP on a local port, with real Git behind it, and trouble on demand.
//!
//! What it keeps to, because clients rely on it: `since` compares the time of the last change and takes the moment itself;
//! Forgejo lists a repository's comments in the order in which they were made, pages of at most 50, `X-Total-Count`; GitHub
//! sorts as asked, pages of at most 100, `Link`, tags, "unchanged" that is not counted; members of an organisation are shown to
//! members alone; a fork is a repository of somebody else's, and the commits of its pull requests are shown as
//! `refs/pull/N/head` where they are to go; a token does what its scopes allow *and* its owner may. Strangers' clients
//! (`forgejo-api`, `octocrab`) check that in this crate's tests.
//!
//! Its clock is simulated, and may be wrong by as much as a test likes. Everything that was asked is counted. Webhooks are
//! signed as the real ones are and sent when the test says so: [`ForgeDouble::deliver`].

mod answer;
mod fault;
mod git;
mod hooks;
mod json;
mod routes;
mod serve;
mod world;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assay_model::Micros;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use fault::{Asked, Fault, Match};
pub use hooks::Delivery;
pub use world::{Scope, Told, WrittenStatus};

use crate::{PATIENCE, SimClock};
use world::World;

/// Which dialect it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Forgejo's and Gitea's, below `/api/v1`.
    Forgejo,
    /// GitHub's, at the root and below `/api/v3`.
    GitHub,
}

/// A forge; listens until it is dropped.
pub struct ForgeDouble {
    address: SocketAddr,
    shared: Arc<Shared>,
    _listening: JoinSet<()>,
}

pub(crate) struct Shared {
    world: Mutex<World>,
    clock: SimClock,
    folder: tempfile::TempDir,
    /// How many requests were answered, or are being kept waiting.
    served: watch::Sender<u64>,
    /// How often those that are kept waiting were let go.
    let_go: watch::Sender<u64>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.tick(assay_model::Clock::now(&self.clock));
        world
    }
}

impl ForgeDouble {
    /// A token that may do everything; its owner is `assay-bot`, who writes to and administers every repository.
    pub const TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
    /// Whose that token is.
    pub const BOT: &str = "assay-bot";

    /// An empty forge with a clock of its own.
    pub async fn start(dialect: Dialect) -> Self {
        Self::start_with(dialect, SimClock::default()).await
    }

    /// An empty forge by this clock.
    pub async fn start_with(dialect: Dialect, clock: SimClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a local port");
        let address = listener.local_addr().expect("bound");
        let mut world = World::new(dialect, format!("http://{address}"));
        let all = [Scope::WriteIssue, Scope::WriteRepository, Scope::ReadOrganization, Scope::ReadUser];
        world.add_token(Self::TOKEN, Self::BOT, &all);
        let folder = tempfile::tempdir().expect("a folder");
        let served = watch::Sender::new(0);
        let let_go = watch::Sender::new(0);
        let shared = Arc::new(Shared { world: Mutex::new(world), clock, folder, served, let_go });
        let mut listening = JoinSet::new();
        listening.spawn(serve::listen(Arc::clone(&shared), listener));
        Self { address, shared, _listening: listening }
    }

    /// Its own address; repositories are below it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its clock, which stands still until a test moves it.
    pub fn clock(&self) -> &SimClock {
        &self.shared.clock
    }

    /// Makes its clock wrong by this much.
    pub fn set_skew(&self, skew: Micros) {
        self.shared.world().skew = skew;
    }

    /// The moment by its own clock.
    pub fn now(&self) -> Micros {
        self.shared.world().now
    }

    /// Another token.
    pub fn add_token(&self, token: &str, login: &str, scopes: &[Scope]) {
        self.shared.world().add_token(token, login, scopes);
    }

    /// Takes a token's validity.
    pub fn revoke(&self, token: &str) {
        self.shared.world().tokens.remove(token);
    }

    /// A repository without Git behind it.
    pub fn repository(&self, name: &str) {
        self.shared.world().add_repository(name);
    }

    /// A fork without Git behind it: `of` is the repository, `name` what is made of it, below its owner.
    pub fn fork(&self, of: &str, name: &str) {
        self.shared.world().add_fork(of, name);
    }

    /// A repository goes; its pull requests elsewhere stay.
    pub fn delete_repository(&self, name: &str) {
        self.shared.world().repos.remove(name);
    }

    /// Somebody who may push to a repository.
    pub fn add_writer(&self, repository: &str, login: &str) {
        self.shared.world().repo(repository).writers.insert(login.to_owned());
    }

    /// Takes it away from the bot as well: then it may read, and comment.
    pub fn remove_writer(&self, repository: &str, login: &str) {
        self.shared.world().repo(repository).writers.remove(login);
    }

    /// An organisation's member; whether everybody may know.
    pub fn add_member(&self, organisation: &str, login: &str, is_public: bool) {
        self.shared.world().add_member(organisation, login, is_public);
    }

    /// A member of a team.
    pub fn add_to_team(&self, organisation: &str, team: &str, login: &str) {
        self.shared.world().add_to_team(organisation, team, login);
    }

    /// A pull request within the repository; returns its number. `head` and `base` are commits.
    pub fn open_pull(&self, repository: &str, author: &str, head: &str, base: &str, files: &[&str]) -> u64 {
        let files = files.iter().map(|path| ((*path).to_owned(), None)).collect();
        self.shared.world().open_pull(repository, repository, author, "change", head, base, files)
    }

    /// A pull request from a fork; `head` is a commit there.
    pub fn open_pull_from(&self, fork: &str, author: &str, head: &str, base: &str, files: &[&str]) -> u64 {
        let files = files.iter().map(|path| ((*path).to_owned(), None)).collect();
        let mut world = self.shared.world();
        let into = world.repo(fork).fork_of.clone().expect("a fork");
        world.open_pull(&into, fork, author, "change", head, base, files)
    }

    /// An issue that is no pull request.
    pub fn open_issue(&self, repository: &str) -> u64 {
        self.shared.world().open_issue(repository)
    }

    /// New commits in a pull request.
    pub fn push(&self, repository: &str, number: u64, head: &str) {
        let mut world = self.shared.world();
        head.clone_into(&mut world.pull(repository, number).head);
        world.pull_changed(repository, number, "synchronized");
    }

    /// Closes a pull request, or merges it.
    pub fn close(&self, repository: &str, number: u64, is_merged: bool) {
        let mut world = self.shared.world();
        let now = world.now;
        let pull = world.pull(repository, number);
        (pull.is_open, pull.merged_at) = (false, is_merged.then_some(now));
        world.pull_changed(repository, number, "closed");
    }

    /// Somebody says something in an issue or a pull request; returns the comment's number.
    pub fn say(&self, repository: &str, number: u64, author: &str, body: &str) -> u64 {
        self.shared.world().say(repository, number, author, body)
    }

    /// A comment gets another text.
    pub fn edit(&self, repository: &str, comment: u64, body: &str) {
        self.shared.world().edit(repository, comment, body);
    }

    /// A comment goes.
    pub fn delete(&self, repository: &str, comment: u64) {
        self.shared.world().delete(repository, comment);
    }

    /// The account of a comment's author goes.
    pub fn forget_author(&self, repository: &str, comment: u64) {
        self.shared.world().comment(repository, comment).author = None;
    }

    /// What stands in an issue or a pull request: author and text, in order.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<Told> {
        self.shared.world().told(repository, number)
    }

    /// Statuses of a commit, in the order in which they were set.
    pub fn statuses(&self, repository: &str, commit: &str) -> Vec<WrittenStatus> {
        self.shared.world().repo(repository).statuses.get(commit).cloned().unwrap_or_default()
    }

    /// The largest page that it gives.
    pub fn set_page_limit(&self, entries: usize) {
        self.shared.world().page_limit = entries;
    }

    /// Grants so many requests until an hour from now.
    pub fn grant(&self, requests: u64) {
        let mut world = self.shared.world();
        let resets_at = world.now.plus(Micros::seconds(3600));
        world.rate = Some(world::Window { limit: requests, remaining: requests, resets_at });
    }

    /// Something goes wrong, for requests that match, as often as it says.
    pub fn inject(&self, matching: Match, fault: Fault, times: usize) {
        self.shared.world().faults.push((matching, fault, times));
    }

    /// Answers those that [`Fault::Slow`] keeps waiting.
    pub fn let_go(&self) {
        self.shared.let_go.send_modify(|times| *times += 1);
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.world().asked.clone()
    }

    /// How often something was asked: by method and the beginning of what follows the API's own path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.method == method && asked.path.starts_with(path)).count()
    }

    /// Waits until something holds of this forge, looking whenever it has answered somebody.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        self.until_within(PATIENCE, what, wanted).await;
    }

    /// The same for what takes longer.
    pub async fn until_within(&self, limit: Duration, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut served = self.shared.served.subscribe();
        let seen = async {
            while !wanted(self) {
                served.changed().await.expect("it is there");
            }
        };
        if tokio::time::timeout(limit, seen).await.is_err() {
            let asked = self.asked();
            let last = &asked[asked.len().saturating_sub(20)..];
            panic!("not within {} s: {what}; asked last: {last:#?}", limit.as_secs());
        }
    }

    /// Webhooks of a repository: address and events.
    pub fn hooks(&self, repository: &str) -> Vec<(String, Vec<String>)> {
        let mut world = self.shared.world();
        world.repo(repository).hooks.iter().map(|hook| (hook.url.clone(), hook.events.clone())).collect()
    }

    /// Deliveries that wait to be sent.
    pub fn waiting_deliveries(&self) -> Vec<Delivery> {
        self.shared.world().deliveries.clone()
    }

    /// Sends what waits; returns the receivers' answers. Nobody there is 0.
    pub async fn deliver(&self) -> Vec<u16> {
        let waiting = std::mem::take(&mut self.shared.world().deliveries);
        let mut answers = Vec::new();
        for delivery in waiting {
            answers.push(delivery.send().await);
        }
        answers
    }
}
