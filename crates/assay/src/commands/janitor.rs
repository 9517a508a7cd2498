//! `assay janitor`: what is thrown away, when, and what that would be now.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Janitor {
    /// Throw away now what would be thrown away in the next 24 hours
    Run(Clean),
    /// What is kept; with arguments, change it
    Keep(Keep),
}

#[derive(Args)]
pub(crate) struct Clean {
    /// Only say what that would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Keep {
    /// Days for which the raw files of a run are kept; 0 keeps them for ever.
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// How many GiB the raw files of all runs may take; 0 is no limit.
    #[arg(long, value_name = "GIB")]
    gib: Option<u32>,
    #[command(flatten)]
    remote: Remote,
}

impl Janitor {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Run(clean) => clean.run().await,
            Self::Keep(keep) => keep.run().await,
        }
    }
}

impl Clean {
    async fn run(self) -> Result<Exit> {
        let body = json!({ "dry_run": self.dry_run });
        let cleaned: Value = self.remote.client()?.post("/api/v1/janitor/clean", &body).await?;
        if self.remote.json {
            ui::json(&cleaned)?;
            return Ok(Exit::Ok);
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let rows: Vec<_> = cleaned["pruned"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|run| ["number", "files", "bytes", "why"].map(|key| text(&run[key])).to_vec())
            .collect();
        if !rows.is_empty() {
            ui::table(&["RUN", "FILES", "BYTES", "WHY"], &rows);
        }
        let count = |key: &str| cleaned[key].as_u64().unwrap_or(0);
        ui::say(&format!(
            "{}: the raw files of {} runs; {} leases, {} tokens, {} checkpoints, {} sessions and {} files ({}) that were left over",
            if self.dry_run { "would go" } else { "went" },
            rows.len(),
            count("leases"),
            count("tokens"),
            count("checkpoints"),
            count("sessions"),
            count("orphans"),
            assay_model::bytes(count("orphan_bytes")),
        ));
        Ok(Exit::Ok)
    }
}

impl Keep {
    async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let mut kept: Value = client.get("/api/v1/janitor").await?;
        if self.days.is_some() || self.gib.is_some() {
            for (key, value) in [("max_age_days", self.days), ("max_gib", self.gib)] {
                if let Some(value) = value {
                    kept[key] = value.into();
                }
            }
            kept = client.put("/api/v1/janitor", &kept).await?;
        }
        if self.remote.json {
            ui::json(&kept)?;
        } else {
            let limit = |key: &str, unit: &str| match kept[key].as_u64() {
                None | Some(0) => "no limit".to_owned(),
                Some(n) => format!("{n} {unit}"),
            };
            let (days, gib) = (limit("max_age_days", "days"), limit("max_gib", "GiB"));
            ui::line(&format!("raw files are kept for: {days}\nall of them together take: {gib}"));
            ui::line(
                "journals, evidence and reports are kept for ever; so is all of open and pinned runs, and of each host's last pass",
            );
        }
        Ok(Exit::Ok)
    }
}
