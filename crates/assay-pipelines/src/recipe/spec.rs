//! What a run over a recipe was created with: where the recipe is, how its tests customise it, and what was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::Sha256;
use assay_recipe::customise::Manifest;
use assay_recipe::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::harness::Harness;

/// A recipe to be tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeSpec {
    /// Its name.
    pub name: String,
    /// Its folder on the runner; a checkout with its tags, where it is to be upgraded.
    pub folder: PathBuf,
    /// The commit under test, in full; none for the folder as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Where it comes from when no folder of it is on the runner; then `folder` is only its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Where its tests are, on the runner; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<PathBuf>,
    /// How its tests are customised: read from the tests' folder by whoever asked.
    pub settings: Settings,
    /// The customisation as it is told; no secret is in it.
    pub manifest: Manifest,
    /// What was asked for beyond the defaults.
    #[serde(default)]
    pub asked: Asked,
    /// What stands between it and the runner.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// The stages of the run; set by the control plane.
    #[serde(default)]
    pub stages: Vec<String>,
    /// What chance is drawn from: the domain.
    pub seed: u32,
    /// The command line as it was asked, without secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invocation: Vec<String>,
    /// The build of Assay that decides; set by the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness: Option<Harness>,
}

/// A recipe as a Git bundle: the commit under test, the trusted commit, and all tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The bundle's digest; it is an artifact of the control plane's.
    pub bundle: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it is from, for people: `git.example.org/apps/wiki#12`.
    pub of: String,
    /// The commit that settings, tests and hooks are taken from, in full.
    pub trusted: String,
    /// What names that commit: a branch.
    pub trusted_ref: String,
    /// Files that decide over the verdict and that the commit under test has otherwise: the trusted ones were used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_taken: Vec<String>,
    /// The repository that the commit under test comes from, where that is a fork: `mallory/wiki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
}

/// What stands between a recipe under test and the runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces on the runner's own kernel: for recipes of people whom its owner knows.
    #[default]
    Namespaces,
    /// A virtual machine that is thrown away, with a kernel of its own: for what strangers send, say a pull request from a fork.
    Machine,
}

impl Isolation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What was asked for beyond the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Asked {
    /// Without what takes long: installed at the version under test, not upgraded, backed up or restored. Never promotes.
    pub quick: bool,
    /// With the tests in `extra/`.
    pub extra: bool,
    /// The stack is left up for a look at it.
    pub keep: bool,
    /// Without the checks that every recipe gets; only ever on one's own machine.
    pub skip_generic: bool,
    /// Folders with images as archives, on the runner.
    pub images: Vec<PathBuf>,
    /// Folders with checkouts of recipes that others may depend on, on the runner.
    pub recipes: Vec<PathBuf>,
    /// What the recipe may reach outside of its containers: `assay_swarm::Allowed`.
    pub allowed: Value,
    /// What images have to be, by how the files call them: those of an earlier run that is done again. Empty for whatever they are now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<String, PinnedImage>,
}

/// An image as an earlier run had it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedImage {
    /// The digest of its configuration: the same bytes, the same id.
    pub id: String,
    /// Its name and digest at its registry; none for one from an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl RecipeSpec {
    /// Reads it from a run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(value: &Value) -> Result<Self, String> {
        serde_json::from_value(value.clone())
            .map_err(|e| format!("the run's recipe and settings do not read: {e}"))
    }

    /// What a quick run says of what it leaves out.
    pub fn left_out_by_quick(&self) -> String {
        let from = &self.settings.upgrade.from;
        let from = if from.len() > 1 { format!(" (from {})", from.join(", ")) } else { String::new() };
        format!("a quick run: neither upgrade{from} nor backup was tried")
    }

    /// The app's domain. Names that are never anybody's (RFC 6761), short enough that what Docker makes of them fits.
    pub fn domain(&self) -> String {
        let letters = self.name.chars().filter(char::is_ascii_alphanumeric).take(8);
        let name: String = letters.collect::<String>().to_ascii_lowercase();
        format!("{}-{:06x}.test", if name.is_empty() { "app" } else { &name }, self.seed & 0x00ff_ffff)
    }
}
