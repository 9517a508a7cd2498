//! `assay image test`: one command, no server, no root; a folder with all evidence, and the exit code is the answer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_api::operator::{RunDetail, RunSummary, TestImage};
use assay_model::{EventBody, Micros, sentence};
use assay_pipelines::image::bench::Digests;
use assay_pipelines::image::profile::{Case, Selection};
use assay_pipelines::image::{ImageSpec, Profile};
use assay_runner::Slots;
use clap::Args;

use super::case::Common;
use super::local::{Elsewhere, Local};
use super::matrix::{self, Asked, Running};
use super::out;
use crate::client::Client;
use crate::commands::run::{self, Live};
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
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
    /// The folder for the report, the evidence bundle, transcripts and pictures [default: assay-out, or the folder of --rerun-failed]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
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
    /// Run the cases of the profile's matrix, with one report over all of them; done by itself where the profile has axes.
    #[arg(long)]
    matrix: bool,
    /// Only the cases with these values: firmware=uefi,disks=three; may be given more than once.
    #[arg(long, value_name = "AXIS=VALUE,…")]
    case: Vec<Selection>,
    /// Print the cases and run nothing.
    #[arg(long, conflicts_with_all = ["junit", "rerun_failed"])]
    list: bool,
    /// How many machines run at once [default: one for every two processors]; memory that is not free holds them back.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Run what did not pass in this earlier matrix (its --out folder); the rest is carried over with its evidence.
    #[arg(long, value_name = "FOLDER", conflicts_with = "server")]
    rerun_failed: Option<PathBuf>,
    /// How often a case that does not pass is run again. One that passes then is `flaky`, and never simply a pass.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    retries: u32,
    /// Print the report as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Test {
    pub(crate) async fn run(self) -> Result<Exit> {
        let profile = self.profile()?;
        if self.list {
            return self.show_cases(&profile);
        }
        let scratch;
        let data = if let Some(data) = &self.data {
            data.clone()
        } else {
            scratch = tempfile::Builder::new().prefix("assay-image-").tempdir().context("a scratch store")?;
            scratch.path().to_owned()
        };
        let again = self.rerun_failed.is_some() || self.retries > 0 || !self.case.is_empty();
        if self.matrix || again || !profile.matrix.is_empty() || !profile.quarantine.is_empty() {
            return self.run_matrix(&profile, &data).await;
        }
        let spec = self.spec(profile)?;
        let mut local = self.local(&data, &[]).await?;
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
        ui::say(&format!("report and evidence: {}", self.out().join("report.html").display()));
        Ok(run::exit(&detail.summary))
    }

    async fn run_matrix(&self, profile: &Profile, data: &Path) -> Result<Exit> {
        let cases = match profile.selected(&self.case) {
            Ok(cases) => cases,
            Err(problem) => {
                ui::error(&anyhow::anyhow!("{problem}"));
                return Ok(Exit::Usage);
            }
        };
        let (jobs, memory) = self.room(&cases);
        let pools = [("vm", jobs), ("mem_mib", memory)];
        let capacity = pools.map(|(pool, slots)| Slots { pool: pool.to_owned(), slots });
        let image = self.image()?;
        let sha256 = Digests::default().of(&image).await.map_err(anyhow::Error::msg)?.sha256;
        let mut local = self.local(data, &capacity).await?;
        let out = self.out();
        let common = Common {
            image,
            folder: self.folder()?,
            out: out.clone(),
            runner: local.runner_name.clone(),
            muted: self.mute.clone(),
            seed: self.seed,
            main: self.main,
            jobs,
        };
        let rerun = self.rerun_failed.as_deref();
        let asked = Asked { common, profile, cases, retries: self.retries, rerun, sha256 };
        let mut running = match Running::new(asked) {
            Ok(running) => running,
            Err(problem) => {
                local.stop().await;
                return Err(problem);
            }
        };
        let client = local.client.clone();
        let ran = tokio::select! {
            ran = running.run(&client) => ran,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: machines are switched off; what was finished stands in the report");
                Ok(())
            }
        };
        local.stop().await;
        // What was finished is written down even where the rest could not be run.
        let matrix = running.matrix();
        matrix::write(&matrix, &out, self.junit.as_ref())?;
        matrix::annotate(&matrix, &out);
        if self.json {
            ui::json(&matrix)?;
        } else {
            matrix::show(&matrix, &out);
        }
        ran?;
        Ok(matrix::exit(&matrix))
    }

    fn show_cases(&self, profile: &Profile) -> Result<Exit> {
        match profile.selected(&self.case) {
            Ok(cases) if self.json => {
                let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
                ui::json(&names)?;
            }
            Ok(cases) => cases.iter().for_each(|case| ui::line(&case.name)),
            Err(problem) => {
                ui::error(&anyhow::anyhow!("{problem}"));
                return Ok(Exit::Usage);
            }
        }
        Ok(Exit::Ok)
    }

    /// How many machines at once, and how much memory they share, in MiB. The largest case always has room.
    fn room(&self, cases: &[Case]) -> (u64, u64) {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let jobs = self.jobs.unwrap_or((processors / 2).max(1));
        let largest = cases.iter().map(|case| case.profile.machine.memory.mib()).max().unwrap_or(0);
        let free = free_mib().unwrap_or(largest) * 4 / 5;
        if largest > free {
            ui::say(&format!(
                "a machine of {largest} MiB is more than the {free} MiB that are free here; one runs at a time"
            ));
        }
        let busy = cases.iter().map(|case| u64::from(case.profile.machine.cpus)).max().unwrap_or(1) * jobs;
        if jobs > 1 && busy > processors {
            ui::say(&format!(
                "{jobs} machines at once keep {busy} processors busy and there are {processors}: each is slower than \
                 alone, and limits stretch only where the profile has `calibrated-ms`"
            ));
        }
        (jobs, free.max(largest).max(1))
    }

    fn out(&self) -> PathBuf {
        let out = self.out.as_ref().or(self.rerun_failed.as_ref());
        out.cloned().unwrap_or_else(|| PathBuf::from("assay-out"))
    }

    async fn local(&self, data: &Path, capacity: &[Slots]) -> Result<Local> {
        match self.elsewhere()? {
            Some(there) => Local::join(&there, data, capacity),
            None => Local::start(data, capacity).await,
        }
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

    /// The profile, with what the command line says otherwise.
    fn profile(&self) -> Result<Profile> {
        let path = &self.profile;
        let source = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut profile =
            Profile::from_toml(&source).map_err(|e| anyhow::anyhow!("{}:\n{e}", path.display()))?;
        if let Some(until) = &self.until {
            profile.until = Some(until.clone());
        }
        if let Some(firmware) = &self.firmware {
            anyhow::ensure!(
                profile.matrix.is_empty(),
                "--firmware: the profile has a matrix; choose a case with --case, or give it an axis of firmware"
            );
            profile.machine.firmware = serde_json::from_value(serde_json::Value::String(firmware.clone()))
                .map_err(|_| anyhow::anyhow!("--firmware {firmware}: bios, uefi or secure-boot"))?;
        }
        profile.checked().map_err(|e| anyhow::anyhow!("{e}"))?;
        let folder = self.folder()?;
        for (place, name) in profile.named_files() {
            let named = folder.join(name);
            anyhow::ensure!(
                named.exists(),
                "{}: {place} = {name:?}: there is no {}",
                path.display(),
                named.display()
            );
        }
        Ok(profile)
    }

    /// The folder that files named in the profile are relative to.
    fn folder(&self) -> Result<PathBuf> {
        Ok(std::path::absolute(&self.profile)?.parent().map(Path::to_owned).unwrap_or_default())
    }

    fn image(&self) -> Result<PathBuf> {
        let at = || self.image.display().to_string();
        let image = std::path::absolute(&self.image).with_context(at)?;
        let file = std::fs::metadata(&image).with_context(at)?;
        anyhow::ensure!(file.is_file(), "{}: not a file", at());
        Ok(image)
    }

    fn spec(&self, profile: Profile) -> Result<ImageSpec> {
        let cell = self.firmware.iter().map(|firmware| ("firmware".to_owned(), firmware.clone())).collect();
        let seed = self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0);
        Ok(ImageSpec { image: self.image()?, profile, folder: self.folder()?, cell, main: self.main, seed })
    }

    async fn test(&self, client: &Client, runner: String, spec: &ImageSpec) -> Result<RunDetail> {
        let asked =
            TestImage { spec: serde_json::to_value(spec)?, runner: Some(runner), muted: self.mute.clone() };
        let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
        ui::say(&format!("run {} · {} · seed {}", summary.number, summary.target, spec.seed));
        follow(client, summary.number).await?;
        out::keep(client, summary.number, &self.out()).await
    }
}

/// Memory of this machine that is free or can be freed, in MiB.
fn free_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
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
