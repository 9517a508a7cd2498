//! `assay reproduce`: a run again from its evidence, on this machine. The recipe, its tests and its settings are those of the
//! evidence, by digest; so is what chance was drawn from. Images are asked for by the digests that they had; what there is not any more,
//! and what else is otherwise, is said. Of an image's run the profile is in the evidence, and the medium is given; of a host's the
//! machine itself is what was tested.

mod image;
mod recipe;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use assay_api::operator::RunDetail;
use assay_model::{Pipeline, RunResult, RunView, StageName, Verdict};
use assay_report::PublicKey;
use assay_report::bundle::{open_bundle, read_blob};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::commands::guests::GuestArgs;
use crate::commands::local::Local;
use crate::commands::registries::RegistryArgs;
use crate::commands::{Remote, told_to_stop};
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Reproduce {
    /// The run's number on a control plane, or its evidence: a bundle's tar, or a folder.
    run: String,
    /// A public key (PEM) to trust; may be given more than once. Without one, whoever made the evidence is believed.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// A folder with images as archives (`docker save`); may be given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_IMAGES", value_delimiter = ':')]
    images: Vec<PathBuf>,
    /// A folder with checkouts of recipes that this one may depend on and that are not in the evidence, each under its name; may be
    /// given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_RECIPES", value_delimiter = ':')]
    recipes: Vec<PathBuf>,
    /// Let the recipe reach outside of its containers what it was allowed then (`--allow`), on this machine.
    #[arg(long)]
    as_allowed: bool,
    /// Of an image's run: the medium. It has to be the one that was tested, by its digest.
    #[arg(long, value_name = "FILE")]
    medium: Option<PathBuf>,
    /// Of an image's run: the folder with the files that its profile names, where it names some.
    #[arg(long, value_name = "FOLDER", requires = "medium")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    guests: GuestArgs,
    /// The folder for the new run's report, evidence bundle, logs and pictures.
    #[arg(long, value_name = "FOLDER", default_value = "assay-out")]
    out: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Comparison {
    /// Whether the run came to the same again: its result, and every stage's verdict.
    reproduced: bool,
    /// In one sentence.
    sentence: String,
    /// By stage: what it concluded then, and what it concludes now.
    stages: Vec<StageTwice>,
    /// What is different about the two runs.
    differences: Vec<String>,
    /// What the run had read and is not in its evidence.
    not_in_evidence: Vec<String>,
    /// What cannot be had any more: then this says nothing about the run.
    gone: Vec<String>,
}

/// A stage in both runs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct StageTwice {
    stage: StageName,
    then: Option<Verdict>,
    now: Option<Verdict>,
}

/// A run, and where its evidence lies.
struct Then {
    run: RunView,
    bundle: PathBuf,
    /// A folder for what is needed meanwhile.
    scratch: tempfile::TempDir,
}

impl Reproduce {
    pub(crate) async fn run(self) -> Result<Exit> {
        let scratch =
            tempfile::Builder::new().prefix("assay-reproduce-").tempdir().context("a scratch folder")?;
        let bundle = self.bundle(scratch.path()).await?;
        let then = Then { run: self.opened(&bundle)?, bundle, scratch };
        let number = then.run.created.number;
        let compared = match then.run.created.pipeline {
            Pipeline::Recipe => self.recipe(&then).await?,
            Pipeline::Image => self.image(&then).await?,
            Pipeline::Host => bail!(
                "run {number} vetted the host {}: the machine itself is what was tested, so it is vetted again there: `assay host vet {}`",
                then.run.created.target.name,
                then.run.created.target.name
            ),
        };
        let Some(comparison) = compared else { return Ok(Exit::NoResult) };
        self.show(&comparison)?;
        Ok(match (&*comparison.gone, comparison.reproduced) {
            ([_, ..], _) => Exit::NoResult,
            ([], true) => Exit::Ok,
            ([], false) => Exit::Fail,
        })
    }

    /// Asks for a run here and waits for it. None when we were told to stop: then nothing of it is left.
    async fn here(
        &self,
        mut local: Local,
        ask: impl AsyncFnOnce(&crate::client::Client, String) -> Result<RunDetail>,
    ) -> Result<Option<RunDetail>> {
        let (client, runner) = (local.client.clone(), local.runner_name.clone());
        let detail = tokio::select! {
            detail = ask(&client, runner) => detail,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: what was brought up is taken down");
                local.stop().await;
                return Ok(None);
            }
        };
        local.stop().await;
        detail.map(Some)
    }

    /// The evidence: the file that was named, or what the control plane has of that run.
    async fn bundle(&self, scratch: &Path) -> Result<PathBuf> {
        let named = Path::new(&self.run);
        if named.exists() {
            return Ok(named.to_owned());
        }
        let Ok(number) = self.run.parse::<i64>() else {
            bail!("`{}` is neither a run's number nor a bundle that is there", self.run);
        };
        let bytes =
            self.remote.client()?.open(&format!("/api/v1/runs/{number}/bundle")).await?.bytes().await?;
        let path = scratch.join("bundle.tar");
        std::fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The run in it, which holds.
    fn opened(&self, bundle: &Path) -> Result<RunView> {
        let mut trusted = Vec::new();
        for path in &self.key {
            let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            trusted.push(PublicKey::from_pem(&pem, &path.display().to_string())?);
        }
        let (verification, run) = open_bundle(bundle, &trusted)?;
        let Some(run) = run else {
            for check in verification.bad() {
                ui::say(&format!("{}: {}", check.what, check.detail));
            }
            bail!("{} does not hold: nothing is done with it; `assay verify` says more", bundle.display());
        };
        Ok(run)
    }

    fn show(&self, comparison: &Comparison) -> Result<()> {
        if self.remote.json {
            return ui::json(comparison);
        }
        for StageTwice { stage, then, now } in &comparison.stages {
            let word = |verdict: &Option<Verdict>| verdict.map_or("not run", Verdict::as_str);
            let mark = if then == now { " " } else { "*" };
            ui::line(&format!("{mark} {:<12}  then {:<10}  now {}", stage.as_str(), word(then), word(now)));
        }
        for left_out in &comparison.not_in_evidence {
            ui::line(&format!("  not in the evidence: {left_out}"));
        }
        for difference in &comparison.differences {
            ui::line(&format!("  different: {difference}"));
        }
        ui::line(&comparison.sentence);
        ui::say(&format!("report and evidence: {}", self.out.join("report.html").display()));
        Ok(())
    }
}

/// The stages of both runs.
fn twice(then: &RunView, now: &RunDetail) -> Vec<StageTwice> {
    let mut stages: Vec<StageTwice> = then
        .stages
        .iter()
        .map(|stage| StageTwice { stage: stage.plan.name.clone(), then: stage.verdict(), now: None })
        .collect();
    for stage in &now.report.stages {
        if let Some(known) = stages.iter_mut().find(|known| known.stage.as_str() == stage.name) {
            known.now = stage.verdict;
        }
    }
    stages
}

/// Whether both runs came to the same, and that in a sentence.
fn concluded(then: &RunView, now: &RunDetail, stages: &[StageTwice]) -> (bool, String) {
    let same = then.result == now.summary.result && stages.iter().all(|stage| stage.then == stage.now);
    let word = |result: Option<RunResult>| result.map_or("no verdict", RunResult::as_str);
    let sentence = match (same, stages.iter().find(|stage| stage.then != stage.now)) {
        (true, _) => format!("reproduced: {} again, every stage as before", word(then.result)),
        (false, Some(stage)) => format!(
            "not reproduced: {} then, {} now; the first stage that differs is {}",
            word(then.result),
            word(now.summary.result),
            stage.stage
        ),
        (false, None) => {
            format!("not reproduced: {} then, {} now", word(then.result), word(now.summary.result))
        }
    };
    (same, sentence)
}

/// The latest evidence of each stage, as it lies in the bundle.
fn evidence(run: &RunView, bundle: &Path) -> Result<Vec<(StageName, Value)>> {
    /// The largest evidence of a stage.
    const MOST: u64 = 256 << 20;
    let mut found = Vec::new();
    for stage in &run.stages {
        let latest = stage.attempts.iter().rev().find_map(|attempt| attempt.evidence.as_ref());
        let Some(evidence) = latest.filter(|evidence| evidence.problem.is_none()) else { continue };
        if let Some(bytes) = read_blob(bundle, evidence.digest, MOST)? {
            found.push((stage.plan.name.clone(), serde_json::from_slice(&bytes)?));
        }
    }
    Ok(found)
}
