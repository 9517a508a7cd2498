//! An image's run again: the profile is in the evidence; the medium is not, and is known by its digest.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use assay_api::operator::{RunSummary, TestImage};
use assay_model::Sha256;
use assay_pipelines::image::ImageSpec;
use assay_pipelines::image::bench::Digests;
use assay_pipelines::image::evidence::Prepared;

use super::{Comparison, Reproduce, Then, concluded, evidence, twice};
use crate::commands::follow::follow;
use crate::commands::local::Local;
use crate::commands::out;
use crate::ui;

impl Reproduce {
    /// None when we were told to stop.
    pub(super) async fn image(&self, then: &Then) -> Result<Option<Comparison>> {
        let run = &then.run;
        let number = run.created.number;
        let mut spec = ImageSpec::of(&run.created.spec).map_err(anyhow::Error::msg)?;
        if let Some(host) = &spec.on {
            bail!(
                "run {number} installed an image on the host {host}: the machine itself is what was tested, so it is asked for again \
                 there: `assay image test --on {host}`"
            );
        }
        ensure!(
            spec.from_phase.is_none(),
            "run {number} began at a snapshot of an earlier run, which is not in the evidence; do that earlier run again"
        );
        let prepared =
            evidence(run, &then.bundle)?.into_iter().find(|(stage, _)| stage.as_str() == "Prepare");
        let prepared = prepared.and_then(|(_, value)| serde_json::from_value::<Prepared>(value).ok());
        let Some(wanted) = prepared.map(|prepared| prepared.sha256).or(spec.sha256) else {
            bail!("run {number} ended before it had read its image, so nobody knows which that was");
        };
        let named = spec.profile.named_files();
        let files = || named.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
        let Some(medium) = &self.medium else {
            let folder = if named.is_empty() {
                String::new()
            } else {
                format!(" --folder FOLDER (with {}, which its profile names)", files())
            };
            bail!(
                "run {number} was of the image {}, which is not in the evidence; its profile is. Give the file with the SHA-256 {wanted}: \
                 `assay reproduce {} --medium FILE{folder}`",
                spec.image.display(),
                self.run
            );
        };
        let medium = std::path::absolute(medium).with_context(|| medium.display().to_string())?;
        is_the_medium(&medium, wanted).await?;
        ensure!(
            named.is_empty() || self.folder.is_some(),
            "the run's profile names files, which are not in the evidence: {}; name the folder that has them with --folder",
            files()
        );
        let folder = match &self.folder {
            Some(folder) => std::path::absolute(folder).with_context(|| folder.display().to_string())?,
            None => PathBuf::from("/"),
        };
        for (place, name) in &named {
            ensure!(
                folder.join(name).exists(),
                "{place} = {name:?}: there is no {}",
                folder.join(name).display()
            );
        }
        let not_in_evidence = named.iter().map(|(place, name)| {
            format!(
                "{name}: {place} of the profile; it is taken from the folder that was given, whatever it is"
            )
        });
        let not_in_evidence: Vec<String> = not_in_evidence.collect();
        (spec.image, spec.folder, spec.sha256) = (medium, folder, Some(wanted));
        ui::say(&format!("run {number} of {} again: seed {}", run.created.target.name, spec.seed));
        let local = Local::start(&then.scratch.path().join("data"), &[]).await?;
        let again = async |client: &crate::client::Client, runner: String| {
            let asked = TestImage {
                spec: serde_json::to_value(&spec)?,
                runner: Some(runner),
                muted: run.created.muted.clone(),
                on: None,
            };
            let summary: RunSummary = client.post("/api/v1/images/runs", &asked).await?;
            follow(client, summary.number).await?;
            out::keep(client, summary.number, &self.out).await
        };
        let Some(now) = self.here(local, again).await? else { return Ok(None) };
        let stages = twice(run, &now);
        let (reproduced, sentence) = concluded(run, &now, &stages);
        let (differences, gone) = (Vec::new(), Vec::new());
        Ok(Some(Comparison { reproduced, sentence, stages, differences, not_in_evidence, gone }))
    }
}

async fn is_the_medium(medium: &std::path::Path, wanted: Sha256) -> Result<()> {
    let found = Digests::default().of(medium).await.map_err(anyhow::Error::msg)?.sha256;
    ensure!(
        found == wanted,
        "{} is another medium: its SHA-256 is {found}, and the one that was tested has {wanted}",
        medium.display()
    );
    Ok(())
}
