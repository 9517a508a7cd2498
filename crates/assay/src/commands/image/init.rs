//! `assay image init`: a first profile, written by watching a boot.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use assay_api::operator::{RunDetail, RunSummary, TestImage};
use assay_model::Verdict;
use assay_pipelines::image::{ImageSpec, Profile};
use assay_qemu::AccelProbe;
use clap::Args;

use crate::commands::follow::follow;
use crate::commands::local::{Local, cache};
use crate::commands::out;
use crate::exit::Exit;
use crate::ui;

/// Console lines that are offered as markers.
const OFFERED: usize = 25;

#[derive(Args)]
pub(crate) struct Init {
    /// The image.
    image: PathBuf,
    /// The profile to write [default: named after the image].
    #[arg(long, short, value_name = "TOML")]
    output: Option<PathBuf>,
    /// The firmware to boot with: bios, uefi or secure-boot.
    #[arg(long, default_value = "bios")]
    firmware: String,
    /// How long it is watched at most: it ends earlier at a login prompt or where nothing happens any more.
    #[arg(long, default_value = "5m")]
    watch: assay_pipelines::image::profile::Span,
    /// Write over a profile that is there.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) async fn run(self) -> Result<Exit> {
        let image = std::path::absolute(&self.image).with_context(|| self.image.display().to_string())?;
        anyhow::ensure!(image.is_file(), "{}: not a file", self.image.display());
        let name = name_of(&image);
        let output = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
        anyhow::ensure!(
            self.force || !output.exists(),
            "{} is there already; --force writes over it",
            output.display()
        );
        let profile = self.watched_with(&name)?;
        let scratch = tempfile::Builder::new().prefix("assay-image-").tempdir().context("a scratch store")?;
        let local = Local::start(scratch.path(), &[]).await?;
        let spec = ImageSpec {
            image,
            sha256: None,
            profile,
            folder: scratch.path().to_owned(),
            cell: std::collections::BTreeMap::new(),
            on: None,
            main: false,
            from_phase: None,
            seed: uuid::Uuid::new_v4().as_fields().0,
            source: None,
        };
        let asked = TestImage {
            spec: serde_json::to_value(&spec)?,
            runner: Some(local.runner_name.clone()),
            muted: Vec::new(),
            on: None,
        };
        let summary: RunSummary = local.client.post("/api/v1/images/runs", &asked).await?;
        follow(&local.client, summary.number).await?;
        let files = scratch.path().join("out");
        let detail = out::keep(&local.client, summary.number, &files).await?;
        local.stop().await;
        let probe = AccelProbe::new(cache()?.join("accel.json"));
        let payload = probe.time(&probe.accel().await?).await?;
        let text = self.written(&name, &detail, &files.join("artifacts"), payload.as_millis());
        // What is written must read: it is held to that before anybody relies on it.
        Profile::from_toml(&text)
            .map_err(|error| anyhow::anyhow!("the profile that was written does not read: {error}"))?;
        std::fs::write(&output, text).with_context(|| output.display().to_string())?;
        ui::say(&format!("{}: look at it, name the markers that count, and run", output.display()));
        ui::say(&format!("  assay image test {} --profile {}", self.image.display(), output.display()));
        Ok(Exit::Ok)
    }

    /// The profile that the boot is watched with: nothing is expected of it but a login.
    fn watched_with(&self, name: &str) -> Result<Profile> {
        let text = format!(
            "name = \"{name}\"\nuntil = \"Boot\"\n[machine]\nfirmware = \"{}\"\n[boot]\nrung = \"login\"\ntimeout = \"{}\"\n\
             [console]\nsilence = \"45s\"\n",
            self.firmware, self.watch
        );
        Profile::from_toml(&text).map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn written(&self, name: &str, detail: &RunDetail, artifacts: &Path, payload_ms: u128) -> String {
        let stage = |wanted: &str| detail.report.stages.iter().find(|stage| stage.name == wanted);
        let ladder =
            stage("Boot").and_then(|boot| boot.checks.iter().find(|check| check.name == "boot ladder"));
        let seen = ladder.map_or("nothing was recognised", |check| check.seen.as_str());
        let rung = ["login", "userspace", "kernel", "bootloader", "firmware"]
            .into_iter()
            .find(|r| seen.starts_with(r));
        let seconds = stage("Boot").and_then(|boot| boot.seconds).unwrap_or(60.0);
        let mut text = format!(
            "# Written by `assay image init` after watching one boot. Times are twice what was seen.\n\n\
             name = \"{name}\"\ncalibrated-ms = {payload_ms}\n\n[machine]\nfirmware = \"{}\"\n\n\
             # Seen: {}\n[boot]\nrung = \"{}\"\ntimeout = \"{}s\"\n",
            self.firmware,
            comment(seen),
            rung.unwrap_or("firmware"),
            (seconds * 2.0).ceil().max(60.0),
        );
        if stage("Boot").and_then(|boot| boot.verdict) != Some(Verdict::Pass) {
            for finding in &detail.report.findings {
                let _ = writeln!(text, "# {}: {}", finding.code, comment(&finding.message));
            }
        }
        text.push_str(
            "\n# A phase is a line that is waited for. Take lines of your installer for the markers; they are regular\n\
             # expressions. What the machine printed last, as candidates:\n",
        );
        for line in last_lines(artifacts) {
            let _ = writeln!(text, "#   {}", comment(&line));
        }
        text.push_str("#\n# [[phase]]\n# name = \"installed\"\n# marker = \"Installation complete\"\n# timeout = \"120s\"\n");
        text
    }
}

/// The end of what was heard, or else seen.
fn last_lines(artifacts: &Path) -> Vec<String> {
    for file in ["installer-serial.txt", "installer-screen.txt"] {
        let Ok(text) = std::fs::read_to_string(artifacts.join(file)) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        // Each begins with its time.
        let words = |line: &&str| line.get(10..).unwrap_or_default().trim().to_owned();
        let kept: Vec<String> = lines.iter().map(words).filter(|line| !line.is_empty()).collect();
        if !kept.is_empty() {
            return kept[kept.len().saturating_sub(OFFERED)..].to_vec();
        }
    }
    Vec::new()
}

/// A guest's words, fit for a comment.
fn comment(text: &str) -> String {
    assay_model::text::clean_to(text, 110)
}

/// The image's name without its ending, as a profile may be called.
fn name_of(image: &Path) -> String {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    if name.is_empty() { "image".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::name_of;
    use std::path::Path;

    #[test]
    fn a_profile_is_named_after_its_image() {
        for (path, name) in
            [("/x/my installer (1).iso", "my-installer--1-"), ("a.b.iso", "a.b"), ("/", "image")]
        {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
