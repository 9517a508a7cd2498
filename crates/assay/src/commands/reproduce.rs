//! `assay reproduce`: a run again from its evidence, on this machine. The recipe, its tests and its settings are those of the
//! evidence, by digest; so is what chance was drawn from. Images come from archives and registries here, and where they are others, that
//! is said.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use assay_api::operator::{RunDetail, RunSummary, TestRecipe};
use assay_artifacts::Artifacts;
use assay_model::{Pipeline, RunResult, RunView, StageName, Verdict};
use assay_pipelines::recipe::over_time::{Results, SinceGreen};
use assay_pipelines::recipe::{Isolation, RecipeSpec, Source};
use assay_report::PublicKey;
use assay_report::bundle::{open_bundle, read_blob};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::commands::follow::follow;
use crate::commands::guests::GuestArgs;
use crate::commands::local::Local;
use crate::commands::registries::RegistryArgs;
use crate::commands::{Remote, out, told_to_stop};
use crate::exit::Exit;
use crate::ui;

/// The largest recipe that is taken from evidence, in bytes.
const LARGEST: u64 = 1 << 30;

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
    /// A folder with checkouts of recipes that this one may depend on, each under its name; may be given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_RECIPES", value_delimiter = ':')]
    recipes: Vec<PathBuf>,
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
}

/// A stage in both runs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct StageTwice {
    stage: StageName,
    then: Option<Verdict>,
    now: Option<Verdict>,
}

impl Reproduce {
    pub(crate) async fn run(self) -> Result<Exit> {
        let scratch =
            tempfile::Builder::new().prefix("assay-reproduce-").tempdir().context("a scratch folder")?;
        let bundle = self.bundle(scratch.path()).await?;
        let then = self.opened(&bundle)?;
        let (mut spec, source) = taken_from(&then)?;
        let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| path.display().to_string());
        spec.asked.images = self.images.iter().map(absolute).collect::<Result<_>>()?;
        spec.asked.recipes = self.recipes.iter().map(absolute).collect::<Result<_>>()?;
        let recipe = read_blob(&bundle, source.bundle, LARGEST)?.with_context(|| {
            format!(
                "the evidence has no recipe: {} is not in it; has retention thrown it away?",
                source.bundle
            )
        })?;
        let data = scratch.path().join("data");
        let kept = Artifacts::folder(data.join("artifacts"))?.put(recipe).await?;
        ensure!(kept == source.bundle, "the recipe in the evidence is not what its digest says");
        let machines = match spec.isolation {
            Isolation::Machine => Some(self.guests.settings(&data.join("runner"))?),
            Isolation::Namespaces => None,
        };
        let can = match &machines {
            Some(machines) => machines.check().map(drop),
            None => assay_runner::can_test_recipes(),
        };
        can.map_err(|why| anyhow::anyhow!("{why}"))?;
        ui::say(&format!(
            "run {} of {} again: {}, tests of {} ({}), seed {}",
            then.created.number,
            then.created.target.name,
            spec.commit.as_deref().and_then(|commit| commit.get(..12)).unwrap_or("?"),
            source.trusted_ref,
            source.trusted.get(..12).unwrap_or("?"),
            spec.seed
        ));
        let mut local = Local::start_with(&data, &[], self.registries.cache()?, None, machines).await?;
        let (client, runner) = (local.client.clone(), local.runner_name.clone());
        let again = async {
            let asked = TestRecipe {
                spec: serde_json::to_value(&spec)?,
                only: stages_of(&then),
                runner: Some(runner),
                muted: then.created.muted.clone(),
                asked: assay_model::Asked::default(),
            };
            let summary: RunSummary = client.post("/api/v1/recipes/runs", &asked).await?;
            follow(&client, summary.number).await?;
            out::keep(&client, summary.number, &self.out).await
        };
        let detail = tokio::select! {
            detail = again => detail,
            why = local.ended() => Err(why),
            () = told_to_stop() => {
                ui::say("stopping: the stack is taken down");
                local.stop().await;
                return Ok(Exit::NoResult);
            }
        };
        local.stop().await;
        let comparison = compare(&then, &bundle, &detail?, &self.out)?;
        self.show(&comparison)?;
        Ok(if comparison.reproduced { Exit::Ok } else { Exit::Fail })
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
        for difference in &comparison.differences {
            ui::line(&format!("  different: {difference}"));
        }
        ui::line(&comparison.sentence);
        ui::say(&format!("report and evidence: {}", self.out.join("report.html").display()));
        Ok(())
    }
}

/// What a run over a recipe is done again with.
fn taken_from(run: &RunView) -> Result<(RecipeSpec, Source)> {
    let number = run.created.number;
    ensure!(
        run.created.pipeline == Pipeline::Recipe,
        "run {number} is about a {}; only runs over recipes can be done again from their evidence so far",
        run.created.pipeline
    );
    let mut spec = RecipeSpec::of(&run.created.spec).map_err(anyhow::Error::msg)?;
    let Some(source) = spec.source.clone() else {
        bail!(
            "run {number} was over a folder of its runner ({}), which is not in the evidence; check out {} and say `assay recipe \
             test --seed {}` there",
            spec.folder.display(),
            spec.commit.as_deref().unwrap_or("what was tested"),
            spec.seed
        );
    };
    // What the other runner had does not lie under the same paths here.
    (spec.asked.images, spec.asked.recipes, spec.asked.keep) = (Vec::new(), Vec::new(), false);
    Ok((spec, source))
}

/// The stages that it had; the whole is asked for as the whole.
fn stages_of(run: &RunView) -> Vec<String> {
    if run.created.options.left_out.is_empty() {
        return Vec::new();
    }
    run.stages.iter().map(|stage| stage.plan.name.0.clone()).collect()
}

fn compare(then: &RunView, bundle: &Path, now: &RunDetail, out: &Path) -> Result<Comparison> {
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
    let before = Results::of(then, &evidence(then, bundle)?).map_err(anyhow::Error::msg)?;
    let path = out.join("results.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let after: Results = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let differences = match SinceGreen::of(Some(&before), &after) {
        SinceGreen::Compared { changes, unknown, .. } => {
            changes.into_iter().map(|change| change.message).chain(unknown).collect()
        }
        SinceGreen::OtherSchema { .. } => vec!["the two runs' results have different forms".to_owned()],
        SinceGreen::NeverGreen => Vec::new(),
    };
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
    Ok(Comparison { reproduced: same, sentence, stages, differences })
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
