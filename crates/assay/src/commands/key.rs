//! `assay key`: the public key that verdicts are signed with. Hand it to whoever runs `assay verify`.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Key {
    #[command(flatten)]
    remote: Remote,
}

impl Key {
    pub(crate) async fn run(self) -> Result<Exit> {
        let key: Value = self.remote.client()?.get("/api/v1/key").await?;
        if self.remote.json {
            ui::json(&key)?;
        } else {
            ui::line(key["pem"].as_str().unwrap_or_default().trim_end());
        }
        Ok(Exit::Ok)
    }
}
