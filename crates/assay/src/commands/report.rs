//! `assay report`: a run's report, its evidence bundle, or a spec captured from its inventory.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_model::host::inventory::Inventory;
use assay_model::host::spec::HostSpec;
use clap::{Args, ValueEnum};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// report.html, self-contained.
    Html,
    /// report.json.
    Json,
    /// Everything, as a tar for `assay verify`.
    Bundle,
    /// An expected spec (YAML) captured from the run's inventory.
    Spec,
}

#[derive(Args)]
pub(crate) struct Report {
    /// The run's number.
    number: i64,
    /// What to fetch.
    #[arg(long, value_enum, default_value = "html")]
    format: Format,
    /// Where to write it; `-` is stdout [default: named after the run].
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Report {
    pub(crate) async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let n = self.number;
        let (path, name) = match self.format {
            _ if self.remote.json => ("report.json", format!("assay-run-{n}.json")),
            Format::Html => ("report.html", format!("assay-run-{n}.html")),
            Format::Json => ("report.json", format!("assay-run-{n}.json")),
            Format::Bundle => ("bundle", format!("assay-run-{n}.tar")),
            Format::Spec => ("artifacts/inventory.json", format!("assay-run-{n}-spec.yaml")),
        };
        let mut bytes = client.open(&format!("/api/v1/runs/{n}/{path}")).await?.bytes().await?.to_vec();
        if self.format == Format::Spec && !self.remote.json {
            let inventory: Inventory =
                serde_json::from_slice(&bytes).context("the run's inventory does not read")?;
            bytes = HostSpec::capture(&inventory).to_yaml().into_bytes();
        }
        let to_stdout = self.output.as_deref().is_some_and(|o| o.as_os_str() == "-");
        if to_stdout || (self.remote.json && self.output.is_none()) {
            std::io::stdout().lock().write_all(&bytes)?;
            return Ok(Exit::Ok);
        }
        let output = self.output.unwrap_or_else(|| name.into());
        std::fs::write(&output, &bytes).with_context(|| output.display().to_string())?;
        ui::say(&format!("{} ({} KiB)", output.display(), bytes.len().div_ceil(1024)));
        Ok(Exit::Ok)
    }
}
