//! Proofs of the image pipeline: the reference installer and its broken variants, each with its own verdict.
//!
//! An entry names a variant of the reference installer and what its profile differs in from the reference's. The
//! images are built here, from Debian packages; the machines are the runner's own, so no root is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use assay_api::operator::{RunDetail, RunSummary, TestImage};
use assay_model::Pipeline;
use assay_pipelines::image::{ImageSpec, Profile, ProfileError};
use assay_process::Cmd;
use futures::StreamExt as _;
use serde::Deserialize;

use super::catalogue::{Expected, Kind, MadeBy, Proof};
use super::codes::can_raise_of_image;
use super::verdict::{Line, Seen};
use crate::client::Client;
use crate::commands::local::Local;
use crate::commands::out::keep;
use crate::commands::run::Live;
use crate::ui;

/// Building one image takes seconds; the first one fetches its packages.
const BUILD_LIMIT: Duration = Duration::from_mins(15);

/// One proof.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What every proof has.
    pub(super) proof: Proof,
    /// The variant of the reference installer; the good one without.
    variant: Option<String>,
    /// What the image is held to.
    profile: Profile,
}

impl std::ops::Deref for Entry {
    type Target = Proof;

    fn deref(&self) -> &Proof {
        &self.proof
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    kind: Kind,
    made_by: MadeBy,
    #[serde(default)]
    variant: Option<String>,
    /// The profile, beside the folder of the catalogue.
    profile: String,
    /// What the profile differs in: tables are merged, everything else is replaced.
    #[serde(default)]
    differs: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    control: Option<String>,
    #[serde(default)]
    smoke: bool,
    expected: Expected,
}

/// Where things are.
pub(super) struct Places {
    /// The folder with profiles; the catalogue is in its `canaries`, the reference installer in its `reference`.
    pub(super) images: PathBuf,
    /// Where packages of the reference installer are kept; its own default without it.
    pub(super) cache: Option<PathBuf>,
    /// Where evidence is kept, if it is.
    pub(super) evidence: Option<PathBuf>,
}

/// All proofs of a folder, by name.
pub(super) fn load(images: &Path) -> Result<BTreeMap<String, Entry>> {
    let folder = images.join("canaries");
    let listing = std::fs::read_dir(&folder)
        .with_context(|| format!("{}: name the folder of the images with --images", folder.display()))?;
    let mut entries = BTreeMap::new();
    for file in listing {
        let path = file.with_context(|| folder.display().to_string())?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".toml")) else { continue };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let entry = read(name, &text, images).with_context(|| path.display().to_string())?;
        entries.insert(name.to_owned(), entry);
    }
    ensure!(
        !entries.is_empty(),
        "{}: there is no entry here; an empty catalogue proves nothing",
        folder.display()
    );
    for entry in entries.values() {
        let Some(control) = &entry.control else { continue };
        let known =
            entries.get(control).with_context(|| format!("the control `{control}` of `{}`", entry.name))?;
        ensure!(known.kind == Kind::Healthy, "`{control}`, the control of `{}`, is not healthy", entry.name);
    }
    Ok(entries)
}

fn read(name: &str, text: &str, images: &Path) -> Result<Entry> {
    let file: File = toml::from_str(text)?;
    let path = images.join(&file.profile);
    let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let reads = |error: ProfileError| anyhow::anyhow!("{error}");
    let profile = Profile::from_toml(&source).map_err(reads).with_context(|| path.display().to_string())?;
    let mut profile = profile.differing(&file.differs).map_err(reads)?;
    name.clone_into(&mut profile.name);
    profile.checked().map_err(reads)?;
    let proof = Proof {
        name: name.to_owned(),
        description: file.description,
        pipeline: Pipeline::Image,
        kind: file.kind,
        made_by: file.made_by,
        control: file.control,
        smoke: file.smoke,
        expected: file.expected,
    };
    proof.check(can_raise_of_image)?;
    Ok(Entry { proof, variant: file.variant, profile })
}

/// The entries with these names (all without any), and their controls; healthy ones first.
pub(super) fn select<'a>(entries: &'a BTreeMap<String, Entry>, only: &[String]) -> Result<Vec<&'a Entry>> {
    let mut chosen: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries.values().filter(|entry| only.is_empty() || only.contains(&entry.name)) {
        chosen.insert(&entry.name, entry);
        if let Some(control) = &entry.control {
            chosen.insert(control, &entries[control]);
        }
    }
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
    let (healthy, others): (Vec<_>, Vec<_>) =
        chosen.into_values().partition(|entry| entry.kind == Kind::Healthy);
    Ok(healthy.into_iter().chain(others).collect())
}

/// Runs all of them; `told` is called with each line as it comes.
pub(super) async fn prove(
    entries: &[&Entry],
    places: &Places,
    jobs: usize,
    muted: &[String],
    mut told: impl FnMut(&Line) -> Result<()>,
) -> Result<Vec<Line>> {
    let scratch =
        tempfile::Builder::new().prefix("assay-prove-").tempdir().context("making a scratch folder")?;
    // The good one first: it fetches the packages of all, and most entries need it.
    let good = build(places, None, scratch.path()).await?;
    let capacity: assay_runner::Slots = format!("vm={jobs}").parse()?;
    let mut local = Local::start(&scratch.path().join("data"), &[capacity]).await?;
    let client = local.client.clone();
    let runner = local.runner_name.clone();
    let all = async {
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        let (healthy, others): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| entry.kind == Kind::Healthy);
        for group in [healthy, others] {
            let mut running = futures::stream::iter(group)
                .map(async |entry: &&Entry| {
                    let began = Instant::now();
                    let proven = async {
                        let iso = match &entry.variant {
                            Some(variant) => build(places, Some(variant), scratch.path()).await?,
                            None => good.clone(),
                        };
                        one(&client, &runner, entry, &iso, places, muted).await
                    };
                    let seen = match proven.await {
                        Ok(detail) => Seen::of(&detail, entry.expected.code.as_deref()),
                        Err(problem) => Seen::error(format!("{problem:#}")),
                    };
                    (*entry, seen, began.elapsed().as_secs_f64())
                })
                .buffer_unordered(jobs);
            while let Some((entry, seen, seconds)) = running.next().await {
                let control = entry.control.as_ref().and_then(|control| lines.get(control));
                let line = Line::of(entry, seen, seconds, control);
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

/// One image, from its request to its sealed verdict.
async fn one(
    client: &Client,
    runner: &str,
    entry: &Entry,
    iso: &Path,
    places: &Places,
    muted: &[String],
) -> Result<RunDetail> {
    let spec = ImageSpec {
        from_phase: None,
        image: iso.to_owned(),
        sha256: None,
        profile: entry.profile.clone(),
        folder: std::path::absolute(&places.images)?,
        cell: BTreeMap::new(),
        on: None,
        main: false,
        seed: uuid::Uuid::new_v4().as_fields().0,
        source: None,
    };
    let asked = TestImage {
        spec: serde_json::to_value(&spec)?,
        runner: Some(runner.to_owned()),
        muted: muted.to_vec(),
        on: None,
    };
    let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
    let mut live = Live::open(client, summary.number).await?;
    while let Some(event) = live.next().await {
        let event = event?;
        if event.kind == "journal" && event.data["kind"] == "Sealed" {
            break;
        }
    }
    match &places.evidence {
        Some(folder) => keep(client, summary.number, &folder.join(&entry.name)).await,
        None => client.get(&format!("/api/v1/runs/{}", summary.number)).await,
    }
}

/// Builds a variant of the reference installer.
async fn build(places: &Places, variant: Option<&str>, folder: &Path) -> Result<PathBuf> {
    let name = variant.unwrap_or("good");
    ui::say(&format!("building the reference installer ({name})"));
    let iso = folder.join(format!("{name}.iso"));
    let mut command = Cmd::new(std::path::absolute(places.images.join("reference/build"))?).arg(&iso);
    if let Some(variant) = variant {
        command = command.args(["--variant", variant]);
    }
    if let Some(cache) = &places.cache {
        command = command.arg("--cache").arg(cache);
    }
    command.timeout(BUILD_LIMIT).run_ok().await.with_context(|| format!("building the variant {name}"))?;
    Ok(iso)
}

#[cfg(test)]
mod tests {
    use super::{load, select};
    use std::path::Path;

    fn images() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/images")
    }

    #[test]
    fn the_catalogue_is_good_and_every_variant_has_its_entry() {
        let entries = load(&images()).expect("the catalogue is good");
        let variants = std::fs::read_dir(images().join("reference/variants")).expect("variants");
        for variant in variants {
            let name = variant.expect("a variant").file_name().into_string().expect("text");
            assert!(entries.values().any(|e| e.variant.as_deref() == Some(&name)), "{name} proves nothing");
        }
        assert!(entries.values().any(|e| e.smoke), "there is a short run");
    }

    #[test]
    fn controls_come_along_and_come_first() {
        let entries = load(&images()).expect("the catalogue is good");
        let chosen = select(&entries, &["no-bootloader".to_owned()]).expect("there is one");
        let names: Vec<_> = chosen.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[1], "no-bootloader");
        let problem = select(&entries, &["no-botloader".to_owned()]).expect_err("there is none").to_string();
        assert!(problem.contains("did you mean `no-bootloader`?"), "{problem}");
    }
}
