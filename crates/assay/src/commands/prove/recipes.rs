//! Proofs of the recipe pipeline: recipes that are good although they look odd, and recipes with one fault each.
//!
//! An entry is a canary's folder below `examples/recipes`: its `expect.toml` says what Assay must say of it, its Git repository is
//! made by `checkout`, and its images are built from Debian packages. Beyond result, stage and code, the whole ladder is compared,
//! and that the canary's own hooks and tests really ran: a pass in which nothing was tested proves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use assay_api::operator::{RunDetail, RunSummary, TestRecipe};
use assay_model::recipe::{Ladder, Rung, RungResult, RungStatus};
use assay_model::report::Report;
use assay_model::{Pipeline, Verdict};
use assay_pipelines::recipe::{Asked, Isolation, RecipeSpec};
use assay_process::Cmd;
use assay_recipe::customise::{Customisation, Manifest, Options, Redactor};
use futures::StreamExt as _;
use serde::Deserialize;

use super::catalogue::{Conclusion, Expected, Kind, MadeBy, Proof};
use super::recipe_codes::can_raise_of_recipe;
use super::verdict::{Line, Seen};
use crate::client::Client;
use crate::commands::local::{Local, cache};
use crate::commands::out::keep;
use crate::commands::run::Live;
use crate::ui;

/// All images from nothing take most of a minute; packages have to be fetched first.
const BUILD_LIMIT: Duration = Duration::from_mins(15);
/// A repository of some commits.
const CHECKOUT_LIMIT: Duration = Duration::from_mins(1);
/// What a canary's folder has to have.
const EXPECT: &str = "expect.toml";

/// One proof.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What every proof has.
    pub(super) proof: Proof,
    /// What else is held against the report.
    wanted: Wanted,
}

impl std::ops::Deref for Entry {
    type Target = Proof;

    fn deref(&self) -> &Proof {
        &self.proof
    }
}

/// What a report must say beyond result, stage and code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// The verdict of the stage that goes red.
    verdict: Option<Verdict>,
    level: OrAny<u8>,
    rungs: BTreeMap<Rung, OrAny<RungStatus>>,
    /// Hooks and tests of the canary's own that must have run.
    ran: Vec<String>,
}

/// A value, or `"?"` for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum OrAny<T> {
    This(T),
    Any(Any),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Any {
    #[serde(rename = "?")]
    Any,
}

/// `expect.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    control: Option<String>,
    result: Conclusion,
    level: OrAny<u8>,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    verdict: Option<Verdict>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    warns: Vec<String>,
    #[serde(default)]
    smoke: bool,
    ran: Vec<String>,
    rungs: BTreeMap<Rung, OrAny<RungStatus>>,
}

/// Where things are.
pub(super) struct Places {
    /// The folder with the canaries, `checkout` and `images/build`.
    pub(super) recipes: PathBuf,
    /// The folder with their images; they are built without it.
    pub(super) images: Option<PathBuf>,
    /// Where evidence is kept, if it is.
    pub(super) evidence: Option<PathBuf>,
}

/// All proofs of a folder, by name.
pub(super) fn load(recipes: &Path) -> Result<BTreeMap<String, Entry>> {
    let listing = std::fs::read_dir(recipes)
        .with_context(|| format!("{}: name the folder of the canaries with --recipes", recipes.display()))?;
    let mut entries = BTreeMap::new();
    for folder in listing {
        let folder = folder.with_context(|| recipes.display().to_string())?.path();
        let path = folder.join(EXPECT);
        let Some(name) = folder.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file()) else {
            continue;
        };
        let entry = read(name, &folder).with_context(|| path.display().to_string())?;
        entries.insert(name.to_owned(), entry);
    }
    ensure!(
        !entries.is_empty(),
        "{}: no folder here has an {EXPECT}; an empty catalogue proves nothing",
        recipes.display()
    );
    for entry in entries.values() {
        let Some(control) = &entry.control else { continue };
        let known =
            entries.get(control).with_context(|| format!("the control `{control}` of `{}`", entry.name))?;
        ensure!(
            known.expected.verdict == Conclusion::Pass && depth(&entries, entry).is_some(),
            "`{control}`, the control of `{}`, is not good, or has `{}` for its own",
            entry.name,
            entry.name
        );
    }
    Ok(entries)
}

fn read(name: &str, folder: &Path) -> Result<Entry> {
    let text = std::fs::read_to_string(folder.join(EXPECT))?;
    let page = std::fs::read_to_string(folder.join("README.md")).context("its README.md")?;
    let title =
        page.lines().find_map(|line| line.strip_prefix("# ")).context("its README.md has no title")?;
    let file: File = toml::from_str(&text)?;
    let kind = match (file.result, &file.control) {
        (Conclusion::Fail, _) => Kind::Fault,
        (Conclusion::Pass, Some(_)) => Kind::Canary,
        (Conclusion::Pass, None) => Kind::Healthy,
    };
    let proof = Proof {
        name: name.to_owned(),
        description: title.trim().to_owned(),
        pipeline: Pipeline::Recipe,
        kind,
        made_by: MadeBy::Device,
        control: file.control,
        smoke: file.smoke,
        expected: Expected {
            verdict: file.result,
            stage: file.stage,
            code: file.code,
            beside: file.warns,
            parts: Vec::new(),
        },
    };
    proof.check(can_raise_of_recipe)?;
    let wanted = Wanted { verdict: file.verdict, level: file.level, rungs: file.rungs, ran: file.ran };
    wanted.check(&proof.expected)?;
    Ok(Entry { proof, wanted })
}

impl Wanted {
    /// Refuses what could never come out.
    fn check(&self, expected: &Expected) -> Result<()> {
        for rung in Rung::ALL {
            ensure!(self.rungs.contains_key(&rung), "[rungs] lacks `{rung}`");
        }
        let failed = expected.verdict == Conclusion::Fail;
        ensure!(
            failed == self.verdict.is_some(),
            "`verdict` is that of the stage that goes red: with a fail, and only then"
        );
        let known: Option<Vec<RungResult>> = Rung::ALL.into_iter().map(|rung| self.known(rung)).collect();
        if let (Some(rungs), OrAny::This(level)) = (known, self.level) {
            let of_rungs = Ladder::from_rungs(rungs).level;
            ensure!(level == of_rungs, "the rungs come to level {of_rungs}, and `level` says {level}");
        }
        Ok(())
    }

    fn known(&self, rung: Rung) -> Option<RungResult> {
        match self.rungs.get(&rung)? {
            OrAny::This(status) => Some(RungResult { rung, status: *status, message: String::new() }),
            OrAny::Any(_) => None,
        }
    }

    /// Where the report says something else: one sentence each.
    fn differences(&self, expected: &Expected, report: &Report) -> Vec<String> {
        let mut out = Vec::new();
        let Some(ladder) = &report.ladder else { return vec!["the report has no ladder".to_owned()] };
        for (rung, wanted) in &self.rungs {
            let seen = ladder.status(*rung);
            if let OrAny::This(wanted) = wanted
                && seen != *wanted
            {
                out.push(format!("rung {rung}: expected {wanted}, seen {seen}"));
            }
        }
        if let OrAny::This(level) = self.level
            && level != ladder.level
        {
            out.push(format!("expected level {level}, seen {}", ladder.level));
        }
        if let (Some(name), Some(wanted)) = (&expected.stage, self.verdict) {
            let stage = report.stages.iter().find(|stage| stage.name == *name);
            let seen = stage.and_then(|stage| stage.verdict);
            if seen != Some(wanted) {
                let seen = seen.map_or("none", Verdict::as_str);
                out.push(format!("expected {name} to come to {}, seen {seen}", wanted.as_str()));
            }
        }
        out.extend(
            self.ran.iter().filter(|name| !has_run(report, name)).map(|name| format!("{name} did not run")),
        );
        out
    }
}

/// Whether a hook or test of the recipe's own ran to an exit code, as the report's checks have it.
fn has_run(report: &Report, name: &str) -> bool {
    let checks = report.stages.iter().flat_map(|stage| &stage.checks);
    let of_name =
        |check: &str| check.strip_prefix("hook or ").unwrap_or(check).strip_prefix("test ") == Some(name);
    checks.into_iter().any(|check| of_name(&check.name) && check.seen.starts_with("exit code"))
}

/// How many controls stand one behind the other after this entry; none where they go round.
fn depth(entries: &BTreeMap<String, Entry>, entry: &Entry) -> Option<usize> {
    let mut at = entry;
    for depth in 0..=entries.len() {
        match &at.control {
            None => return Some(depth),
            Some(control) => at = entries.get(control)?,
        }
    }
    None
}

/// The entries with these names (all without any) and their controls, in groups: controls come in an earlier one.
pub(super) fn select<'a>(
    entries: &'a BTreeMap<String, Entry>,
    only: &[String],
) -> Result<Vec<Vec<&'a Entry>>> {
    for name in only {
        if !entries.contains_key(name) {
            let known: Vec<&str> = entries.keys().map(String::as_str).collect();
            bail!(
                "there is no entry `{name}`{}; there are {}",
                assay_model::text::did_you_mean(name, &known),
                known.join(", ")
            );
        }
    }
    let mut groups: BTreeMap<usize, BTreeMap<&str, &Entry>> = BTreeMap::new();
    for entry in entries.values().filter(|entry| only.is_empty() || only.contains(&entry.name)) {
        let mut next = Some(entry);
        while let Some(entry) = next {
            groups.entry(depth(entries, entry).unwrap_or(0)).or_default().insert(&entry.name, entry);
            next = entry.control.as_ref().and_then(|control| entries.get(control));
        }
    }
    Ok(groups.into_values().map(|group| group.into_values().collect()).collect())
}

/// Runs all of them; `told` is called with each line as it comes.
pub(super) async fn prove(
    groups: &[Vec<&Entry>],
    places: &Places,
    jobs: usize,
    muted: &[String],
    mut told: impl FnMut(&Line) -> Result<()>,
) -> Result<Vec<Line>> {
    assay_runner::can_test_recipes().map_err(|why| anyhow::anyhow!("{why}"))?;
    let scratch =
        tempfile::Builder::new().prefix("assay-prove-").tempdir().context("making a scratch folder")?;
    let images = match &places.images {
        Some(images) => std::path::absolute(images)?,
        None => build_images(&places.recipes).await?,
    };
    let capacity: assay_runner::Slots = format!("swarm={jobs}").parse()?;
    let mut local = Local::start(&scratch.path().join("data"), &[capacity]).await?;
    let work = Work {
        client: local.client.clone(),
        runner: local.runner_name.clone(),
        images,
        scratch: scratch.path(),
        places,
        muted,
    };
    let all = async {
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        for group in groups {
            let mut running = futures::stream::iter(group)
                .map(async |entry: &&Entry| {
                    let began = Instant::now();
                    let proven = work.one(entry).await;
                    (*entry, proven, began.elapsed().as_secs_f64())
                })
                .buffer_unordered(jobs);
            while let Some((entry, proven, seconds)) = running.next().await {
                let control = entry.control.as_ref().and_then(|control| lines.get(control));
                let line = match proven {
                    Ok(detail) => {
                        let seen = Seen::of(&detail, entry.expected.code.as_deref());
                        let beyond = entry.wanted.differences(&entry.expected, &detail.report);
                        Line::of(entry, seen, seconds, control)
                            .with_ladder(detail.report.ladder.as_ref(), beyond)
                    }
                    Err(problem) => Line::of(entry, Seen::error(format!("{problem:#}")), seconds, control),
                };
                told(&line)?;
                lines.insert(entry.name.clone(), line);
            }
        }
        Ok(lines.into_values().collect())
    };
    let outcome = tokio::select! {
        lines = all => lines,
        why = local.ended() => Err(why),
        () = crate::commands::told_to_stop() => Err(anyhow::anyhow!("stopped; what was not printed was not proven")),
    };
    local.stop().await;
    outcome
}

/// What all entries of an invocation share.
struct Work<'a> {
    client: Client,
    runner: String,
    images: PathBuf,
    scratch: &'a Path,
    places: &'a Places,
    muted: &'a [String],
}

impl Work<'_> {
    /// One recipe, from its repository to its sealed verdict.
    async fn one(&self, entry: &Entry) -> Result<RunDetail> {
        let folder = self.scratch.join("recipes").join(&entry.name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let checkout = Cmd::new(std::path::absolute(self.places.recipes.join("checkout"))?);
        let checkout = checkout.arg(&entry.name).arg(&folder).timeout(CHECKOUT_LIMIT);
        checkout.run_ok().await.with_context(|| format!("making the repository of {}", entry.name))?;
        let customisation = Customisation::of_recipe(&folder, Options::default())?;
        let spec = RecipeSpec {
            name: entry.name.clone(),
            folder,
            commit: None,
            source: None,
            tests: None,
            settings: customisation.settings.settings.clone(),
            manifest: Manifest::of(&customisation, &Redactor::default()),
            asked: Asked { images: vec![self.images.clone()], ..Asked::default() },
            isolation: Isolation::default(),
            stages: Vec::new(),
            invocation: Vec::new(),
            harness: None,
            seed: uuid::Uuid::new_v4().as_fields().0 & 0x00ff_ffff,
        };
        let asked = TestRecipe {
            spec: serde_json::to_value(&spec)?,
            only: Vec::new(),
            runner: Some(self.runner.clone()),
            muted: self.muted.to_vec(),
            asked: assay_model::Asked::default(),
        };
        let summary: RunSummary = self.client.post("/api/v1/recipes/runs", &asked).await?;
        let mut live = Live::open(&self.client, summary.number).await?;
        while let Some(event) = live.next().await {
            let event = event?;
            if event.kind == "journal" && event.data["kind"] == "Sealed" {
                break;
            }
        }
        match &self.places.evidence {
            Some(folder) => keep(&self.client, summary.number, &folder.join(&entry.name)).await,
            None => self.client.get(&format!("/api/v1/runs/{}", summary.number)).await,
        }
    }
}

/// Builds the canaries' images, or takes their layers from the cache.
async fn build_images(recipes: &Path) -> Result<PathBuf> {
    ui::say("building the images of the canaries");
    let folder = cache()?.join("recipe-archives");
    let build = Cmd::new(std::path::absolute(recipes.join("images/build"))?).arg("--out").arg(&folder);
    build
        .timeout(BUILD_LIMIT)
        .run_ok()
        .await
        .context("building the images; or name a folder that has them (--app-images)")?;
    Ok(folder)
}

#[cfg(test)]
#[path = "recipes_tests.rs"]
mod tests;
