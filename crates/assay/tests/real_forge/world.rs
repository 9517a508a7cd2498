//! A forge with a canary's repository, the control plane, and a runner; both can be killed and started again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::{Clock as _, Micros};
use assay_process::{Child, Cmd, Signal};
use assay_testkit::forge::Dialect;
use assay_testkit::{ForgeDouble, ServerProcess, SimClock, free_ports};
use serde_json::Value;

pub(crate) const REPO: &str = "apps/static-site";
/// The canary: one service, one volume, tests, and a release before it.
const RECIPE: &str = "static-site";
/// All images from nothing.
const BUILD: Duration = Duration::from_mins(15);
/// How long a runner may take to let go of everything.
pub(crate) const GRACE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) forge: ForgeDouble,
    main: String,
    folder: tempfile::TempDir,
    server: ServerProcess,
    runner: Option<Child>,
}

fn canaries() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    repository.join("examples/recipes")
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let checkout = Cmd::new(canaries().join("checkout")).arg(RECIPE).arg(at(RECIPE));
        checkout.run_ok().await.expect("a checkout");
        let build =
            Cmd::new(canaries().join("images/build")).arg("static-web").arg("--out").arg(at("images"));
        build.timeout(BUILD).run_ok().await.expect("images");

        let clock = SimClock::at(assay_engine::clock::SystemClock::default().now());
        let forge = ForgeDouble::start_with(Dialect::Forgejo, clock).await;
        let main = forge.import(REPO, &at(RECIPE)).await;
        forge.add_member("apps", ForgeDouble::BOT, false);
        forge.add_member("apps", "alice", false);

        let data = at("data");
        std::fs::create_dir(&data).expect("a folder");
        let settings = format!(
            "base_url = \"https://assay.example.org\"\n[[forge]]\nname = \"coop\"\nkind = \"forgejo\"\naddress = \"{}\"\n\
             token_file = \"coop.token\"\nrepositories = [\"{REPO}\"]\npoll_s = 1\nauthors = {{ members = true }}\n",
            forge.url()
        );
        std::fs::write(data.join("forges.toml"), settings).expect("written");
        std::fs::write(data.join("coop.token"), ForgeDouble::TOKEN).expect("written");
        let server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), data, free_ports());
        let mut world = Self { forge, main, folder, server, runner: None };
        world.start_both().await;
        let comments = format!("/repos/{REPO}/issues/comments");
        world.forge.until("it listens", |forge| forge.count("GET", &comments) > 0).await;
        world
    }

    /// Starts the control plane, and then the runner.
    pub(crate) async fn start_both(&mut self) {
        self.server.start(&[]).await;
        let at = |name: &str| self.folder.path().join(name);
        let ports = self.server.ports;
        let runner = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .args(["runner", "--name", "attic", "--swarm", "--data"])
            .arg(at("data"))
            .arg("--server")
            .arg(format!("http://127.0.0.1:{}", ports.operators))
            .arg("--agents")
            .arg(format!("127.0.0.1:{}", ports.agents))
            .arg("--state")
            .arg(at("r"))
            .arg("--images")
            .arg(at("images"));
        self.runner = Some(ready(runner).await);
    }

    /// As a power cut would.
    pub(crate) async fn kill_both(&mut self) {
        self.server.kill().await;
        let mut runner = self.runner.take().expect("it runs");
        runner.signal(Signal::KILL).expect("it can be killed");
        runner.wait_beside_lines().await.expect("its end is seen");
    }

    /// Ends both as an operator does; the runner leaves nothing behind.
    pub(crate) async fn stop(mut self) {
        let mut runner = self.runner.take().expect("it runs");
        runner.stop(GRACE).await.expect("it ends");
        let benches = self.folder.path().join("r/swarms");
        let left = std::fs::read_dir(&benches).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{} is not empty", benches.display());
        self.server.kill().await;
    }

    /// Alice's pull request: a line of documentation, and a test that the trusted branch does not have. Its number and commit.
    pub(crate) async fn pull(&self) -> (u64, String) {
        let files = [("NOTES.md", "A line.\n"), ("tests/functional/changed.sh", "#!/bin/sh\nexit 1\n")];
        let head = self.forge.commit(REPO, "notes", Some(&self.main), &files).await;
        (self.forge.open_git_pull(REPO, "alice", "notes").await, head)
    }

    /// Somebody says something, now.
    pub(crate) fn say(&self, pull: u64, who: &str, text: &str) {
        self.forge.clock().advance(Micros::seconds(1));
        self.forge.say(REPO, pull, who, text);
    }

    /// What our comments in a pull request say.
    pub(crate) fn ours(&self, pull: u64) -> String {
        let all = self.forge.comments(REPO, pull);
        let ours = all.into_iter().filter(|told| told.author.as_deref() == Some(ForgeDouble::BOT));
        ours.map(|told| told.body).collect()
    }

    /// A run, as the API shows it.
    pub(crate) async fn run(&self, number: i64) -> Value {
        self.server.api().get(&format!("/api/v1/runs/{number}")).await.json()
    }

    /// What `assay verify` says of a run's bundle.
    pub(crate) async fn verify(&self, number: i64) -> String {
        let bundle = self.folder.path().join("bundle.tar");
        let url = format!("{}/api/v1/runs/{number}/bundle", self.server.url());
        let asked = reqwest::Client::new().get(url).bearer_auth(self.server.cli_token()).send().await;
        let bytes = asked.expect("an answer").bytes().await.expect("whole");
        std::fs::write(&bundle, bytes).expect("written");
        let verify = Cmd::new(env!("CARGO_BIN_EXE_assay")).arg("verify").arg(&bundle);
        verify.run_ok().await.expect("it is whole and signed").stdout_text().into_owned()
    }

    /// `assay reproduce` with the bundle that was verified.
    pub(crate) async fn reproduce(&self) -> Value {
        let at = |name: &str| self.folder.path().join(name);
        let said = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .arg("reproduce")
            .arg(at("bundle.tar"))
            .arg("--images")
            .arg(at("images"))
            .arg("--no-registries")
            .arg("--out")
            .arg(at("reproduced"))
            .arg("--json")
            .timeout(BUILD)
            .run_ok()
            .await
            .expect("it comes to the same");
        serde_json::from_slice(&said.stdout).expect("JSON")
    }
}

/// Starts a runner and waits until it is ready.
pub(crate) async fn ready(runner: Cmd) -> Child {
    let mut child = runner.spawn().await.expect("it starts");
    let mut lines = child.take_lines().expect("nobody has them");
    let mut said = Vec::new();
    while let Some(line) = lines.recv().await {
        said.push(line.text);
        if said.last().is_some_and(|line| line.contains("ready")) {
            // What it goes on to say is read and forgotten, or it would have to wait.
            tokio::spawn(async move { while lines.recv().await.is_some() {} });
            return child;
        }
    }
    panic!("the runner is not ready: {said:#?}");
}
