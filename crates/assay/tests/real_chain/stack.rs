//! Control plane, runner and lab of one test, and the operator's command line at them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::{Event, Mac, RunId};
use assay_process::{Cmd, Detached, Output};
use assay_qemu::{Lab, LabConfig, Status};
use assay_store::Store;
use assay_testkit::{Api, Ports, ProxmoxCluster, WebhookSink, free_ports};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::daemon::Daemon;
use crate::journal::Journal;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_assay");
/// A boot from power-on to enrolment: about 25 s, and twice that on a busy machine.
pub(crate) const BOOT_S: u64 = 120;
/// From the enrolment to the seal, or from one stage to the next: the longest stage of a quick run takes about a
/// minute.
pub(crate) const STAGES_S: u64 = 300;
/// The stages of a test that is not about the others, which keep a machine under load for minutes.
pub(crate) const SHORT: [&str; 2] = ["--only-stages", "Inventory,SpecValidate,SMART,Reporting"];
/// How long a command may take that does not wait for a run.
const COMMAND: Duration = Duration::from_mins(1);
/// The pause between two questions about the same thing.
const AGAIN: Duration = Duration::from_millis(100);

/// One whole installation.
pub(crate) struct Stack {
    pub(crate) server: Daemon,
    pub(crate) runner: Daemon,
    pub(crate) hook: WebhookSink,
    pub(crate) ports: Ports,
    netns: String,
    dir: TempDir,
}

impl Stack {
    /// Starts the control plane and a runner with a lab.
    pub(crate) async fn up() -> Self {
        Self::up_with(None).await
    }

    /// The same; the control plane may ask this cluster about its members.
    pub(crate) async fn up_beside(cluster: &ProxmoxCluster) -> Self {
        Self::up_with(Some(cluster)).await
    }

    async fn up_with(cluster: Option<&ProxmoxCluster>) -> Self {
        assert!(rustix::process::geteuid().is_root(), "a runner needs root: run these tests with sudo");
        let dir = folder();
        let ports = free_ports();
        let hook = WebhookSink::start().await;
        let netns = namespace(dir.path());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let data = dir.path().join("data");
        if let Some(cluster) = cluster {
            std::fs::create_dir(&data).expect("made");
            let line = format!("{} {}\n", cluster.url(), ProxmoxCluster::TOKEN);
            std::fs::write(data.join("cluster-tokens"), line).expect("written");
        }
        let serve = Cmd::new(PROGRAM)
            .args(["serve", "--listen", &at(ports.operators), "--boot-listen", &at(ports.boot)])
            .args(["--agent-listen", &at(ports.agents), "--webhook", &hook.url(), "--webhook-allow-internal"])
            .arg("--live-image")
            .arg(live_image())
            .arg("--data")
            .arg(&data)
            .env("ASSAY_OPERATOR_PASSWORD", "correct-horse-battery");
        let runner = Cmd::new(PROGRAM)
            .args(["runner", "--name", "bench", "--lab-netns", &netns, "--lab"])
            .arg(machines())
            .arg("--data")
            .arg(&data)
            .arg("--state")
            .arg(dir.path().join("r"));
        let server = Daemon::new("server", serve, "ready http://");
        let runner = Daemon::new("runner", runner, "ready: waiting for runs");
        // From here on, dropping it cleans up.
        let mut stack = Self { server, runner, hook, ports, netns, dir };
        stack.server.start().await;
        // Whether KVM works takes seconds to find out, and is the same for all tests.
        let (known, here) =
            (Path::new(env!("CARGO_TARGET_TMPDIR")).join("accel.json"), stack.lab_state().join("accel.json"));
        std::fs::create_dir_all(stack.lab_state()).expect("made");
        let _ = std::fs::copy(&known, &here);
        stack.runner.start().await;
        std::fs::copy(&here, &known).expect("the runner has found out");
        stack
    }

    /// Runs the command line against this installation. Whether it succeeded is for the caller to say.
    pub(crate) async fn try_assay(&self, args: &[&str]) -> Output {
        let command = Cmd::new(PROGRAM).args(args.iter().copied()).env("ASSAY_DATA", self.data().as_os_str());
        command.env("ASSAY_SERVER", self.url()).timeout(COMMAND).run().await.expect("the program runs")
    }

    /// The same; it must succeed. Returns its stdout.
    pub(crate) async fn assay(&self, args: &[&str]) -> String {
        let output = self.try_assay(args).await;
        assert!(
            output.success(),
            "assay {}: {}{}",
            args.join(" "),
            output.stdout_text(),
            output.stderr_text()
        );
        output.stdout_text().into_owned()
    }

    /// The same; its stdout is JSON.
    pub(crate) async fn assay_json(&self, args: &[&str]) -> Value {
        let text = self.assay(args).await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("assay {}: {e}: {text}", args.join(" ")))
    }

    /// Registers a lab machine with the spec that it was ordered with, under its own name.
    pub(crate) async fn register(&self, machine: &str) {
        let spec = self.ordered(machine).await;
        self.register_as(machine, &spec).await;
    }

    /// The same, as the node `pve3` of a cluster.
    pub(crate) async fn register_member(&self, machine: &str, cluster: &ProxmoxCluster) {
        let alone = "cluster: none\n";
        let member = format!(
            "cluster:\n  proxmox:\n    url: {}\n    node: pve3\n    fingerprint: {}\n",
            cluster.url(),
            cluster.fingerprint()
        );
        let spec = self.ordered(machine).await;
        assert!(spec.contains(alone), "{spec}");
        self.register_as(machine, &spec.replace(alone, &member)).await;
    }

    /// The spec that a lab machine was ordered with.
    async fn ordered(&self, machine: &str) -> String {
        self.assay(&[
            "lab",
            "spec",
            machine,
            "--machines",
            &text(&machines()),
            "--state",
            &text(&self.lab_state()),
            "--netns",
            &self.netns,
        ])
        .await
    }

    async fn register_as(&self, machine: &str, spec: &str) {
        let path = self.dir.path().join("spec.yaml");
        std::fs::write(&path, spec).expect("written");
        let mac = self.boot_mac(machine).to_string();
        self.assay(&[
            "host",
            "add",
            machine,
            "--mac",
            &mac,
            "--spec",
            &text(&path),
            "--power",
            &format!("lab:{machine}"),
        ])
        .await;
    }

    /// Vets a host; returns the run's number and its journal from the beginning.
    pub(crate) async fn vet(&self, host: &str, more: &[&str]) -> (i64, Journal) {
        let args = [&["host", "vet", host, "--json"], more].concat();
        let number = self.assay_json(&args).await["number"].as_i64().expect("a number");
        (number, self.journal(number))
    }

    /// The journal of a run from the beginning.
    pub(crate) fn journal(&self, number: i64) -> Journal {
        Journal::follow(&self.url(), &self.token(), number)
    }

    /// The report of a run, as its readers get it.
    pub(crate) async fn report(&self, number: i64) -> Value {
        self.assay_json(&["report", &number.to_string(), "--json"]).await
    }

    /// Fetches a run's evidence and checks it offline; returns what `assay verify` says.
    pub(crate) async fn verify(&self, number: i64) -> Output {
        let bundle = text(&self.dir.path().join("bundle.tar"));
        self.assay(&["report", &number.to_string(), "--format", "bundle", "--output", &bundle]).await;
        self.try_assay(&["verify", &bundle]).await
    }

    /// Asks the API until `wanted` finds what it wants.
    pub(crate) async fn until<T>(&self, path: &str, seconds: u64, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let api = self.api();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let answer: Value = api.insist("GET", path, None).await.expect(200).json();
            if let Some(found) = wanted(&answer) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{path} did not say what was waited for within {seconds} s: {answer:#}"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(&self.url(), Some(&self.token()))
    }

    /// The store, for reading: what no interface shows.
    pub(crate) async fn store(&self) -> Store {
        Store::open(&format!("sqlite://{}/assay.db", self.data().display())).await.expect("opened")
    }

    pub(crate) async fn run_id(&self, number: i64) -> RunId {
        let report = self.report(number).await;
        report["run"]["id"].as_str().expect("an id").parse().expect("a run id")
    }

    pub(crate) fn lab(&self) -> Lab {
        lab(&self.lab_state(), &self.netns)
    }

    /// The process of a machine, which must be on, and since when: they change when it is switched.
    pub(crate) async fn running(&self, machine: &str) -> (u32, assay_model::Micros) {
        match self.lab().status(machine).await.expect("asked") {
            Status::Running { pid, since } => (pid, since),
            other => panic!("{machine} is not running: {other:?}"),
        }
    }

    /// Waits until a machine is off.
    pub(crate) async fn off(&self, machine: &str) {
        let off = self.lab().wait_off(machine, Duration::from_mins(1)).await.expect("asked");
        assert!(off, "{machine} did not go off");
    }

    /// The address that a machine boots from.
    pub(crate) fn boot_mac(&self, machine: &str) -> Mac {
        let machine = self.lab().machine(machine).expect("a machine file");
        machine.actual.nics.iter().find(|nic| nic.boot).expect("it boots from the network").mac
    }

    /// Runs `ip` inside of the provisioning network.
    pub(crate) async fn ip(&self, args: &[&str]) {
        Cmd::new("ip").args(["-netns", &self.netns]).args(args.iter().copied()).run_ok().await.expect("done");
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn runner_state(&self) -> PathBuf {
        self.dir.path().join("r")
    }

    fn lab_state(&self) -> PathBuf {
        self.runner_state().join("lab")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.operators)
    }

    fn token(&self) -> String {
        let path = self.data().join("cli.token");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            for (name, side) in [("server", &self.server), ("runner", &self.runner)] {
                let said = side.said();
                eprintln!(
                    "--- the {name}'s last words:\n{}",
                    said[said.len().saturating_sub(60)..].join("\n")
                );
            }
        }
        let cleaned =
            take_down(&mut [&mut self.runner, &mut self.server], &self.dir.path().join("r/lab"), &self.netns);
        assert!(failed || cleaned, "the test left something behind");
    }
}

/// Stops these sides, switches off the lab's machines and removes its network, and whatever was left in it. Says
/// whether all of that worked. Has a runtime of its own: the test's may be what is coming down.
pub(crate) fn take_down(sides: &mut [&mut Daemon], state: &Path, netns: &str) -> bool {
    let cleaned = std::thread::scope(|scope| {
        let clean = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for side in sides {
                    side.stop().await;
                }
                clear(state, netns).await;
            });
        });
        clean.join()
    });
    cleaned.is_ok()
}

async fn clear(state: &Path, netns: &str) {
    lab(state, netns).down().await.expect("the lab comes down");
    if !Path::new("/run/netns").join(netns).exists() {
        return;
    }
    // What a runner that was killed has left, such as its dnsmasq. The namespace is ours alone.
    let left = Cmd::new("ip").args(["netns", "pids", netns]).run_ok().await.expect("listed");
    for pid in left.stdout_text().split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if let Ok(process) = Detached::of(pid) {
            process.stop(Duration::from_secs(2)).await.expect("stopped");
        }
    }
    Cmd::new("ip").args(["netns", "delete", netns]).run_ok().await.expect("deleted");
}

/// A folder with a short path (sockets lie in it) that other users may pass through.
pub(crate) fn folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("assay-rc-").tempdir_in("/var/tmp").expect("a folder");
    let passable = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(dir.path(), passable).expect("set");
    dir
}

/// A namespace's name that nobody else has: that of the test's folder.
pub(crate) fn namespace(dir: &Path) -> String {
    let name = dir.file_name().expect("a name").to_string_lossy().replace("assay-rc-", "");
    format!("arc-{name}")
}

/// The shipped machine files.
pub(crate) fn machines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines")
}

fn lab(state: &Path, netns: &str) -> Lab {
    let mut config = LabConfig::new(state, machines());
    netns.clone_into(&mut config.network.netns);
    Lab::open(config).expect("opened")
}

fn live_image() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/live-image");
    let path = std::env::var_os("ASSAY_LIVE_IMAGE").map_or_else(built, PathBuf::from);
    assert!(
        path.join("agent.initrd").exists(),
        "{} has no live image; build it with `cargo build -p assay-agent && cargo xtask live-image --agent \
         target/debug/assay-agent`, or name another folder in ASSAY_LIVE_IMAGE",
        path.display()
    );
    path
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The stages that were judged, each with its attempt and its verdict, in order: `SMART 1 pass`.
pub(crate) fn judged(events: &[Event]) -> Vec<String> {
    let judged = events.iter().filter_map(|e| match &e.body {
        assay_model::EventBody::StageJudged { stage, attempt, judgement, .. } => {
            Some(format!("{stage} {attempt} {}", judgement.verdict))
        }
        _ => None,
    });
    judged.collect()
}
