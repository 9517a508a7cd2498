//! `assay recipe import`: settings that were written for another system, as an `assay.toml`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use assay_recipe::settings::import::{Imported, from_package_check, from_recipe_meta};
use clap::Args;

use crate::exit::Exit;
use crate::ui;

#[derive(Args)]
pub(crate) struct Import {
    /// `recipe_meta.py` of cc-ci, or `tests.toml` of package_check; told apart by their endings.
    file: PathBuf,
}

impl Import {
    pub(crate) fn run(&self) -> Result<Exit> {
        let shown = || self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).with_context(shown)?;
        let ending = self.file.extension().and_then(|ending| ending.to_str());
        let Imported { toml, left } = match ending {
            Some("py") => from_recipe_meta(&text)?,
            Some("toml") => from_package_check(&text)?,
            _ => bail!("{}: neither a recipe_meta.py nor a tests.toml", shown()),
        };
        ui::line(toml.trim_end());
        for left in &left {
            let line = if left.line == 0 { String::new() } else { format!(":{}", left.line) };
            ui::say(&format!("{}{line}: {} was not carried over: {}", shown(), left.name, left.why));
        }
        Ok(if left.is_empty() { Exit::Ok } else { Exit::Fail })
    }
}
