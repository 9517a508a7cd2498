//! `assay verify`: checks an evidence bundle offline. Needs no server and no privileges.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_report::PublicKey;
use assay_report::bundle::{Outcome, verify_bundle};
use clap::Args;

use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Verify {
    /// The bundle: a tar from `assay report RUN --format bundle`, or a folder.
    bundle: PathBuf,
    /// A public key (PEM) to trust; may be given more than once. Without one, the signature shows
    /// only that nothing was changed since the holder of the key inside the bundle signed.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// Print JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Result<Exit> {
        let mut trusted = Vec::new();
        for path in &self.key {
            let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            trusted.push(PublicKey::from_pem(&pem, &path.display().to_string())?);
        }
        let verification = verify_bundle(&self.bundle, &trusted)?;
        if self.json {
            ui::json(&verification)?;
        } else {
            for check in &verification.checks {
                let word = match check.outcome {
                    Outcome::Ok => "ok  ",
                    Outcome::Note => "note",
                    Outcome::Bad => "BAD ",
                };
                ui::line(&format!("{word}  {}: {}", check.what, check.detail));
            }
            let target = verification.target.as_deref().unwrap_or("?");
            let verdict = match (&verification.verdict, verification.interim) {
                (Some(verdict), _) if verification.key_trusted => format!("verified: {target}: {verdict}"),
                (Some(verdict), _) => format!(
                    "whole, by the key inside it (name a trusted one with --key): {target}: {verdict}"
                ),
                (None, true) => "not sealed: an interim bundle proves no verdict".to_owned(),
                (None, false) => "NOT verified: see above".to_owned(),
            };
            ui::line(&verdict);
        }
        Ok(if verification.ok { Exit::Ok } else { Exit::Fail })
    }
}
