//! `assay recipe images`: what is kept from registries, and letting go of it.

use std::path::PathBuf;

use anyhow::Result;
use assay_registry::{Credentials, ImageCache, Registries};
use clap::Args;
use serde_json::json;

use crate::commands::registries::cache;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Images {
    /// Where they are kept [default: assay/images in the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    image_cache: Option<PathBuf>,
    /// Let go of the longest unused until no more than this is taken, in MiB; waits while runs fetch images.
    #[arg(long, value_name = "MIB")]
    prune: Option<u64>,
    /// Print as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Images {
    pub(crate) async fn run(self) -> Result<Exit> {
        let cache = cache(self.image_cache, Registries::default(), Credentials::default())?;
        if let Some(most) = self.prune {
            ImageCache::check()?;
            for name in cache.prune(most.saturating_mul(MIB)).await? {
                ui::say(&format!("let go of {name}"));
            }
        }
        let kept = cache.kept();
        if self.json {
            let images: Vec<_> = kept
                .iter()
                .map(|image| json!({"reference": image.reference, "digest": image.digest, "bytes": image.bytes}))
                .collect();
            ui::json(&json!({"folder": cache.folder(), "bytes": cache.bytes(), "images": images}))?;
            return Ok(Exit::Ok);
        }
        let rows: Vec<Vec<String>> = kept
            .iter()
            .map(|image| vec![image.reference.clone(), short(&image.digest), in_mib(image.bytes)])
            .collect();
        ui::table(&["image", "digest", "MiB"], &rows);
        ui::say(&format!("{} MiB in {}", in_mib(cache.bytes()), cache.folder().display()));
        Ok(Exit::Ok)
    }
}

const MIB: u64 = 1 << 20;

fn in_mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB as f64)
}

fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
