//! A forge with one recipe, and a server that listens to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use assay_engine::agents::{Todo, todo};
use assay_engine::clock::SystemClock;
use assay_engine::live::Offer;
use assay_engine::{Engine, Tuning};
use assay_model::{Clock, Micros, RunState, RunView, StageName};
use assay_server::{Server, Settings};
use assay_store::RunFilter;
use assay_testkit::forge::Dialect;
use assay_testkit::{ForgeDouble, PATIENCE, SimClock};
use tempfile::TempDir;

pub(crate) const REPO: &str = "apps/wiki";
pub(crate) const HOOK_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A recipe that reads as one.
pub(crate) const FILES: [(&str, &str); 4] = [
    (
        "compose.yml",
        "version: '3.8'\nservices:\n  app:\n    image: wiki:1.0\n    deploy:\n      labels:\n        - coop-cloud.${STACK_NAME}.version=1.0.0+1.0\n",
    ),
    (".env.sample", "TYPE=wiki\nDOMAIN=wiki.example.com\n"),
    ("abra.sh", "export APP_CONF_VERSION=v1\n"),
    ("tests/assay.toml", "[http]\npath = \"/\"\n"),
];

/// A forge, a data folder, and a server that may be gone for a while.
pub(crate) struct Site {
    pub(crate) forge: ForgeDouble,
    /// The forge's `main`.
    pub(crate) main: String,
    /// What the server reads the time from.
    clock: Arc<dyn Clock>,
    data: TempDir,
    server: Option<Running>,
}

struct Running {
    engine: Engine,
    base: String,
    stop: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Site {
    /// With `more` in the forge's settings.
    pub(crate) async fn start(dialect: Dialect, more: &str) -> Self {
        Self::start_with(dialect, &FILES, more).await
    }

    /// The same, with these files in the repository.
    pub(crate) async fn start_with(dialect: Dialect, files: &[(&str, &str)], more: &str) -> Self {
        Self::listening(dialect, files, &[], &format!("poll_s = 1\n{more}")).await
    }

    /// With a server that goes by the forge's clock: time passes when the test says so, and what is said is heard by nobody.
    pub(crate) async fn start_still(dialect: Dialect) -> Self {
        let mut site = Self::prepare(dialect, &FILES, &[], "").await;
        site.clock = Arc::new(site.forge.clock().clone());
        site.serve().await;
        site
    }

    /// With other repositories beside the one, and all of the forge's settings but where it is and who may ask.
    pub(crate) async fn start_beside(dialect: Dialect, others: &[&str], settings: &str) -> Self {
        Self::listening(dialect, &FILES, others, settings).await
    }

    async fn listening(dialect: Dialect, files: &[(&str, &str)], others: &[&str], settings: &str) -> Self {
        let mut site = Self::prepare(dialect, files, others, settings).await;
        site.serve().await;
        // It listens from its first answer on.
        let asked = |forge: &ForgeDouble| {
            let mut all = std::iter::once(&REPO).chain(others);
            all.all(|repo| forge.count("GET", &format!("/repos/{repo}/issues/comments")) > 0)
        };
        site.forge.until("it was asked", asked).await;
        site
    }

    async fn prepare(dialect: Dialect, files: &[(&str, &str)], others: &[&str], settings: &str) -> Self {
        let clock = SimClock::at(SystemClock::default().now());
        let forge = ForgeDouble::start_with(dialect, clock).await;
        let main = forge.git_repository(REPO, files).await;
        for other in others {
            forge.git_repository(other, &FILES).await;
        }
        let all = [&[REPO][..], others].concat();
        forge.add_member("apps", ForgeDouble::BOT, false);
        forge.add_member("apps", "alice", false);
        let data = tempfile::tempdir().expect("a folder");
        let kind = match dialect {
            Dialect::Forgejo => "forgejo",
            Dialect::GitHub => "github",
        };
        let address = forge.url();
        let settings = format!(
            "base_url = \"https://assay.example.org\"\n[[forge]]\nname = \"coop\"\nkind = \"{kind}\"\naddress = \"{address}\"\n\
             token_file = \"token\"\nrepositories = {all:?}\nauthors = {{ members = true }}\n{settings}\n"
        );
        let write = |name: &str, text: &str| std::fs::write(data.path().join(name), text).expect("written");
        write("forges.toml", &settings);
        write("token", ForgeDouble::TOKEN);
        write("hook", HOOK_SECRET);
        Self { forge, main, clock: Arc::new(SystemClock::default()), data, server: None }
    }

    /// Starts the server over the same data.
    pub(crate) async fn serve(&mut self) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings {
            data_dir: self.data.path().to_owned(),
            database: None,
            listen: any,
            boot_listen: any,
            agent_listen: any,
            agent_port: 8443,
            live_image: self.data.path().join("no-live-image"),
            notify: None,
            webhooks: Vec::new(),
            webhook_internal: false,
            public_badges: false,
            password: Some("correct horse battery".to_owned()),
            tuning: Tuning::default(),
        };
        let server = Server::open_by(settings, Arc::clone(&self.clock)).await.expect("opens");
        let base = format!("http://{}", server.addresses().expect("bound").operators);
        let engine = server.app().engine.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
        self.server = Some(Running { engine, base, stop, serving });
    }

    /// Ends the server, as an upgrade would.
    pub(crate) async fn end(&mut self) {
        let Running { engine, stop, serving, .. } = self.server.take().expect("it runs");
        drop(stop);
        serving.await.expect("no panic").expect("ends well");
        engine.store().close().await.expect("closes");
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.server.as_ref().expect("it runs").engine
    }

    /// An address of the server's.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.as_ref().expect("it runs").base)
    }

    /// A pull request of alice's with one commit that changes a file; its number and that commit.
    pub(crate) async fn pull(&self, branch: &str, path: &str, content: &str) -> (u64, String) {
        let head = self.forge.commit(REPO, branch, Some(&self.main), &[(path, content)]).await;
        (self.forge.open_git_pull(REPO, "alice", branch).await, head)
    }

    /// Somebody says something in it, now.
    pub(crate) fn say(&self, pull: u64, who: &str, text: &str) -> u64 {
        self.forge.clock().advance(Micros::seconds(1));
        self.forge.say(REPO, pull, who, text)
    }

    /// The texts of our comments in a pull request.
    pub(crate) fn ours(&self, pull: u64) -> Vec<String> {
        let all = self.forge.comments(REPO, pull);
        all.into_iter()
            .filter(|told| told.author.as_deref() == Some(ForgeDouble::BOT))
            .map(|told| told.body)
            .collect()
    }

    /// Waits until our one comment says something.
    pub(crate) async fn told(&self, pull: u64, words: &str) -> String {
        let is_there = |_: &ForgeDouble| self.ours(pull).iter().any(|body| body.contains(words));
        let what = format!("`{words}` in #{pull}");
        if tokio::time::timeout(PATIENCE, self.forge.until_within(2 * PATIENCE, &what, is_there))
            .await
            .is_err()
        {
            let asked = self.engine().store().forge_commands_latest(9).await;
            panic!("not told: {what}, but {:#?}; asked: {asked:#?}", self.ours(pull));
        }
        let ours = self.ours(pull);
        assert_eq!(ours.len(), 1, "one comment: {ours:#?}");
        ours[0].clone()
    }

    /// Every run, oldest first.
    pub(crate) async fn runs(&self) -> Vec<Arc<RunView>> {
        let engine = self.engine();
        let rows =
            engine.store().list_runs(RunFilter { limit: 100, ..RunFilter::default() }).await.expect("read");
        let mut runs = Vec::new();
        for row in rows.iter().rev() {
            runs.push(engine.view(row.id).await.expect("there"));
        }
        runs
    }

    /// A runner with virtual machines takes up what is next, and brings this for each of its stages, until it is sealed.
    pub(crate) async fn work(&self, evidence: &serde_json::Value) {
        let engine = self.engine();
        let mut changes = engine.store().subscribe();
        let capacity = [("vm".to_owned(), 1), ("mem_mib".to_owned(), 65_536)].into();
        let _waiting = engine.offering("bench1", Offer { power: ["vm".to_owned()].into(), capacity });
        let work = async {
            let given = loop {
                if let Some(given) = engine.grant("bench1", &[]).await.expect("an answer") {
                    break given;
                }
                let _ = changes.recv().await;
            };
            let run = given.run.id;
            loop {
                let view = engine.view(run).await.expect("there");
                if view.status.sealed {
                    return;
                }
                if let Todo::Stage { stage, attempt, generation, .. } = todo(&view) {
                    let (stage, bytes) = (StageName::from(stage.as_str()), evidence.to_string().into_bytes());
                    engine.result(run, stage, attempt, generation, bytes, None).await.expect("taken");
                }
                let _ = changes.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("it comes to its end");
    }

    /// Waits until a run is in a state.
    pub(crate) async fn until(&self, number: i64, state: RunState) {
        let mut changes = self.engine().store().subscribe();
        let reached = async {
            loop {
                let runs = self.runs().await;
                if runs.iter().any(|run| run.created.number == number && run.state() == state) {
                    return;
                }
                let _ = changes.recv().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "run {number} is not {state}");
    }
}
