//! `assay image test`: one command, no server, no root; a folder with all evidence, and the exit code is the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use assay_api::operator::{Decide, RunDetail, RunSummary, TestImage};
use assay_model::{DecisionKind, EventBody, Micros, Sha256, sentence};
use assay_pipelines::image::{ImageSpec, Profile};
use clap::Args;

use super::local::{Elsewhere, Local};
use super::out;
use crate::client::Client;
use crate::commands::run::{self, Live};
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::{place, ui};

#[derive(Args)]
pub(crate) struct Test {
    /// The image.
    image: PathBuf,
    /// What it is held to.
    #[arg(long, short, value_name = "TOML")]
    profile: PathBuf,
    /// Stop after this stage: Prepare, Inspect, Boot, Install, Reboot, Identify, Join, Reconcile.
    #[arg(long, value_name = "STAGE")]
    until: Option<String>,
    /// Another firmware than the profile's: bios, uefi or secure-boot.
    #[arg(long)]
    firmware: Option<String>,
    /// Write the results as JUnit there.
    #[arg(long, value_name = "XML")]
    junit: Option<PathBuf>,
    /// The folder for the report, the evidence bundle, transcripts and pictures.
    #[arg(long, value_name = "FOLDER", default_value = "assay-out")]
    out: PathBuf,
    /// Keep the store there and go on with its history; a scratch one is made and removed without it.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_IMAGE_DATA")]
    data: Option<PathBuf>,
    /// A control plane that decides, signs and keeps the history. The image is tested by a runner of it (`assay runner
    /// --vm`), which has the file under the same path; or by this machine, with --agents and --runner-token.
    #[arg(long, env = "ASSAY_SERVER", conflicts_with = "data")]
    server: Option<String>,
    /// An API token of it; read from the data folder of a server on this machine without it.
    #[arg(long, env = "ASSAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The runner that has the image; any that can without it.
    #[arg(long, value_name = "NAME", requires = "server", conflicts_with = "agents")]
    runner: Option<String>,
    /// The folder on the runner that files named in the profile are relative to [default: the profile's].
    #[arg(long, value_name = "FOLDER", requires = "server")]
    folder: Option<PathBuf>,
    /// Where the control plane serves agents (TLS): this machine is a runner of it meanwhile.
    #[arg(long, env = "ASSAY_AGENTS", requires_all = ["server", "runner_token"])]
    agents: Option<std::net::SocketAddr>,
    /// Its runners' join token.
    #[arg(long, env = "ASSAY_RUNNER_TOKEN", hide_env_values = true, requires = "agents")]
    runner_token: Option<String>,
    /// This is a run of the main branch: ask slow stages, too, which the profile leaves to it (`when = "main"`).
    #[arg(long)]
    main: bool,
    /// What chance is drawn from; repeat a run with the seed that its report names.
    #[arg(long)]
    seed: Option<u32>,
    /// Switch a check off by its code; the run says so and proves nothing of it.
    #[arg(long, value_name = "CODE", hide = true)]
    mute: Vec<String>,
    /// Print the report as JSON on stdout.
    #[arg(long)]
    json: bool,
}

/// Where the work is done.
enum Work {
    /// By a runner of our own, in this process.
    Here(Box<Local>),
    /// By a runner of the control plane's.
    There { client: Client, runner: Option<String> },
}

impl Test {
    pub(crate) async fn run(self) -> Result<Exit> {
        let spec = self.spec()?;
        let scratch;
        let data = if let Some(data) = &self.data {
            data.clone()
        } else {
            scratch = tempfile::Builder::new().prefix("assay-image-").tempdir().context("a scratch store")?;
            scratch.path().to_owned()
        };
        let detail = match self.work(&data).await? {
            Work::There { client, runner } => self.there(&client, runner, &spec).await?,
            Work::Here(local) => self.here(*local, &spec).await?,
        };
        let Some(detail) = detail else { return Ok(Exit::NoResult) };
        out::annotate(&detail.report);
        if let Some(path) = &self.junit {
            out::junit(path, std::slice::from_ref(&detail.report))?;
        }
        if self.json {
            ui::json(&detail.report)?;
        } else {
            ui::line("");
            run::print_detail(&detail);
        }
        ui::say(&format!("report and evidence: {}", self.out.join("report.html").display()));
        Ok(run::exit(&detail.summary))
    }

    async fn work(&self, data: &Path) -> Result<Work> {
        let Some(server) = &self.server else {
            return Ok(Work::Here(Box::new(Local::start(data, &[]).await?)));
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => place::token(&place::default_data(), "cli")?,
        };
        let Some(agents) = self.agents else {
            let client = Client::new(server, &token)?;
            return Ok(Work::There { client, runner: self.runner.clone() });
        };
        let runner_token = self.runner_token.clone().context("--agents needs --runner-token")?;
        let there = Elsewhere { server: server.clone(), agents, token, runner_token };
        Ok(Work::Here(Box::new(Local::join(&there, data, &[])?)))
    }

    /// None when we were told to stop: then no machine of the run is left, and no run that would wait for us.
    async fn here(&self, mut local: Local, spec: &ImageSpec) -> Result<Option<RunDetail>> {
        let runner = local.runner_name.clone();
        let client = local.client.clone();
        let number = OnceLock::new();
        let tested = tokio::select! {
            tested = self.test(&client, Some(runner), spec, &number) => tested,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: machines are switched off");
                if let Some(number) = number.get().filter(|_| self.server.is_some()) {
                    cancel(&client, *number).await;
                }
                local.stop().await;
                return Ok(None);
            }
        };
        local.stop().await;
        tested.map(Some)
    }

    /// None when we were told to stop: the run goes on without us.
    async fn there(
        &self,
        client: &Client,
        runner: Option<String>,
        spec: &ImageSpec,
    ) -> Result<Option<RunDetail>> {
        let number = OnceLock::new();
        tokio::select! {
            tested = self.test(client, runner, spec, &number) => tested.map(Some),
            () = told_to_stop() => {
                if let Some(n) = number.get() {
                    ui::say(&format!("run {n} goes on: `assay run watch {n}` follows it, `assay run cancel {n}` stops it"));
                }
                Ok(None)
            }
        }
    }

    fn spec(&self) -> Result<ImageSpec> {
        let at = |path: &Path| path.display().to_string();
        let source = std::fs::read_to_string(&self.profile).with_context(|| at(&self.profile))?;
        let mut profile =
            Profile::from_toml(&source).map_err(|e| anyhow::anyhow!("{}:\n{e}", at(&self.profile)))?;
        let (image, sha256) = self.image()?;
        if let Some(until) = &self.until {
            profile.until = Some(until.clone());
        }
        let mut cell = BTreeMap::new();
        if let Some(firmware) = &self.firmware {
            profile.machine.firmware = serde_json::from_value(serde_json::Value::String(firmware.clone()))
                .map_err(|_| anyhow::anyhow!("--firmware {firmware}: bios, uefi or secure-boot"))?;
            cell.insert("firmware".to_owned(), firmware.clone());
        }
        profile.checked().map_err(|e| anyhow::anyhow!("{e}"))?;
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => std::path::absolute(&self.profile)?.parent().map(Path::to_owned).unwrap_or_default(),
        };
        // What lies on another machine is for its runner to miss.
        for (place, name) in profile.named_files().into_iter().filter(|_| !self.elsewhere()) {
            let path = folder.join(name);
            anyhow::ensure!(
                path.exists(),
                "{}: {place} = {name:?}: there is no {}",
                at(&self.profile),
                at(&path)
            );
        }
        let seed = self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0);
        Ok(ImageSpec { image, sha256, profile, folder, cell, main: self.main, seed })
    }

    /// Whether a runner of the control plane's does the work, on its own machine.
    const fn elsewhere(&self) -> bool {
        self.server.is_some() && self.agents.is_none()
    }

    /// The image's path on the runner and, where this machine has it as well and is not the runner, its digest: two
    /// files of one name on two machines are not always the same.
    fn image(&self) -> Result<(PathBuf, Option<Sha256>)> {
        let shown = || self.image.display().to_string();
        let elsewhere = self.elsewhere();
        let file = match std::fs::metadata(&self.image) {
            Ok(file) => file,
            Err(_) if elsewhere && self.image.is_absolute() => return Ok((self.image.clone(), None)),
            Err(why) if elsewhere => {
                return Err(why).with_context(|| {
                    format!(
                        "{}: not here; of a file on the runner's machine the whole path is needed",
                        shown()
                    )
                });
            }
            Err(why) => return Err(why).with_context(shown),
        };
        anyhow::ensure!(file.is_file(), "{}: not a file", shown());
        let image = std::path::absolute(&self.image).with_context(shown)?;
        if !elsewhere {
            return Ok((image, None));
        }
        let sha256 = digest(&image)?;
        Ok((image, Some(sha256)))
    }

    async fn test(
        &self,
        client: &Client,
        runner: Option<String>,
        spec: &ImageSpec,
        number: &OnceLock<i64>,
    ) -> Result<RunDetail> {
        let asked = TestImage { spec: serde_json::to_value(spec)?, runner, muted: self.mute.clone() };
        let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
        let _ = number.set(summary.number);
        ui::say(&format!("run {} · {} · seed {}", summary.number, summary.target, spec.seed));
        // Somebody may have to do something about it: start a runner, or give one more room.
        if let Some(why) = summary.waiting.filter(|why| self.elsewhere() && why != "about to start") {
            ui::say(&format!("          waits: {why}"));
        }
        follow(client, summary.number).await?;
        out::keep(client, summary.number, &self.out).await
    }
}

/// The SHA-256 of a file.
pub(crate) fn digest(file: &Path) -> Result<Sha256> {
    let fingerprint = assay_media::prove::Fingerprint::of(file)?;
    let hex = fingerprint.sha256.with_context(|| format!("{}: no digest", file.display()))?;
    hex.parse().with_context(|| file.display().to_string())
}

/// Cancels a run whose runner is about to go away, and waits until that is known: it would wait for us for ever, and
/// with it every later run of this image.
async fn cancel(client: &Client, number: i64) {
    /// The runner hears of it with its next beat.
    const LIMIT: Duration = Duration::from_secs(30);
    let why = "the command that asked for it was stopped".to_owned();
    let decide = Decide { kind: DecisionKind::Cancel, why, serials: Vec::new() };
    let cancelled = async {
        let _: RunSummary = client.post(&format!("/api/v1/runs/{number}/decisions"), &decide).await?;
        let mut live = Live::open(client, number).await?;
        while let Some(event) = live.next().await {
            let event = event?;
            if event.kind == "journal" && event.data["kind"] == "CancelConfirmed" {
                break;
            }
        }
        anyhow::Ok(())
    };
    let done = tokio::time::timeout(LIMIT, cancelled).await;
    if !matches!(done, Ok(Ok(()))) {
        ui::say(&format!("run {number} may still be open on the server: `assay run cancel {number}`"));
    }
}

/// Says what happens, a line each, until the verdict is sealed.
pub(super) async fn follow(client: &Client, number: i64) -> Result<()> {
    let mut live = Live::open(client, number).await?;
    let mut began: Option<Micros> = None;
    while let Some(event) = live.next().await {
        let event = event?;
        match event.kind.as_str() {
            "journal" => {
                let at: Micros = serde_json::from_value(event.data["at"].clone()).unwrap_or_default();
                let since = at.since(*began.get_or_insert(at)).as_seconds();
                let body: EventBody =
                    serde_json::from_value(event.data).context("a journal event does not read")?;
                if let EventBody::StageJudged { .. }
                | EventBody::StageStarted { .. }
                | EventBody::AttemptLost { .. } = body
                {
                    ui::say(&format!("{since:7.1} s  {}", sentence::of(&body)));
                }
                if matches!(body, EventBody::Sealed(_)) {
                    return Ok(());
                }
            }
            "log" => {
                for line in serde_json::from_value::<Vec<assay_api::agent::LogLine>>(event.data)? {
                    let since = began.map_or(0.0, |began| line.at.since(began).as_seconds());
                    if line.source == "agent" && line.text.contains(": ") {
                        ui::say(&format!("{since:7.1} s    {}", line.text));
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::bail!("the run's events ended before its verdict")
}
