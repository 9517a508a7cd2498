//! The stand: a control plane, a runner and a lab of its own, made for one invocation and gone after it.
//!
//! Nothing of it touches a server, a lab or a data folder that is already there. Whatever happens, [`Stand::clear`]
//! stops the daemons, kills what is left in the stand's own network namespace, and removes its folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use assay_api::operator::{Host, NewHost, RunDetail, RunSummary, Vet};
use assay_model::host::spec::{ClusterSpec, HostSpec};
use assay_model::{EventBody, Mac, StageName};
use assay_process::Cmd;
use assay_qemu::{Injected, Lab, LabConfig};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::catalogue::{Entry, Inject};
use super::edge;
use super::verdict::Seen;
use crate::client::Client;
use crate::commands::lab::spec;
use crate::commands::run::Live;
use crate::commands::up::{self, Stack, Up};
use crate::{place, ui};

/// Longest time from power-on to enrolment. A machine that takes longer in the lab does not boot.
const BOOT_TIMEOUT_S: u32 = 240;
/// No proof takes longer. The engine ends every run by itself long before; this is for an engine that does not.
const RUN_LIMIT: Duration = Duration::from_hours(1);

/// What the stand is made of.
pub(super) struct Settings {
    /// The machine files.
    pub(super) machines: PathBuf,
    /// The live image.
    pub(super) live_image: PathBuf,
    /// Whether machines get the stand-ins for what no simulated device can do wrong.
    pub(super) edge: bool,
    /// The control plane's user.
    pub(super) user: String,
    /// Where evidence is kept, if it is.
    pub(super) evidence: Option<PathBuf>,
}

/// The ground that everything stands on: folder, names, lab. Nothing runs yet.
pub(super) struct Stand {
    settings: Settings,
    scratch: TempDir,
    netns: String,
    lab: Lab,
}

/// The way to the stand's control plane.
pub(super) struct Prover<'a> {
    stand: &'a Stand,
    client: Client,
    muted: Vec<String>,
}

impl Stand {
    /// Makes the ground.
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let scratch =
            tempfile::Builder::new().prefix("assay-prove-").tempdir().context("making a scratch folder")?;
        // The control plane is another user and has to get through to its data folder.
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(scratch.path(), passable).context("the scratch folder")?;
        // A name has at most 15 characters; a process id at most 7 digits.
        let netns = format!("assay-p{}", std::process::id());
        let state = up::runner_state(&scratch.path().join("data")).join("lab");
        let mut config = LabConfig::new(state, &settings.machines);
        config.network.netns.clone_from(&netns);
        let lab = Lab::open(config)?;
        if let Some(folder) = &settings.evidence {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { settings, scratch, netns, lab })
    }

    /// Starts control plane and runner.
    pub(super) async fn start(&self) -> Result<Stack> {
        if self.settings.edge {
            edge::beside_the_image(&self.settings.live_image, &self.image()).await?;
        }
        let up = Up {
            data: self.data(),
            lab: Some(self.settings.machines.clone()),
            lab_netns: self.netns.clone(),
            interface: None,
            address: None,
            proxy_dhcp: false,
            live_image: Some(self.image()),
            user: self.settings.user.clone(),
            listen: ([127, 0, 0, 1], 0).into(),
            serve_arg: Vec::new(),
            capacity: Vec::new(),
            log: Some(self.log()),
        };
        let stack = Stack::start(&up).await?;
        if let Err(problem) = self.image_is_readable().await {
            stack.stop().await;
            return Err(problem);
        }
        Ok(stack)
    }

    /// The way in, once [`Stand::start`] is through.
    pub(super) fn prover(&self, muted: Vec<String>) -> Result<Prover<'_>> {
        let server = format!("http://{}", place::Addresses::read(&self.data())?.operators);
        let client = Client::new(&server, &place::token(&self.data(), "cli")?)?;
        Ok(Prover { stand: self, client, muted })
    }

    /// The daemons' last words.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Removes everything. `stack` is what [`Stand::start`] gave, if it got that far.
    pub(super) async fn clear(self, stack: Option<Stack>) {
        if let Some(stack) = stack {
            stack.stop().await;
        }
        // Namespace and folder are this stand's alone: whatever still uses them was started for it.
        self.kill_leftovers().await;
        if let Err(problem) = self.lab.down().await {
            ui::say(&format!("clearing the lab: {problem}; look with `ip netns` for {}", self.netns));
        }
        if let Some(folder) = &self.settings.evidence {
            let _ = std::fs::copy(self.log(), folder.join("daemons.log"));
        }
        let path = self.scratch.path().to_owned();
        if let Err(problem) = self.scratch.close() {
            ui::say(&format!("{} could not be removed: {problem}", path.display()));
        }
    }

    /// Daemons stop their own children when they are stopped. One that was killed could not.
    async fn kill_leftovers(&self) {
        let inside = Cmd::new("ip").args(["netns", "pids", &self.netns]).run_ok().await;
        // No namespace, no inhabitants.
        let inside = inside.map(|said| said.stdout_text().into_owned()).unwrap_or_default();
        let mut pids: Vec<_> = inside.split_whitespace().map(str::to_owned).collect();
        pids.extend(working_on(self.scratch.path()));
        if !pids.is_empty() {
            // One that ended meanwhile is no problem; one that stays makes the lab's removal fail, which is told.
            let _ = Cmd::new("kill").arg("-KILL").args(pids).run().await;
        }
    }

    /// Asks as the control plane's user, because root may read everything.
    async fn image_is_readable(&self) -> Result<()> {
        let (folder, user) = (&self.image(), &self.settings.user);
        let as_user = Cmd::new("setpriv").args(["--reuid", user, "--regid", user, "--clear-groups", "--"]);
        for file in ["manifest.json", "vmlinuz", "base.initrd", "agent.initrd"] {
            let path = folder.join(file);
            if !as_user.clone().args(["test", "-r"]).arg(&path).run().await?.success() {
                bail!(
                    "the control plane's user `{user}` cannot read {}; make it readable for everyone (chmod a+r), and its folders passable (chmod a+x)",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// The folder that the control plane serves the live image from.
    fn image(&self) -> PathBuf {
        if self.settings.edge { self.scratch.path().join("image") } else { self.settings.live_image.clone() }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("daemons.log")
    }
}

impl Prover<'_> {
    /// Vets an entry's machine to its verdict, and says what was seen and how many seconds it took. A problem on our
    /// side is what was seen, too: the other entries still have something to tell.
    pub(super) async fn prove(&self, entry: &Entry, only: &[&str]) -> (Seen, f64) {
        let outcome = tokio::time::timeout(RUN_LIMIT, self.vet(entry, only)).await;
        match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no verdict within {} s", RUN_LIMIT.as_secs())))
        {
            Ok((detail, not_made)) => {
                let ended = detail.summary.completed_at.unwrap_or(detail.summary.created_at);
                let seconds = ended.since(detail.summary.created_at).0 as f64 / 1e6;
                let mut seen = Seen::of(&detail, entry.expected.code.as_deref());
                seen.not_made = not_made;
                (seen, seconds)
            }
            Err(problem) => (Seen::error(format!("{problem:#}")), 0.0),
        }
    }

    /// The finished run, and what of the entry's faults could not be made.
    async fn vet(&self, entry: &Entry, only: &[&str]) -> Result<(RunDetail, Vec<String>)> {
        let machine = self.stand.lab.machine(&entry.machine)?;
        let macs: Vec<Mac> = machine.ordered.nics.iter().filter(|nic| nic.boot).map(|nic| nic.mac).collect();
        let host = NewHost {
            name: entry.name.clone(),
            macs,
            spec_yaml: Some(spec_of(entry, spec::expected(&machine.ordered))),
            power: Some(json!({ "method": "lab", "machine": entry.machine })),
        };
        let _: Host = self.client.post("/api/v1/hosts", &host).await?;
        let vet = Vet {
            profile: Some(entry.profile.to_string()),
            boot_timeout_s: Some(BOOT_TIMEOUT_S),
            no_hold: true,
            muted: self.muted.clone(),
            only_stages: only.iter().map(|stage| StageName::from(*stage)).collect(),
            ..Vet::default()
        };
        let run: RunSummary = self.client.post(&format!("/api/v1/hosts/{}/vet", entry.name), &vet).await?;
        let not_made = self.follow(entry, run.number).await?;
        let detail: RunDetail = self.client.get(&format!("/api/v1/runs/{}", run.number)).await?;
        if let Some(folder) = &self.stand.settings.evidence {
            self.keep(entry, run.number, folder).await?;
        }
        // The machine has said all that it can say, and the next one wants its time.
        self.stand.lab.power_off(&entry.machine).await?;
        Ok((detail, not_made))
    }

    /// Watches a run to its end and makes the entry's faults at their moments.
    async fn follow(&self, entry: &Entry, number: i64) -> Result<Vec<String>> {
        let mut waiting: Vec<&Inject> = entry.inject.iter().collect();
        // Those whose stage has begun, and that wait for a word of it.
        let mut listening: Vec<&Inject> = Vec::new();
        let mut coming = FuturesUnordered::new();
        let mut not_made = Vec::new();
        // Held to the end: some last only as long.
        let mut made: Vec<(&Inject, Injected)> = Vec::new();
        let mut live = Live::open(&self.client, number).await?;
        loop {
            let event = tokio::select! {
                event = live.next() => event,
                Some((inject, outcome)) = coming.next() => {
                    match outcome {
                        Ok(injected) => made.push((inject, injected)),
                        Err(problem) => not_made.push(format!("the fault was not made: {problem}")),
                    }
                    continue;
                }
            };
            let Some(event) = event else { break };
            let event = event?;
            if event.kind == "log" {
                let text = event.data.to_string();
                let heard =
                    |inject: &mut &Inject| inject.when.says.as_ref().is_some_and(|says| text.contains(says));
                for inject in listening.extract_if(.., heard) {
                    coming.push(self.inject(entry, inject));
                }
            }
            if event.kind != "journal" {
                continue;
            }
            match serde_json::from_value(event.data).context("a journal event does not read")? {
                EventBody::StageStarted { stage, .. } => {
                    for inject in waiting.extract_if(.., |inject| stage.as_str() == inject.when.stage) {
                        if inject.when.says.is_some() {
                            listening.push(inject);
                        } else {
                            coming.push(self.inject(entry, inject));
                        }
                    }
                }
                EventBody::Sealed(_) => break,
                _ => {}
            }
        }
        for (inject, injected) in &made {
            if !injected.happened() {
                not_made.push(format!("`{}` waited for its moment in vain", inject.fault.word()));
            }
        }
        if !waiting.is_empty() || !listening.is_empty() || !coming.is_empty() {
            not_made.push("the run ended before the fault was made".to_owned());
        }
        Ok(not_made)
    }

    async fn inject<'a>(
        &self,
        entry: &Entry,
        inject: &'a Inject,
    ) -> (&'a Inject, Result<Injected, assay_qemu::QemuError>) {
        tokio::time::sleep(Duration::from_secs(inject.when.after_s.into())).await;
        (inject, self.stand.lab.inject(&entry.machine, &inject.fault).await)
    }

    /// The evidence bundle and the machine's console.
    async fn keep(&self, entry: &Entry, number: i64, folder: &Path) -> Result<()> {
        let path = folder.join(format!("{}.tar", entry.name));
        let bundle = self.client.open(&format!("/api/v1/runs/{number}/bundle")).await?.bytes().await?;
        let mut file = tokio::fs::File::create(&path).await.with_context(|| path.display().to_string())?;
        file.write_all(&bundle).await?;
        file.flush().await?;
        let console = self.stand.lab.console_log(&entry.machine)?;
        if console.exists() {
            tokio::fs::copy(console, folder.join(format!("{}-console.log", entry.name))).await?;
        }
        Ok(())
    }
}

/// The spec that an entry's machine is held against, as YAML.
fn spec_of(entry: &Entry, ordered: HostSpec) -> String {
    if let Some(spec) = &entry.spec {
        return spec.clone();
    }
    // Nobody else counts on a lab machine's disks, and they may be erased.
    let mut spec = HostSpec { cluster: Some(ClusterSpec::None), ..ordered };
    if let Some(limits) = &entry.limits {
        spec.limits.clone_from(limits);
    }
    spec.severity.extend(entry.severity.iter().map(|(field, severity)| (field.clone(), *severity)));
    spec.to_yaml()
}

/// The processes with `folder` in their command line. Its name is random, so nobody else's has it.
fn working_on(folder: &Path) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let folder = folder.as_os_str().as_encoded_bytes();
    let mut pids = Vec::new();
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_ok_and(|pid| pid != std::process::id()) {
            // One that ended meanwhile has nothing to say.
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if command.windows(folder.len()).any(|part| part == folder) {
                pids.push(pid);
            }
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(evidence: Option<PathBuf>) -> Stand {
        let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines");
        let settings = Settings {
            machines,
            live_image: "/nonexistent".into(),
            edge: false,
            user: "daemon".into(),
            evidence,
        };
        Stand::new(settings).expect("the ground is made")
    }

    #[tokio::test]
    async fn clearing_removes_the_folder_and_keeps_the_log_where_evidence_is_kept() {
        let kept = tempfile::tempdir().expect("a folder");
        let stand = stand(Some(kept.path().join("evidence")));
        let scratch = stand.scratch.path().to_owned();
        std::fs::write(stand.log(), "serve   ready\nrunner  it died\n").expect("written");
        assert_eq!(stand.last_words(), "serve   ready\nrunner  it died");
        stand.clear(None).await;
        assert!(!scratch.exists());
        assert!(kept.path().join("evidence/daemons.log").exists());
    }

    /// What a runner that was killed leaves behind: a namespace, and somebody in it.
    #[tokio::test]
    async fn clearing_leaves_nobody_in_the_namespace_and_no_namespace() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let stand = stand(None);
        let netns = stand.netns.clone();
        stand.lab.network().up().await.expect("a namespace");
        let mut orphan = Cmd::new("sleep").arg("600").netns(Some(&netns)).spawn().await.expect("started");
        let inside = Cmd::new("ip").args(["netns", "pids", &netns]);
        // `ip netns exec` enters the namespace before it becomes `sleep`, but not before it is started.
        let entered = async {
            while inside.run_ok().await.expect("asked").stdout_text().trim().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), entered).await.expect("it enters");
        stand.clear(None).await;
        let status = tokio::time::timeout(Duration::from_secs(10), orphan.wait()).await.expect("killed");
        assert!(!status.expect("waited for").success());
        assert!(!Path::new("/run/netns").join(&netns).exists());
    }

    /// What a runner that was killed while it tried out KVM leaves behind.
    #[tokio::test]
    async fn clearing_leaves_nobody_who_works_on_the_folder() {
        let stand = stand(None);
        let file = stand.scratch.path().join("probe");
        std::fs::write(&file, "").expect("written");
        let mut orphan = Cmd::new("tail").arg("-f").arg(&file).spawn().await.expect("started");
        let mut other = Cmd::new("tail").args(["-f", "/dev/null"]).spawn().await.expect("started");
        stand.clear(None).await;
        let status = tokio::time::timeout(Duration::from_secs(10), orphan.wait()).await.expect("killed");
        assert!(!status.expect("waited for").success());
        assert_eq!(other.ended(), None);
        assert!(assay_process::Detached::of(other.pid()).is_ok_and(|other| other.is_alive()));
        other.stop(Duration::from_secs(1)).await.expect("stopped");
    }

    #[tokio::test]
    async fn an_image_that_the_control_plane_cannot_read_is_told_before_anything_boots() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let image = tempfile::tempdir().expect("a folder");
        let mut stand = stand(None);
        stand.settings.live_image = image.path().to_owned();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        for name in ["manifest.json", "vmlinuz", "base.initrd", "agent.initrd"] {
            let path = image.path().join(name);
            std::fs::write(&path, name).expect("written");
            std::fs::set_permissions(&path, mode(0o644)).expect("set");
        }
        std::fs::set_permissions(image.path(), mode(0o700)).expect("root's alone");
        let problem = async |stand: &Stand| stand.image_is_readable().await.err().map(|e| e.to_string());
        assert!(problem(&stand).await.is_some_and(|why| why.contains("`daemon` cannot read")));
        std::fs::set_permissions(image.path(), mode(0o755)).expect("set");
        assert_eq!(problem(&stand).await, None);
        stand.clear(None).await;
    }
}
