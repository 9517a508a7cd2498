//! `assay image test`: one command, no server, no root; a folder with all evidence, and the exit code is the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_api::operator::{RunDetail, RunSummary, TestImage};
use assay_model::{EventBody, Micros, sentence};
use assay_pipelines::image::{ImageSpec, Profile};
use clap::Args;

use super::local::{Elsewhere, Local};
use super::out;
use crate::client::Client;
use crate::commands::run::{self, Live};
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

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
    /// A control plane that decides, signs and keeps the history; this machine is a runner of it meanwhile.
    #[arg(long, env = "ASSAY_SERVER", requires_all = ["agents", "runner_token"], conflicts_with = "data")]
    server: Option<String>,
    /// Where that control plane serves agents (TLS).
    #[arg(long, env = "ASSAY_AGENTS")]
    agents: Option<std::net::SocketAddr>,
    /// An API token of it.
    #[arg(long, env = "ASSAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Its runners' join token.
    #[arg(long, env = "ASSAY_RUNNER_TOKEN", hide_env_values = true)]
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
        let mut local = match self.elsewhere()? {
            Some(there) => Local::join(&there, &data, &[])?,
            None => Local::start(&data, &[]).await?,
        };
        let runner = local.runner_name.clone();
        let client = local.client.clone();
        let tested = tokio::select! {
            tested = self.test(&client, runner, &spec) => tested,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: machines are switched off");
                local.stop().await;
                return Ok(Exit::NoResult);
            }
        };
        local.stop().await;
        let detail = tested?;
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

    fn elsewhere(&self) -> Result<Option<Elsewhere>> {
        let Some(server) = &self.server else { return Ok(None) };
        let agents = self.agents.context("--server needs --agents: where it serves agents")?;
        Ok(Some(Elsewhere {
            server: server.clone(),
            agents,
            token: self.token.clone().context("--server needs --token: an API token of it")?,
            runner_token: self.runner_token.clone().context("--server needs --runner-token")?,
        }))
    }

    fn spec(&self) -> Result<ImageSpec> {
        let at = |path: &Path| path.display().to_string();
        let source = std::fs::read_to_string(&self.profile).with_context(|| at(&self.profile))?;
        let mut profile =
            Profile::from_toml(&source).map_err(|e| anyhow::anyhow!("{}:\n{e}", at(&self.profile)))?;
        let image = std::path::absolute(&self.image).with_context(|| at(&self.image))?;
        let file = std::fs::metadata(&image).with_context(|| at(&self.image))?;
        anyhow::ensure!(file.is_file(), "{}: not a file", at(&self.image));
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
        let folder = std::path::absolute(&self.profile)?.parent().map(Path::to_owned).unwrap_or_default();
        for (place, name) in profile.named_files() {
            let path = folder.join(name);
            anyhow::ensure!(
                path.exists(),
                "{}: {place} = {name:?}: there is no {}",
                at(&self.profile),
                at(&path)
            );
        }
        let seed = self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0);
        Ok(ImageSpec { image, profile, folder, cell, main: self.main, seed })
    }

    async fn test(&self, client: &Client, runner: String, spec: &ImageSpec) -> Result<RunDetail> {
        let asked =
            TestImage { spec: serde_json::to_value(spec)?, runner: Some(runner), muted: self.mute.clone() };
        let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
        ui::say(&format!("run {} · {} · seed {}", summary.number, summary.target, spec.seed));
        follow(client, summary.number).await?;
        out::keep(client, summary.number, &self.out).await
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
