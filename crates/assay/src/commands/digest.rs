//! `assay digest`: what a week has brought, as Markdown for people and as JSON for programs.

use anyhow::Result;
use assay_model::digest::{Digest as Told, Week};
use clap::Args;
use serde::Deserialize;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

const FEED: &str = "/api/v1/digest/feed";

/// What the server answers: a path, since it does not know what it is called.
#[derive(Deserialize)]
struct Feed {
    path: String,
}

#[derive(Args)]
pub(crate) struct Digest {
    /// The week, such as 2026-W47 (ISO 8601, UTC) [default: this one, as far as it goes].
    #[arg(long)]
    week: Option<Week>,
    /// Print an address of the feed that a feed reader can use: who has it can read the digest. The one before it is void.
    #[arg(long, conflicts_with_all = ["week", "revoke_feed"])]
    new_feed: bool,
    /// Make the feed's address void.
    #[arg(long, conflicts_with = "week")]
    revoke_feed: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Digest {
    pub(crate) async fn run(self) -> Result<Exit> {
        if self.new_feed {
            let feed: Feed = self.remote.client()?.post(FEED, &serde_json::json!({})).await?;
            let address = format!("{}{}", self.remote.server()?.trim_end_matches('/'), feed.path);
            if self.remote.json {
                ui::json(&address)?;
            } else {
                ui::line(&address);
            }
            return Ok(Exit::Ok);
        }
        if self.revoke_feed {
            self.remote.client()?.delete(FEED).await?;
            ui::say("the feed's address is void; readers with a token go on");
            return Ok(Exit::Ok);
        }
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
