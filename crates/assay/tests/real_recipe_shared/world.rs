//! A machine with a swarm that others use: a daemon in a network of its own, in which the command is run, and a neighbour's stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::report::Report;
use assay_model::{Severity, Verdict};
use assay_process::{Child, Cmd, Signal};
use assay_recipe::compose::model::{Compose, Mount, MountSource, Service, Volume};
use assay_swarm::{Census, Daemon, DaemonConfig, Endpoints, PlanOptions, Rules, Swarm, plan};
use tempfile::TempDir;

/// A whole run, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(10);
/// How long the command may take to say a line that is waited for.
const SOON: Duration = Duration::from_mins(3);
/// What a neighbour's service runs.
const IMAGE: &str = "static-web:1.0";

pub(crate) struct World {
    daemon: Daemon,
    folder: TempDir,
}

/// A run that is under way.
pub(crate) struct Running {
    child: Child,
    said: Vec<String>,
    out: PathBuf,
}

/// A run that came to its end.
pub(crate) struct Tested {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) out: PathBuf,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("shared-").tempdir().expect("a folder");
        let images = folder.path().join("images");
        let build = Cmd::new(recipes().join("images/build"))
            .args(["static-web", "ledger", "postgres", "canary", "--out"])
            .arg(&images);
        build.timeout(LIMIT).run_ok().await.expect("images");
        std::fs::create_dir(folder.path().join("t")).expect("a folder");
        let config = DaemonConfig { folder: folder.path().join("d"), log: folder.path().join("dockerd.log") };
        let daemon = Daemon::start(&config).await.expect("a daemon");
        Self { daemon, folder }
    }

    pub(crate) fn swarm(&self) -> &Swarm {
        self.daemon.swarm()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the command keeps what is gone with it.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("t")
    }

    pub(crate) async fn census(&self) -> Census {
        self.swarm().census().await.expect("counted")
    }

    /// Docker's own command, as whoever runs the swarm has it.
    pub(crate) async fn docker(&self, words: &str) -> String {
        let command = Cmd::new("docker").arg("-H").arg(format!("unix://{}", self.daemon.socket().display()));
        let output = command.args(words.split(' ')).run_ok().await.expect("docker does it");
        output.stdout_text().into_owned()
    }

    pub(crate) async fn checkout(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        if !folder.exists() {
            let checkout = Cmd::new(recipes().join("checkout")).arg(name).arg(&folder);
            checkout.run_ok().await.expect("a repository");
        }
        folder
    }

    /// `assay …`, on the machine that the swarm is on.
    pub(crate) fn assay(&self, words: &[&str]) -> Cmd {
        let command = self.daemon.command_inside(env!("CARGO_BIN_EXE_assay")).args(words.iter().copied());
        command.env("TMPDIR", self.temporary()).timeout(LIMIT)
    }

    /// `assay recipe test RECIPE --shared-swarm SOCKET …`.
    fn command(&self, recipe: &Path, out: &Path, more: &[&str]) -> Cmd {
        let command = self.assay(&["recipe", "test"]).arg(recipe).arg("--images").arg(self.path("images"));
        let command = command.arg("--out").arg(out).args(more.iter().copied());
        command.arg("--shared-swarm").arg(self.daemon.socket())
    }

    pub(crate) async fn test(&self, name: &str, more: &[&str]) -> Tested {
        self.start(name, more).await.ended().await
    }

    /// Starts it; the test says when it is to end.
    pub(crate) async fn start(&self, name: &str, more: &[&str]) -> Running {
        let recipe = self.checkout(name).await;
        let out = tempfile::Builder::new().prefix("out-").tempdir_in(self.folder.path()).expect("a folder");
        let out = out.keep();
        let child = self.command(&recipe, &out, more).spawn().await.expect("it starts");
        Running { child, said: Vec::new(), out }
    }

    /// Somebody else's stack, with a volume, and a secret that was put there for it, which has no label.
    pub(crate) async fn neighbour(&self, stack: &str) {
        let archive = self.path("images/static-web-1.0.tar");
        self.swarm().images().load_archive(&archive).await.expect("an image");
        let data = MountSource::Volume { name: "data".to_owned(), nocopy: false };
        let web = Service {
            image: Some(IMAGE.to_owned()),
            command: Some(["-p", "80", "-h", "/data"].map(str::to_owned).to_vec()),
            mounts: vec![Mount { source: data, target: "/data".to_owned(), read_only: false }],
            ..Service::default()
        };
        let mut compose = Compose::default();
        compose.services.insert("web".to_owned(), web);
        compose.volumes.insert("data".to_owned(), Volume::default());
        let endpoints = if self.daemon.ipvs() { Endpoints::AsWritten } else { Endpoints::WithoutIpvs };
        let (environment, files) = (BTreeMap::new(), BTreeMap::new());
        let root = self.folder.path();
        let options = PlanOptions { stack, environment: &environment, root, files: &files, endpoints };
        let deployed =
            self.swarm().deploy(&plan(&compose, &options).expect("a plan")).await.expect("deployed");
        let up = self.swarm().converge(&deployed, &Rules::default(), LIMIT).await.expect("watched");
        assert!(matches!(up.outcome, assay_swarm::Outcome::Converged { .. }), "{:?}", up.outcome);
        self.swarm().put_secret(&format!("{stack}_key_v1"), b"k", &environment).await.expect("a secret");
    }

    /// What a stack has, tasks and containers included; a neighbour that is left alone has the same afterwards.
    pub(crate) async fn things_of(&self, stack: &str) -> Vec<String> {
        self.census().await.of_stack(stack).things().map(|thing| format!("{thing} {}", thing.id)).collect()
    }

    /// What runs have left: everything with their label, or of their stacks.
    pub(crate) async fn left_of_runs(&self, stacks: &[&str]) -> Vec<String> {
        let census = self.census().await;
        let of_stacks: Vec<Census> = stacks.iter().map(|stack| census.of_stack(stack)).collect();
        let is_left = |thing: &&assay_swarm::Thing| {
            thing.run.is_some() || of_stacks.iter().any(|stack| stack.has(thing))
        };
        census.things().filter(is_left).map(ToString::to_string).collect()
    }

    /// Ends the daemon with everything in it.
    pub(crate) async fn end(self) {
        self.daemon.stop().await.expect("it ends");
    }
}

impl Running {
    /// Waits until it says a line with `word`.
    pub(crate) async fn says(&mut self, word: &str) {
        let (said, child) = (&mut self.said, &mut self.child);
        let heard = async {
            while let Some(line) = child.next_line().await {
                let found = line.text.contains(word);
                said.push(line.text);
                if found {
                    return true;
                }
            }
            false
        };
        let heard = tokio::time::timeout(SOON, heard).await;
        assert!(matches!(heard, Ok(true)), "it never said `{word}`: {:#?}", self.said);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal).expect("it runs");
    }

    pub(crate) async fn ended(mut self) -> Tested {
        while let Some(line) = self.child.next_line().await {
            self.said.push(line.text);
        }
        let code = self.child.wait().await.expect("it ends").code();
        Tested { code, said: self.said.join("\n"), out: self.out }
    }
}

impl Tested {
    pub(crate) fn report(&self) -> Report {
        let text = std::fs::read(self.out.join("report.json"));
        let text = text.unwrap_or_else(|error| panic!("no report: {error}\n{}", self.said));
        serde_json::from_slice(&text).expect("it reads")
    }

    /// The verdict of each stage, in order.
    pub(crate) fn verdicts(&self) -> String {
        let report = self.report();
        let verdict = |stage: &assay_model::report::ReportStage| {
            format!("{} {}", stage.name, stage.verdict.map_or("none", Verdict::as_str))
        };
        report.stages.iter().map(verdict).collect::<Vec<_>>().join(", ")
    }

    /// What a check saw, of any stage.
    pub(crate) fn seen(&self, check: &str) -> String {
        let report = self.report();
        let mut checks = report.stages.iter().flat_map(|stage| &stage.checks);
        checks
            .find(|found| found.name == check)
            .unwrap_or_else(|| panic!("no check {check}: {report:#?}"))
            .seen
            .clone()
    }

    /// Messages of critical findings with this code.
    pub(crate) fn critical(&self, code: &str) -> Vec<String> {
        let findings = self.report().findings.into_iter();
        let critical = findings.filter(|found| found.severity == Severity::Critical && found.code == code);
        critical.map(|found| found.message).collect()
    }
}

/// The name of the stack of a run over a recipe.
pub(crate) fn stack_of(recipe: &str, seed: u32) -> String {
    let letters: String = recipe.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    assay_recipe::names::stack_name(&format!("{letters}-{seed:06x}.test"))
}

fn recipes() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    repository.join("examples/recipes")
}
