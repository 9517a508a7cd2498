//! A recipe's run again: from the Git bundle of a pull request, or from the recipe as the run put it away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use assay_api::operator::{RunDetail, RunSummary, TestRecipe};
use assay_artifacts::Artifacts;
use assay_model::{RunView, StageName};
use assay_pipelines::recipe::evidence::{Deployed, Outcome, Reached};
use assay_pipelines::recipe::kept::RecipeKept;
use assay_pipelines::recipe::over_time::{Results, SinceGreen};
use assay_pipelines::recipe::{Isolation, PinnedImage, RecipeSpec};
use assay_recipe::kept;
use assay_report::bundle::{open_bundle, read_blob};
use serde_json::Value;

use super::{Comparison, Reproduce, Then, concluded, evidence, twice};
use crate::commands::follow::follow;
use crate::commands::local::Local;
use crate::commands::out;
use crate::ui;

/// The largest recipe that is taken from evidence, in bytes.
const LARGEST: u64 = 1 << 30;

impl Reproduce {
    /// None when we were told to stop.
    pub(super) async fn recipe(&self, then: &Then) -> Result<Option<Comparison>> {
        let run = &then.run;
        let mut spec = RecipeSpec::of(&run.created.spec).map_err(anyhow::Error::msg)?;
        let before = evidence(run, &then.bundle)?;
        let results = Results::of(run, &before).map_err(anyhow::Error::msg)?;
        let data = then.scratch.path().join("data");
        // What the other runner had does not lie under the same paths here.
        (spec.asked.images, spec.asked.recipes, spec.asked.keep) = (Vec::new(), Vec::new(), false);
        let not_in_evidence = self.inputs(then, &before, &mut spec, &data).await?;
        self.only_what_may_be(&mut spec)?;
        let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| path.display().to_string());
        spec.asked.images = self.images.iter().map(absolute).collect::<Result<_>>()?;
        let recipes: Vec<PathBuf> = self.recipes.iter().map(absolute).collect::<Result<_>>()?;
        spec.asked.recipes.extend(recipes);
        spec.asked.pinned = pinned(&results);
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
            "run {} of {} again: {}, seed {}",
            run.created.number,
            run.created.target.name,
            results.version.as_ref().map_or_else(
                || "the recipe".to_owned(),
                assay_pipelines::recipe::evidence::VersionSeen::name
            ),
            spec.seed
        ));
        let local = Local::start_with(&data, &[], self.registries.cache()?, None, machines).await?;
        let again = async |client: &crate::client::Client, runner: String| {
            let asked = TestRecipe {
                spec: serde_json::to_value(&spec)?,
                only: stages_of(run),
                runner: Some(runner),
                muted: run.created.muted.clone(),
                asked: assay_model::Asked::default(),
            };
            let summary: RunSummary = client.post("/api/v1/recipes/runs", &asked).await?;
            follow(client, summary.number).await?;
            out::keep(client, summary.number, &self.out).await
        };
        let Some(now) = self.here(local, again).await? else { return Ok(None) };
        compare(then, &results, &now, &self.out, not_in_evidence).map(Some)
    }

    /// Takes the recipe out of the evidence, and tells what was read and is not in it.
    async fn inputs(
        &self,
        then: &Then,
        before: &[(StageName, Value)],
        spec: &mut RecipeSpec,
        data: &Path,
    ) -> Result<Vec<String>> {
        let number = then.run.created.number;
        if let Some(source) = &spec.source {
            let recipe = read_blob(&then.bundle, source.bundle, LARGEST)?.with_context(|| {
                format!(
                    "the evidence has no recipe: {} is not in it; has retention thrown it away?",
                    source.bundle
                )
            })?;
            let stored = Artifacts::folder(data.join("artifacts"))?.put(recipe).await?;
            ensure!(stored == source.bundle, "the recipe in the evidence is not what its digest says");
            ui::say(&format!(
                "tests of {} ({})",
                source.trusted_ref,
                source.trusted.get(..12).unwrap_or("?")
            ));
            return Ok(Vec::new());
        }
        let Some(file) = then.run.artifacts.iter().rev().find(|artifact| artifact.name == kept::FILE) else {
            let told = before.iter().filter_map(|(_, evidence)| {
                serde_json::from_value::<RecipeKept>(evidence.get("kept")?.clone()).ok()
            });
            let why_not = told.map(|kept| kept.why_not).find(|why_not| !why_not.is_empty());
            bail!(
                "run {number} was over the folder {} of its runner, and the recipe is not in the evidence{}; check out {} and say \
                 `assay recipe test --seed {}` there",
                spec.folder.display(),
                why_not.map_or_else(|| ": an older Assay made it".to_owned(), |why| format!(": {why}")),
                spec.commit.as_deref().unwrap_or("what was tested"),
                spec.seed
            );
        };
        let bytes = read_blob(&then.bundle, file.digest, kept::MOST)?.with_context(|| {
            format!(
                "the evidence has no recipe: {} ({}) is not in it; has retention thrown it away?",
                file.name, file.digest
            )
        })?;
        let folder = then.scratch.path().join("recipe");
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let unpacked = kept::unpack(&bytes, &folder).await?;
        spec.folder = unpacked.folder;
        spec.tests = unpacked.tests;
        spec.asked.recipes.extend(unpacked.recipes);
        Ok(unpacked.left_out.into_iter().map(|left| format!("{}: {}", left.path, left.why)).collect())
    }

    /// Evidence may be a stranger's: what it asks of this machine, this machine's owner says.
    fn only_what_may_be(&self, spec: &mut RecipeSpec) -> Result<()> {
        let allowed = &spec.asked.allowed;
        let is_nothing = allowed.is_null() || allowed.as_object().is_some_and(serde_json::Map::is_empty);
        ensure!(
            is_nothing || self.as_allowed,
            "the run was allowed to reach outside of its containers: {allowed}; say --as-allowed to let it do so on this machine"
        );
        Ok(())
    }
}

/// The stages that it had; the whole is asked for as the whole.
fn stages_of(run: &RunView) -> Vec<String> {
    if run.created.options.left_out.is_empty() {
        return Vec::new();
    }
    run.stages.iter().map(|stage| stage.plan.name.0.clone()).collect()
}

/// The images that it had.
fn pinned(then: &Results) -> BTreeMap<String, PinnedImage> {
    let images = then.images.iter().filter(|image| !image.id.is_empty());
    let pin = |image: &assay_pipelines::recipe::evidence::ImageSeen| PinnedImage {
        id: image.id.clone(),
        digest: image.digests.first().cloned(),
    };
    images.map(|image| (image.reference.clone(), pin(image))).collect()
}

fn compare(
    then: &Then,
    before: &Results,
    now: &RunDetail,
    out: &Path,
    not_in_evidence: Vec<String>,
) -> Result<Comparison> {
    let stages = twice(&then.run, now);
    let path = out.join("results.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let after: Results = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let differences = match SinceGreen::of(Some(before), &after) {
        SinceGreen::Compared { changes, unknown, .. } => {
            changes.into_iter().map(|change| change.message).chain(unknown).collect()
        }
        SinceGreen::OtherSchema { .. } => vec!["the two runs' results have different forms".to_owned()],
        SinceGreen::NeverGreen => Vec::new(),
    };
    let (reproduced, mut sentence) = concluded(&then.run, now, &stages);
    let gone = gone(&then.run, &then.bundle, out)?;
    if !gone.is_empty() {
        sentence = format!("not done again: {}", gone.join("; "));
    }
    Ok(Comparison {
        reproduced: reproduced && gone.is_empty(),
        sentence,
        stages,
        differences,
        not_in_evidence,
        gone,
    })
}

/// Images that the run had, and that cannot be had any more.
fn gone(then: &RunView, bundle: &Path, out: &Path) -> Result<Vec<String>> {
    let missing = |run: &RunView, bundle: &Path| -> Result<Vec<String>> {
        let all = evidence(run, bundle)?;
        let install = all.iter().find(|(stage, _)| stage.as_str() == "Install");
        let install =
            install.and_then(|(_, value)| serde_json::from_value::<Reached<Deployed>>(value.clone()).ok());
        Ok(match install {
            Some(Reached::Done(Deployed { outcome: Outcome::NoImages { images }, .. })) => images,
            _ => Vec::new(),
        })
    };
    let path = out.join("bundle.tar");
    let now = match open_bundle(&path, &[])? {
        (_, Some(run)) => missing(&run, &path)?,
        (_, None) => Vec::new(),
    };
    // A run without images is done again without them.
    Ok(if missing(then, bundle)?.is_empty() { now } else { Vec::new() })
}
