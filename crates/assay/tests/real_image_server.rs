//! Images tested for a server: submitted by one, tested by a runner with virtual machines, kept and signed by a third.
//! All three are real processes; what is tested is iPXE's own image, which boots in seconds and never installs anything.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_api::operator::{RunDetail, RunSummary};
use assay_model::{RunResult, RunState, Verdict};
use assay_process::{Child, Cmd, Detached, Output, Signal};
use assay_testkit::{Api, ServerProcess, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

const PROGRAM: &str = env!("CARGO_BIN_EXE_assay");
const IMAGE: &str = "/usr/lib/ipxe/ipxe.iso";
/// A run that fails only by silence, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(6);

/// A control plane, and a folder for everything else.
struct Site {
    server: ServerProcess,
    api: Api,
    folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = ServerProcess::new(PROGRAM, folder.path().join("data"), free_ports());
        server.start(&[("ASSAY_OPERATOR_PASSWORD", "correct horse battery")]).await;
        let api = server.api();
        Self { server, api, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A runner with virtual machines and without anything else; ready when it says so.
    async fn runner(&self, name: &str) -> Runner {
        let command = Cmd::new(PROGRAM)
            .args(["runner", "--vm", "--name", name, "--data"])
            .arg(&self.server.data)
            .arg("--state")
            .arg(self.path(name));
        let mut child = command.spawn().await.expect("it starts");
        let mut lines = child.take_lines().expect("nobody has them");
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (ready, when_ready) = oneshot::channel();
        let (mut ready, kept) = (Some(ready), Arc::clone(&said));
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if let Some(ready) = ready.take_if(|_| line.text.contains("ready: waiting for runs")) {
                    let _ = ready.send(());
                }
                kept.lock().expect("whole").push(line.text);
            }
        });
        when_ready.await.expect("it is ready before it ends");
        Runner { child, said }
    }

    fn profile(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, format!("name = \"{name}\"\n{text}")).expect("written");
        path
    }

    /// `assay image test … --server`.
    fn test(&self, image: &str, profile: &Path) -> Cmd {
        Cmd::new(PROGRAM)
            .args(["image", "test", image, "--server", &self.server.url()])
            .args(["--token", &self.server.cli_token(), "--profile"])
            .arg(profile)
            .arg("--out")
            .arg(self.path("out"))
            .timeout(LIMIT)
    }

    /// What an operator asks of the server.
    async fn ask(&self, words: &[&str]) -> Output {
        let command = Cmd::new(PROGRAM).args(words).args(["--server", &self.server.url()]);
        command.args(["--token", &self.server.cli_token()]).run().await.expect("it ran")
    }

    async fn until(&self, number: i64, wanted: impl Fn(&RunDetail) -> bool) -> RunDetail {
        let path = format!("/api/v1/runs/{number}");
        self.api
            .until(&path, |answer| {
                // The run may not have been asked for yet.
                let run: RunDetail = (answer.status == 200).then(|| answer.json())?;
                wanted(&run).then_some(run)
            })
            .await
    }
}

struct Runner {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Runner {
    fn says(&self, words: &str) -> bool {
        self.said.lock().expect("whole").iter().any(|line| line.contains(words))
    }

    async fn end(mut self) {
        self.child.stop(Duration::from_secs(20)).await.expect("it ends");
    }
}

/// The virtual machines that have something in this folder.
fn machines_below(folder: &Path) -> Vec<Detached> {
    let entries = std::fs::read_dir("/proc").expect("there is one");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = |pid: &String| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("qemu-system") && line.contains(&folder.display().to_string())
    };
    names.filter(ours).filter_map(|pid| Detached::of(pid.parse().ok()?).ok()).collect()
}

/// What a failed expectation shows.
fn said(output: &Output) -> String {
    format!("{}\n{}", output.stdout_text(), output.stderr_text())
}

const BOOTS: &str = "[boot]\nrung = \"bootloader\"\ntimeout = \"90s\"\n";
/// It never comes: the run ends by silence.
const INSTALLS: &str = "[boot]\nrung = \"bootloader\"\n[console]\nsilence = \"20s\"\n\
    [[phase]]\nname = \"installed\"\nmarker = \"Installation complete\"\ntimeout = \"60s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_submitted_tested_by_a_runner_and_kept_by_the_server() {
    let site = Site::start().await;
    let profile = site.profile("ipxe", BOOTS);
    let runner = site.runner("bench1").await;

    let tested = site.test(IMAGE, &profile).run().await.expect("it ran");
    assert_eq!(tested.code(), Some(0), "{}", said(&tested));
    let detail: RunDetail = site.api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!(detail.summary.result, Some(RunResult::Pass));
    assert!(runner.says("took run 1"), "it was not done by whoever asked");
    let of_it: Vec<RunSummary> = site.api.get("/api/v1/runs?image=ipxe").await.expect(200).json();
    assert_eq!(of_it.len(), 1);
    let listed = site.ask(&["image", "list"]).await;
    assert!(listed.stdout_text().contains("ipxe   pass"), "{}", said(&listed));
    let digest = assay_model::Sha256::of(&std::fs::read(IMAGE).expect("it is there")).to_string();
    let shown = site.ask(&["image", "show", "ipxe"]).await;
    for part in ["ipxe\n", &digest, "1    pass"] {
        assert!(shown.stdout_text().contains(part), "{part}: {}", said(&shown));
    }
    let unknown = site.ask(&["image", "show", "../hosts"]).await;
    assert_eq!(unknown.code(), Some(2), "{}", said(&unknown));
    assert!(said(&unknown).contains("there is no image `../hosts`"), "{}", said(&unknown));
    let verified =
        Cmd::new(PROGRAM).arg("verify").arg(site.path("out/bundle.tar")).run().await.expect("it ran");
    assert_eq!(verified.code(), Some(0), "{}", said(&verified));

    // The file has to lie where the runner is; that it does not is nobody's verdict.
    let nowhere = site.test("/nowhere/x.iso", &profile).run().await.expect("it ran");
    assert_eq!(nowhere.code(), Some(4), "{}", said(&nowhere));
    for part in ["cannot be read on the runner's machine: /nowhere/x.iso", "put it there", "no verdict"] {
        assert!(said(&nowhere).contains(part), "{part}: {}", said(&nowhere));
    }
    let relative = site.test("x.iso", &profile).run().await.expect("it ran");
    assert_eq!(relative.code(), Some(5));
    assert!(said(&relative).contains("the whole path is needed"), "{}", said(&relative));

    // The same name on two machines, and not the same image.
    let text = std::fs::read_to_string(&profile).expect("written above");
    let profile: Value =
        serde_json::to_value(assay_pipelines::image::Profile::from_toml(&text).expect("it reads"))
            .expect("plain data");
    let spec =
        json!({ "image": IMAGE, "sha256": "00".repeat(32), "profile": profile, "folder": "/", "seed": 1 });
    let asked: RunSummary =
        site.api.post("/api/v1/images/runs", &json!({ "spec": spec })).await.expect(200).json();
    let other = site.until(asked.number, |run| run.summary.state == RunState::Completed).await;
    assert_eq!(other.summary.result, None);
    assert!(
        other.report.stages[0].message.contains("another image than the one"),
        "{:?}",
        other.report.stages[0]
    );
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_dies_in_the_middle_takes_the_run_up_again() {
    let site = Site::start().await;
    let profile = site.profile("ipxe", INSTALLS);
    let runner = site.runner("bench1").await;
    let asking = site.test(IMAGE, &profile);
    let tested = tokio::spawn(async move { asking.run().await.expect("it ran") });
    site.until(1, |run| run.summary.stage.as_deref() == Some("Install")).await;
    let machines = machines_below(&site.path("bench1"));
    assert_eq!(machines.len(), 1);
    assert!(machines[0].is_alive());
    runner.child.signal(Signal::KILL).expect("it was there");
    drop(runner);

    let runner = site.runner("bench1").await;
    assert!(!machines[0].is_alive(), "nobody would ever have ended it");
    let tested = tested.await.expect("no panic");
    assert_eq!(tested.code(), Some(1), "{}", said(&tested));
    let detail: RunDetail = site.api.get("/api/v1/runs/1").await.expect(200).json();
    let install = detail.report.stages.iter().find(|stage| stage.name == "Install").expect("planned");
    assert_eq!((install.attempt, install.verdict), (2, Some(Verdict::Fail)), "{install:?}");
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_its_own_runner_leaves_no_run_behind_when_it_is_stopped() {
    let site = Site::start().await;
    let profile = site.profile("ipxe", INSTALLS);
    let agents = format!("127.0.0.1:{}", site.server.ports.agents);
    let command =
        site.test(IMAGE, &profile).args(["--agents", &agents, "--runner-token", &site.server.join_token()]);
    let mut asking = command.spawn().await.expect("it starts");
    site.until(1, |run| run.summary.stage.as_deref() == Some("Install")).await;
    asking.signal(Signal::INT).expect("it is there");
    let ended = asking.wait().await.expect("it ends");
    assert_eq!(ended.code(), Some(4));
    let run: RunDetail = site.api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!(run.summary.state, RunState::Cancelled, "or no image of this name could be tested again");

    // Submitted to a runner that is not there, it says so, and stays when whoever asked goes away.
    let runner = site.runner("bench1").await;
    let mut asking =
        site.test(IMAGE, &profile).args(["--runner", "elsewhere"]).spawn().await.expect("it starts");
    let waits = site.until(2, |run| run.summary.waiting.is_some()).await.summary.waiting.expect("it waits");
    assert_eq!(waits, "runner elsewhere, which has what is tested, is not connected");
    let mut lines = Vec::new();
    while let Some(line) = asking.next_line().await {
        lines.push(line.text);
        if lines.iter().any(|line| line.contains("waits: runner elsewhere")) {
            break;
        }
    }
    asking.signal(Signal::INT).expect("it is there");
    assert_eq!(asking.wait().await.expect("it ends").code(), Some(4), "{lines:?}");
    let run: RunDetail = site.api.get("/api/v1/runs/2").await.expect(200).json();
    assert_eq!(run.summary.state, RunState::Queued);
    runner.end().await;
}
