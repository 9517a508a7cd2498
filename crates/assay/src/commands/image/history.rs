//! `assay image list`, `assay image show`: what was tested, how it came out, and what changed.

use anyhow::Result;
use assay_api::images::{Image, ImageHistory, ImageTest};
use assay_model::bytes;
use clap::Args;

use crate::commands::Remote;
use crate::commands::history::{self, Asked, took};
use crate::exit::Exit;
use crate::ui;

/// Enough of a digest to tell images apart.
const SHORT: usize = 12;

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    asked: Asked,
}

impl List {
    pub(crate) async fn run(self) -> Result<Exit> {
        let images: Vec<Image> = self.remote.client()?.get("/api/v1/images").await?;
        if self.remote.json {
            ui::json(&images)?;
            return Ok(Exit::Ok);
        }
        if images.is_empty() {
            ui::say(
                "no image was tested yet; have one tested with `assay image test my.iso --profile my.toml --server URL`",
            );
        }
        let row = |image: &Image| {
            let latest = image.tests.first()?;
            let file = image.tests.iter().find_map(|test| test.image.as_ref());
            Some(vec![
                image.name.clone(),
                verdict(latest),
                latest.code.clone().unwrap_or_default(),
                latest.run.number.to_string(),
                file.map(|file| short(&file.sha256.to_string())).unwrap_or_default(),
                file.and_then(|file| file.volume.clone()).unwrap_or_default(),
                latest.run.created_at.rfc3339(),
            ])
        };
        let rows: Vec<_> = images.iter().filter_map(row).collect();
        ui::table(&["IMAGE", "VERDICT", "CODE", "RUN", "SHA-256", "VOLUME", "ASKED FOR"], &rows);
        Ok(Exit::Ok)
    }
}

impl Show {
    pub(crate) async fn run(self) -> Result<Exit> {
        let history: ImageHistory = self.asked.history("images").await?;
        if self.asked.remote.json {
            ui::json(&history)?;
            return Ok(Exit::Ok);
        }
        ui::line(&history.name);
        if let Some(file) = history.tests.iter().find_map(|test| test.image.as_ref()) {
            let volume = file.volume.as_deref().map(|volume| format!(" · {volume}")).unwrap_or_default();
            ui::line(&format!("  image  {} · {}{volume}", file.sha256, bytes(file.bytes)));
        }
        let row = |test: &ImageTest| {
            vec![
                test.run.number.to_string(),
                verdict(test),
                test.code.clone().unwrap_or_default(),
                test.image.as_ref().map(|file| short(&file.sha256.to_string())).unwrap_or_default(),
                took(test.seconds),
                test.run.created_at.rfc3339(),
            ]
        };
        let rows: Vec<_> = history.tests.iter().map(row).collect();
        ui::table(&["RUN", "VERDICT", "CODE", "SHA-256", "TOOK", "ASKED FOR"], &rows);
        for change in &history.changes {
            ui::line(&format!("from run {} to run {}", change.from, change.to));
            if change.differences.is_empty() {
                ui::line("  nothing that was looked at differs but the digest");
            }
            for line in &change.differences {
                ui::line(&format!("  {line}"));
            }
        }
        if let Some(next) = history.next {
            ui::say(&format!("older runs: `assay image show {} --before {next}`", self.asked.name));
        }
        Ok(Exit::Ok)
    }
}

fn verdict(test: &ImageTest) -> String {
    let reservations = [
        (test.checks_off, "checks off"),
        (test.stages_left_out, "stages left out"),
        (test.from_phase.is_some(), "from a phase"),
    ];
    history::verdict(&test.run, &reservations)
}

fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}
