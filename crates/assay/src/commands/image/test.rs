//! `assay image test`: one command, no server, no root; a folder with all evidence, and the exit code is the answer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use assay_api::operator::{OnHost, RunDetail, RunSummary, TestImage};
use assay_model::Sha256;
use assay_pipelines::image::bench::Digests;
use assay_pipelines::image::profile::{Case, Selection};
use assay_pipelines::image::{ImageSpec, Profile};
use assay_runner::Slots;
use clap::Args;

use super::case::{Common, drawn};
use super::matrix::{self, Asked, Running};
use crate::client::Client;
use crate::commands::follow::{cancel, follow, follow_in_line};
use crate::commands::local::{Elsewhere, Local};
use crate::commands::out;
use crate::commands::run;
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::{place, ui};

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
    /// A control plane that decides, signs and keeps the history. The image is tested by a runner of it (`assay runner
    /// --vm`), which has the file under the same path; or by this machine, with --agents and --runner-token.
    #[arg(long, env = "ASSAY_SERVER", conflicts_with = "data")]
    server: Option<String>,
    /// An API token of it; read from the data folder of a server on this machine without it.
    #[arg(long, env = "ASSAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Install it on this registered host of the server in place of a virtual machine. The live image goes first: every
    /// disk of the machine that can be written must be spoken for by its spec or by a permit. The runner that boots the
    /// host has the image under the same path.
    #[arg(long, value_name = "HOST", requires = "server", conflicts_with_all = ["agents", "runner", "firmware", "matrix", "case", "rerun_failed", "retries", "from_phase"])]
    on: Option<String>,
    /// Give the host back when the run fails; without it, the run keeps it until somebody decides.
    #[arg(long, requires = "on")]
    no_hold: bool,
    /// How long the host may take from power-on to the live image, and to the medium, in seconds [default: 600].
    #[arg(long, value_name = "SECONDS", requires = "on")]
    boot_timeout: Option<u32>,
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
    /// Begin at the end of this phase, from a snapshot of an earlier run of this image with this profile; the first such run
    /// makes the snapshot.
    #[arg(long, value_name = "PHASE")]
    from_phase: Option<String>,
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

/// Where the work is done.
enum Work {
    /// By a runner of our own, in this process.
    Here(Box<Local>),
    /// By a runner of the control plane's.
    There { client: Client, runner: Option<String> },
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
        anyhow::ensure!(
            self.on.is_none() || profile.matrix.is_empty(),
            "--on: the profile has a matrix, and a registered host is one machine; leave the axes away"
        );
        let quarantine = !profile.quarantine.is_empty() && self.on.is_none();
        if self.matrix || again || !profile.matrix.is_empty() || quarantine {
            return self.run_matrix(&profile, &data).await;
        }
        let spec = self.spec(profile)?;
        let detail = match self.work(&data, &[]).await? {
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
        ui::say(&format!("report and evidence: {}", self.out().join("report.html").display()));
        Ok(run::exit(&detail.summary))
    }

    async fn work(&self, data: &Path, capacity: &[Slots]) -> Result<Work> {
        let Some(server) = &self.server else {
            return Ok(Work::Here(Box::new(Local::start(data, capacity).await?)));
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
        Ok(Work::Here(Box::new(Local::join(&there, data, capacity)?)))
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

    async fn run_matrix(&self, profile: &Profile, data: &Path) -> Result<Exit> {
        let cases = match profile.selected(&self.case) {
            Ok(cases) => cases,
            Err(problem) => {
                ui::error(&anyhow::anyhow!("{problem}"));
                return Ok(Exit::Usage);
            }
        };
        anyhow::ensure!(
            self.agents.is_none(),
            "a matrix is run by this machine alone, or by a runner of the server's: leave --agents away"
        );
        let (jobs, memory) = self.room(&cases);
        let pools = [("vm", jobs), ("mem_mib", memory)];
        let capacity = pools.map(|(pool, slots)| Slots { pool: pool.to_owned(), slots });
        // Its digest is what a later `--rerun-failed` goes by, and a runner elsewhere must have the very file.
        let image = std::path::absolute(&self.image)?;
        let sha256 = Digests::default().of(&image).await.map_err(anyhow::Error::msg)?.sha256;
        let (client, runner, mut local) = match self.work(data, &capacity).await? {
            Work::Here(local) => (local.client.clone(), Some(local.runner_name.clone()), Some(local)),
            Work::There { client, runner } => (client, runner, None),
        };
        let out = self.out();
        let common = Common {
            image,
            sha256: self.elsewhere().then_some(sha256),
            folder: self.folder()?,
            out: out.clone(),
            runner,
            muted: self.mute.clone(),
            seed: self.seed,
            main: self.main,
            from_phase: self.from_phase.clone(),
            jobs,
        };
        let rerun = self.rerun_failed.as_deref();
        let asked = Asked { common, profile, cases, retries: self.retries, rerun, sha256 };
        let ran = match Running::new(asked) {
            Ok(mut running) => {
                let ended = async {
                    match &mut local {
                        Some(local) => local.ended().await,
                        None => std::future::pending().await,
                    }
                };
                let ran = tokio::select! {
                    ran = running.run(&client) => ran,
                    why = ended => Err(why),
                    () = told_to_stop() => {
                        ui::say(if self.elsewhere() {
                            "stopping: what was queued goes on at the server; what was finished stands in the report"
                        } else {
                            "stopping: machines are switched off; what was finished stands in the report"
                        });
                        Ok(())
                    }
                };
                Ok((running.matrix(), ran))
            }
            Err(problem) => Err(problem),
        };
        if let Some(local) = local {
            local.stop().await;
        }
        let (matrix, ran) = ran?;
        // What was finished is written down even where the rest could not be run.
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
        // What lies on another machine is for its runner to miss.
        for (place, name) in profile.named_files().into_iter().filter(|_| !self.elsewhere()) {
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
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(std::path::absolute(&self.profile)?.parent().map(Path::to_owned).unwrap_or_default()),
        }
    }

    fn spec(&self, profile: Profile) -> Result<ImageSpec> {
        let cell = self.firmware.iter().map(|firmware| ("firmware".to_owned(), firmware.clone())).collect();
        let (image, sha256) = self.image()?;
        let spec = ImageSpec {
            image,
            sha256,
            profile,
            folder: self.folder()?,
            cell,
            on: None,
            main: self.main,
            from_phase: self.from_phase.clone(),
            seed: drawn(self.seed, self.from_phase.as_deref()),
            source: None,
        };
        spec.checked().map_err(|problem| anyhow::anyhow!("--from-phase: {problem}"))?;
        Ok(spec)
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
        let asked = TestImage {
            spec: serde_json::to_value(spec)?,
            runner,
            muted: self.mute.clone(),
            on: self.on.as_ref().map(|host| OnHost {
                host: host.clone(),
                boot_timeout_s: self.boot_timeout,
                hold_s: None,
                no_hold: self.no_hold,
            }),
        };
        let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
        let _ = number.set(summary.number);
        ui::say(&format!("run {} · {} · seed {}", summary.number, summary.target, spec.seed));
        // Somebody may have to do something about why it waits: start a runner, or give one more room.
        if self.elsewhere() {
            follow_in_line(client, summary.number).await?;
        } else {
            follow(client, summary.number).await?;
        }
        out::keep(client, summary.number, &self.out()).await
    }
}

/// The SHA-256 of a file.
pub(crate) fn digest(file: &Path) -> Result<Sha256> {
    let fingerprint = assay_media::prove::Fingerprint::of(file)?;
    let hex = fingerprint.sha256.with_context(|| format!("{}: no digest", file.display()))?;
    hex.parse().with_context(|| file.display().to_string())
}

/// Memory of this machine that is free or can be freed, in MiB.
fn free_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}
