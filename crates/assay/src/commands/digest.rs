//! `assay digest`: what a week has brought, as Markdown for people and as JSON for programs.

use anyhow::Result;
use assay_model::digest::{Digest as Told, Week};
use clap::Args;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Digest {
    /// The week, such as 2026-W47 (ISO 8601, UTC) [default: this one, as far as it goes].
    #[arg(long)]
    week: Option<Week>,
    #[command(flatten)]
    remote: Remote,
}

impl Digest {
    pub(crate) async fn run(self) -> Result<Exit> {
        let query = self.week.map(|week| format!("?week={week}")).unwrap_or_default();
        let digest: Told = self.remote.client()?.get(&format!("/api/v1/digest{query}")).await?;
        if self.remote.json {
            ui::json(&digest)?;
        } else {
            ui::line(digest.markdown().trim_end());
        }
        Ok(Exit::Ok)
    }
}
