//! What a run over an image was created with: where the image is, its profile, and which cell of a matrix it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Profile;

/// An image to be tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageSpec {
    /// The image's file, on the runner.
    pub image: PathBuf,
    /// Its digest, where who asks has the file as well: a runner whose file is another one tests nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// What it is held to.
    pub profile: Profile,
    /// The folder that files named in the profile are relative to, on the runner.
    pub folder: PathBuf,
    /// What this run differs in from the others of its matrix: `firmware` → `uefi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cell: BTreeMap<String, String>,
    /// The registered host that it is installed on, in place of a virtual machine: then nothing is known of disks, screen
    /// and network but what the console tells. Set by the control plane alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Whether this is a run of the main branch, in which slow stages are asked, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub main: bool,
    /// What chance is drawn from: hardware addresses, moments of power cuts.
    pub seed: u32,
}

impl ImageSpec {
    /// Reads it from a run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(value: &Value) -> Result<Self, String> {
        serde_json::from_value(value.clone())
            .map_err(|e| format!("the run's image and profile do not read: {e}"))
    }

    /// The name that its history goes by: `reference`, `reference[disks=3,firmware=uefi]`.
    pub fn target_name(&self) -> String {
        let name = &self.profile.name;
        if self.cell.is_empty() {
            return name.clone();
        }
        let cell: Vec<_> = self.cell.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        format!("{name}[{}]", cell.join(","))
    }
}
