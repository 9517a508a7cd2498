//! From a fork's pull request to a verdict in its comment: the real control plane, a real runner with real machines, real Git; the
//! forge is played. What is sent first takes all that there is of processes, of the log, and of the disk; it harms nobody.

use std::path::PathBuf;
use std::time::Duration;

use assay_model::{Clock as _, Micros};
use assay_process::{Child, Cmd};
use assay_testkit::forge::Dialect;
use assay_testkit::{ForgeDouble, ServerProcess, SimClock, free_ports};

use crate::world::{World, repository};

const REPO: &str = "apps/static-site";
const FORK: &str = "mallory/static-site";
/// A run in a machine, on a runner that is busy with other things.
const WHOLE: Duration = Duration::from_mins(15);
/// How long a runner may take to let go of everything.
const GRACE: Duration = Duration::from_mins(2);

/// Takes all that there is: of the log, of processes, of the disk. Only the last is not to be had without the machine.
const FLOOD: &str = r"#!/bin/sh
head -c 20000000 /dev/zero | tr '\0' x
mkfifo /flood/never /flood/over
bomb() {
    # Whoever is refused one ends, and says so on the way.
    trap ': >/flood/refused; echo over >/flood/over' EXIT
    [ -e /flood/refused ] || { bomb & bomb & }
    read -r _ </flood/never
}
bomb &
read -r _ </flood/over
exec cat /dev/zero >/flood/all
";

/// Beside the app. The stack is never up.
const SERVICE: &str = r#"
  flood:
    image: static-web:1.0
    entrypoint: ["sh", "/flood.sh"]
    volumes: ["flood:/flood"]
    configs:
      - source: flood
        target: /flood.sh
    healthcheck:
      test: ["CMD", "test", "-e", "/never"]
      interval: 5s
      retries: 1000
    deploy:
      restart_policy:
        condition: none
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_s_pull_request_comes_to_its_verdict_and_one_that_takes_everything_harms_nobody() {
    let site = Site::start().await;
    let compose = std::fs::read_to_string(site.world.path("static-site/compose.yml")).expect("a file");
    let flooded = compose
        .replace("\nservices:\n", &format!("\nservices:{SERVICE}"))
        .replace(r#"["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:80/"]"#, r#"["NONE"]"#)
        .replace("\nvolumes:\n", "\nvolumes:\n  flood:\n")
        .replace(
            "\nconfigs:\n",
            "\nconfigs:\n  flood:\n    name: ${STACK_NAME}_flood_${FLOOD_VERSION}\n    file: flood.sh\n",
        );
    let versions = std::fs::read_to_string(site.world.path("static-site/abra.sh")).expect("a file");
    let versions = format!("{versions}export FLOOD_VERSION=v1\n");
    let files = [("compose.yml", flooded.as_str()), ("abra.sh", &versions), ("flood.sh", FLOOD)];
    let head = site.forge.commit(FORK, "better", Some(&site.main), &files).await;
    let pull = site.forge.open_git_pull_from(REPO, FORK, "mallory", "better").await;
    site.say(pull, "!testme --quick");
    let told = site.told(pull, "### ").await;
    assert!(told.contains("its disk was full (") && told.contains("the end of its console: "), "{told}");
    assert!(told.contains("from a fork (mallory/static-site), tested in a virtual machine"), "{told}");
    assert!(!told.contains("❌"), "it is nobody's fault but the runner's: {told}");
    let tried = site.server.api().get("/api/v1/runs/1").await.json::<serde_json::Value>();
    assert_eq!(tried["summary"]["state"].as_str(), Some("Completed"), "{tried:#}");

    // She thinks better of it, and the same runner goes on.
    let files = [("compose.yml", compose.as_str()), ("NOTES.md", "A line.\n")];
    let head = site.forge.commit(FORK, "better", Some(&head), &files).await;
    site.forge.push_git(REPO, pull, &head).await;
    site.say(pull, "!testme --quick");
    let told = site.told(pull, "### ✅ pass").await;
    assert!(told.contains(&format!("Commit `{head}`")) && told.contains("`Install`"), "{told}");
    let run = site.server.api().get("/api/v1/runs/2").await.json::<serde_json::Value>();
    assert_eq!(run["summary"]["result"].as_str(), Some("pass"), "{run:#}");
    site.stop().await;
}

/// A forge with a canary's repository and a fork of it, a control plane, and a runner.
struct Site {
    world: World,
    forge: ForgeDouble,
    main: String,
    server: ServerProcess,
    runner: Child,
}

impl Site {
    async fn start() -> Self {
        let world = World::new().await;
        let checkout = world.checkout().await;
        let clock = SimClock::at(assay_engine::clock::SystemClock::default().now());
        let forge = ForgeDouble::start_with(Dialect::Forgejo, clock).await;
        let main = forge.import(REPO, &checkout).await;
        forge.fork_git(REPO, FORK).await;
        forge.add_member("apps", ForgeDouble::BOT, false);
        forge.add_member("apps", "alice", false);
        let data = world.path("data");
        std::fs::create_dir(&data).expect("a folder");
        let settings = format!(
            "base_url = \"https://assay.example.org\"\n[[forge]]\nname = \"coop\"\nkind = \"forgejo\"\naddress = \"{}\"\n\
             token_file = \"coop.token\"\nrepositories = [\"{REPO}\"]\npoll_s = 1\nauthors = {{ members = true }}\n",
            forge.url()
        );
        std::fs::write(data.join("forges.toml"), settings).expect("written");
        std::fs::write(data.join("coop.token"), ForgeDouble::TOKEN).expect("written");
        let mut server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), data, free_ports());
        server.start(&[]).await;
        let runner = runner(&world, &server).await;
        let comments = format!("/repos/{REPO}/issues/comments");
        forge.until("it listens", |forge| forge.count("GET", &comments) > 0).await;
        Self { world, forge, main, server, runner }
    }

    /// Alice says something, now.
    fn say(&self, pull: u64, text: &str) {
        self.forge.clock().advance(Micros::seconds(1));
        self.forge.say(REPO, pull, "alice", text);
    }

    fn ours(&self, pull: u64) -> String {
        let all = self.forge.comments(REPO, pull);
        let ours = all.into_iter().filter(|told| told.author.as_deref() == Some(ForgeDouble::BOT));
        ours.map(|told| told.body).collect()
    }

    /// Waits until the run has ended that the comment is about.
    async fn told(&self, pull: u64, words: &str) -> String {
        let ended = |_: &ForgeDouble| {
            let ours = self.ours(pull);
            ours.contains(words) && !ours.contains("queued") && !ours.contains("running")
        };
        self.forge.until_within(WHOLE, words, ended).await;
        self.ours(pull)
    }

    /// Ends everything; nothing is left of the machines.
    async fn stop(mut self) {
        self.runner.stop(GRACE).await.expect("it ends");
        for folder in ["r/machines", "r/swarms"] {
            let left = std::fs::read_dir(self.world.path(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{folder} is not empty");
        }
        self.server.kill().await;
        let traces = self.world.traces();
        assert!(traces.is_none(), "{traces:#?}");
    }
}

/// A runner that is ready. Its machines have small disks.
async fn runner(world: &World, server: &ServerProcess) -> Child {
    let image: PathBuf = repository().join("target/guest-image");
    let runner = Cmd::new(world.path("assay"))
        .args(["runner", "--name", "attic", "--swarm", "--guest-disk", "1024", "--data"])
        .arg(world.path("data"))
        .arg("--server")
        .arg(format!("http://127.0.0.1:{}", server.ports.operators))
        .arg("--agents")
        .arg(format!("127.0.0.1:{}", server.ports.agents))
        .arg("--state")
        .arg(world.path("r"))
        .arg("--images")
        .arg(world.path("images"))
        .arg("--guest-image")
        .arg(image);
    let mut child = runner.env("TMPDIR", world.path("t")).spawn().await.expect("it starts");
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
