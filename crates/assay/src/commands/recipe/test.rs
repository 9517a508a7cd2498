//! `assay recipe test`: one command, no server; a folder with all evidence, and the exit code is the answer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use assay_api::operator::{RunDetail, RunSummary, TestRecipe};
use assay_model::RunResult;
use assay_pipelines::recipe::{Asked, Isolation, RecipeSpec};
use clap::Args;

use super::spec::{Where, is_generic_skipped};
use crate::client::Client;
use crate::commands::follow::{cancel, cancel_abandoned, follow, follow_in_line};
use crate::commands::guests::GuestArgs;
use crate::commands::local::Local;
use crate::commands::registries::RegistryArgs;
use crate::commands::{out, run, told_to_stop};
use crate::exit::Exit;
use crate::{place, ui};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Test {
    #[command(flatten)]
    recipe: Where,
    /// Test this commit, branch or tag as it is in history [default: the folder as it is, changes included]
    #[arg(long, value_name = "REVISION")]
    commit: Option<String>,
    #[command(flatten)]
    registries: RegistryArgs,
    /// Only install it and run its tests: no upgrade, no backup. Such a pass never counts as a whole one.
    #[arg(long)]
    quick: bool,
    /// Run the tests in `extra/`, too.
    #[arg(long)]
    extra: bool,
    /// Only these stages: Lint, Upgrade, Idempotence, Backup, Restore, Custom, Rollback. Install and Teardown are always done.
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    stages: Vec<String>,
    /// Leave the stack up at the end, for a look at it, until Ctrl-C.
    #[arg(long, conflicts_with = "server")]
    keep: bool,
    /// Deploy into the swarm of this machine's own Docker daemon, which others use, too, and not into a daemon of the run's own: for
    /// recipes that are trusted, where images are too large to be brought for each run. Without a value: /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET", conflicts_with = "server", num_args = 0..=1, default_missing_value = super::DOCKER)]
    shared_swarm: Option<PathBuf>,
    /// Test it in a virtual machine that is thrown away afterwards, and not in namespaces of this machine: for what strangers have
    /// written. It takes a guest image (`cargo xtask guest-image`), and is slower.
    #[arg(long, conflicts_with_all = ["keep", "shared_swarm"])]
    in_vm: bool,
    #[command(flatten)]
    guests: GuestArgs,
    /// Write the results as JUnit there.
    #[arg(long, value_name = "XML")]
    junit: Option<PathBuf>,
    /// The folder for the report, the evidence bundle, logs and pictures.
    #[arg(long, value_name = "FOLDER", default_value = "assay-out")]
    out: PathBuf,
    /// Keep the store there and go on with its history; a scratch one is made and removed without it.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_RECIPE_DATA")]
    data: Option<PathBuf>,
    /// A control plane that decides, signs and keeps the history. A runner of it (`assay runner --swarm`) does the work, and has
    /// the folder under the same path.
    #[arg(long, env = "ASSAY_SERVER", conflicts_with = "data")]
    server: Option<String>,
    /// An API token of it; read from the data folder of a server on this machine without it.
    #[arg(long, env = "ASSAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The runner that has the folder; any that can without it.
    #[arg(long, value_name = "NAME", requires = "server")]
    runner: Option<String>,
    /// Switch a check off by its code; the run says so and proves nothing of it.
    #[arg(long, value_name = "CODE", hide = true)]
    mute: Vec<String>,
    /// Print the report as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Test {
    pub(crate) async fn run(self) -> Result<Exit> {
        let spec = self.spec().await?;
        let shown = spec.manifest.to_string();
        for line in shown.lines() {
            ui::say(line);
        }
        let scratch;
        let data = if let Some(data) = &self.data {
            data.clone()
        } else {
            scratch =
                tempfile::Builder::new().prefix("assay-recipe-").tempdir().context("a scratch store")?;
            scratch.path().to_owned()
        };
        let detail = match &self.server {
            Some(server) => {
                let token = match &self.token {
                    Some(token) => token.clone(),
                    None => place::token(&place::default_data(), "cli")?,
                };
                self.there(&Client::new(server, &token)?, &spec).await?
            }
            None => self.here(&data, &spec).await?,
        };
        Ok(detail.map_or(Exit::NoResult, |detail| run::exit(&detail.summary)))
    }

    /// With a runner of our own. None when we were told to stop: then nothing of the run is left.
    async fn here(&self, data: &Path, spec: &RecipeSpec) -> Result<Option<RunDetail>> {
        let machines = if self.in_vm { Some(self.guests.settings(&data.join("runner"))?) } else { None };
        let can = match (&machines, &self.shared_swarm) {
            (Some(machines), _) => machines.check().map(drop),
            (None, Some(socket)) => assay_runner::can_share(socket).await.map(drop),
            (None, None) => assay_runner::can_test_recipes(),
        };
        can.map_err(|why| anyhow::anyhow!("{why}"))?;
        let (cache, shared) = (self.registries.cache()?, self.shared_swarm.clone());
        let mut local = Local::start_with(data, &[], cache, shared, machines).await?;
        let (client, runner) = (local.client.clone(), local.runner_name.clone());
        let number = OnceLock::new();
        let tested = tokio::select! {
            tested = async {
                // The folder is this command's alone while it runs, so whatever is open there has nobody any more.
                cancel_abandoned(&client).await?;
                self.test(&client, Some(runner), spec, &number).await
            } => tested,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: the stack is taken down");
                local.stop().await;
                return Ok(None);
            }
        };
        if let Ok(detail) = &tested {
            self.show(detail, spec)?;
            if self.keep && detail.report.stages.iter().any(|stage| stage.message.contains("left up")) {
                ui::say("the stack is up; Ctrl-C takes it down");
                told_to_stop().await;
            }
        }
        local.stop().await;
        tested.map(Some)
    }

    /// By a runner of the control plane's. None when we were told to stop: the run goes on without us.
    async fn there(&self, client: &Client, spec: &RecipeSpec) -> Result<Option<RunDetail>> {
        anyhow::ensure!(
            !self.registries.are_given(),
            "the runner asks registries, with what it was told of them: give it --registry and the like, and not this command"
        );
        let number = OnceLock::new();
        tokio::select! {
            tested = self.test(client, self.runner.clone(), spec, &number) => {
                let detail = tested?;
                self.show(&detail, spec)?;
                Ok(Some(detail))
            }
            () = told_to_stop() => {
                if let Some(n) = number.get() {
                    cancel(client, *n).await;
                }
                Ok(None)
            }
        }
    }

    async fn test(
        &self,
        client: &Client,
        runner: Option<String>,
        spec: &RecipeSpec,
        number: &OnceLock<i64>,
    ) -> Result<RunDetail> {
        let asked = TestRecipe {
            spec: serde_json::to_value(spec)?,
            only: self.stages.clone(),
            runner,
            muted: self.mute.clone(),
            asked: assay_model::Asked::default(),
        };
        let summary: RunSummary = client.post("/api/v1/recipes/runs", &asked).await?;
        let _ = number.set(summary.number);
        ui::say(&format!(
            "run {} · {} · {} · seed {}",
            summary.number,
            summary.target,
            spec.domain(),
            spec.seed
        ));
        match self.server {
            Some(_) => follow_in_line(client, summary.number).await?,
            None => follow(client, summary.number).await?,
        }
        out::keep(client, summary.number, &self.out).await
    }

    fn show(&self, detail: &RunDetail, spec: &RecipeSpec) -> Result<()> {
        out::annotate(&detail.report);
        if let Some(path) = &self.junit {
            out::junit(path, std::slice::from_ref(&detail.report))?;
        }
        if self.json {
            ui::json(&detail.report)?;
        } else {
            ui::line("");
            run::print_detail(detail);
        }
        if detail.summary.result == Some(RunResult::Pass) && self.quick {
            ui::say(&spec.left_out_by_quick());
        }
        ui::say(&format!("report and evidence: {}", self.out.join("report.html").display()));
        Ok(())
    }

    async fn spec(&self) -> Result<RecipeSpec> {
        anyhow::ensure!(
            !is_generic_skipped() || self.server.is_none(),
            "ASSAY_SKIP_GENERIC is for one's own machine: unset it, or leave --server away"
        );
        let asked = Asked { quick: self.quick, extra: self.extra, keep: self.keep, ..Asked::default() };
        let mut spec = self.recipe.asking(self.commit.as_deref(), asked).await?;
        if self.in_vm {
            spec.isolation = Isolation::Machine;
            spec.manifest.switches.push("in_vm".to_owned());
        }
        if self.shared_swarm.is_some() {
            spec.manifest.switches.push("shared_swarm".to_owned());
        }
        Ok(spec)
    }
}
