//! `assay image list`, `assay image show`: what was tested, how it came out, and what changed.

use anyhow::{Context as _, Result};
use assay_api::images::{Image, ImageHistory, ImageTest};
use assay_model::bytes;
use clap::Args;

use crate::commands::{Remote, run};
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
    /// The name in its profile, as `assay image list` shows it.
    name: String,
    /// Only runs before this one.
    #[arg(long, value_name = "RUN")]
    before: Option<i64>,
    /// At most so many runs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
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
        let before = self.before.map_or_else(String::new, |before| format!("&before={before}"));
        let path = format!("/api/v1/images/{}?limit={}{before}", segment(&self.name)?, self.limit);
        let history: ImageHistory = self.remote.client()?.get(&path).await?;
        if self.remote.json {
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
                test.seconds.map(|seconds| format!("{seconds:.0} s")).unwrap_or_default(),
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
            ui::say(&format!("older runs: `assay image show {} --before {next}`", self.name));
        }
        Ok(Exit::Ok)
    }
}

/// In words; a pass of a part is not a pass of the whole.
fn verdict(test: &ImageTest) -> String {
    let mut words = run::verdict_words(&test.run);
    if test.run.result.is_some() {
        let reservations = [
            (test.checks_off, ", checks off"),
            (test.stages_left_out, ", stages left out"),
            (test.from_phase.is_some(), ", from a phase"),
        ];
        words.extend(reservations.into_iter().filter_map(|(is, word)| is.then_some(word)));
    }
    words
}

fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}

/// A name may hold anything: it is one segment of the address.
fn segment(name: &str) -> Result<String> {
    let mut url = reqwest::Url::parse("http://x/").context("an address")?;
    url.path_segments_mut().ok().context("an address has a path")?.push(name);
    Ok(url.path().trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_an_address() {
        let segment = |name| segment(name).expect("it can be written");
        assert_eq!(segment("my-installer"), "my-installer");
        assert_eq!(segment("x[firmware=uefi]"), "x[firmware=uefi]");
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
    }
}
