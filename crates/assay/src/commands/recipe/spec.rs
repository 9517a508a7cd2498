//! Which recipe, how its tests customise it, and where its images are: what every command over a recipe asks for.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_pipelines::recipe::{Asked, Isolation, RecipeSpec};
use assay_recipe::customise::{Customisation, Manifest, Options, Redactor};
use assay_recipe::versions::Checkout;
use clap::Args;
use serde_json::Value;

/// Switches the checks off that every recipe gets; on a developer's machine alone.
const SKIP_GENERIC: &str = "ASSAY_SKIP_GENERIC";

#[derive(Args)]
pub(crate) struct Where {
    /// The recipe's folder: a checkout with its tags, so that it can be upgraded from its last release.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The folder with its tests and assay.toml [default: `tests` in the recipe]
    #[arg(long, value_name = "FOLDER")]
    tests: Option<PathBuf>,
    /// A folder with images as archives (`docker save`); may be given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_IMAGES", value_delimiter = ':')]
    images: Vec<PathBuf>,
    /// A folder with checkouts of recipes that this one may depend on, each under its name; may be given more than once.
    #[arg(long, value_name = "FOLDER", env = "ASSAY_RECIPES", value_delimiter = ':')]
    recipes: Vec<PathBuf>,
    /// What the recipe may reach outside of its containers (TOML: binds, capabilities, host_reach, drivers, networks).
    #[arg(long, value_name = "TOML")]
    allow: Option<PathBuf>,
    /// What chance is drawn from: the app's domain.
    #[arg(long)]
    seed: Option<u32>,
}

impl Where {
    /// As it is, with nothing else asked for.
    pub(crate) async fn spec(&self) -> Result<RecipeSpec> {
        self.asking(None, Asked::default()).await
    }

    /// With what is asked for beyond the defaults; images and what is allowed are filled in.
    pub(crate) async fn asking(&self, commit: Option<&str>, asked: Asked) -> Result<RecipeSpec> {
        let folder = self.folder.canonicalize().with_context(|| self.folder.display().to_string())?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let skip_generic = is_generic_skipped();
        let options = Options { extra: asked.extra, skip_generic, required: self.tests.is_some() };
        let customisation = match &self.tests {
            Some(tests) => Customisation::discover(tests, options)?,
            None => Customisation::of_recipe(&folder, options)?,
        };
        let commit = match commit {
            None => None,
            Some(revision) => Some(Checkout::open(&folder).await?.commit(revision).await?),
        };
        for images in &self.images {
            anyhow::ensure!(images.is_dir(), "--images {}: there is no such folder", images.display());
        }
        let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| path.display().to_string());
        let allowed = match &self.allow {
            None => Value::Null,
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                toml::from_str(&text).with_context(|| path.display().to_string())?
            }
        };
        Ok(RecipeSpec {
            name,
            folder,
            commit,
            source: None,
            tests: self.tests.as_ref().map(absolute).transpose()?,
            settings: customisation.settings.settings.clone(),
            manifest: Manifest::of(&customisation, &Redactor::default()),
            asked: Asked {
                skip_generic,
                images: self.images.iter().map(absolute).collect::<Result<_>>()?,
                recipes: self.recipes.iter().map(absolute).collect::<Result<_>>()?,
                allowed,
                ..asked
            },
            isolation: Isolation::default(),
            stages: Vec::new(),
            seed: self.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_fields().0 & 0x00ff_ffff),
            invocation: invocation(std::env::args()),
            harness: None,
        })
    }
}

/// Whether the generic checks are switched off here.
pub(super) fn is_generic_skipped() -> bool {
    std::env::var_os(SKIP_GENERIC).is_some_and(|value| value == "1")
}

/// The command line, without the secrets that may stand in it.
fn invocation(args: impl IntoIterator<Item = String>) -> Vec<String> {
    const SECRET: &str = "--token";
    let mut hide = false;
    let shown = |arg: String| {
        if std::mem::take(&mut hide) {
            return "***".to_owned();
        }
        hide = arg == SECRET;
        match arg.split_once('=') {
            Some((SECRET, _)) => format!("{SECRET}=***"),
            _ => arg,
        }
    };
    args.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::invocation;

    #[test]
    fn a_command_line_is_kept_without_its_token() {
        let told = |line: &str| invocation(line.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(told("assay recipe test . --quick"), "assay recipe test . --quick");
        assert_eq!(told("assay recipe test --token secret ."), "assay recipe test --token *** .");
        assert_eq!(told("assay recipe test --token=secret ."), "assay recipe test --token=*** .");
        assert_eq!(told("assay recipe test --token"), "assay recipe test --token");
    }
}
