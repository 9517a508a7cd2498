//! What a run over an image was created with: where the image is, its profile, and which cell of a matrix it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::Sha256;
use assay_model::text::did_you_mean;
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
    /// The phase that the run begins at, from a snapshot of an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_phase: Option<String>,
    /// What chance is drawn from: hardware addresses, moments of power cuts.
    pub seed: u32,
    /// Where its sources are, where a pull request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageSource>,
}

/// The commit that an image was built from, and where the profile came from. Assay did not build it: that the medium belongs to
/// the commit is the word of whoever put it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageSource {
    /// The commit, in full.
    pub commit: String,
    /// Where it is from, for people: `git.example.org/infra/images#12`.
    pub of: String,
    /// The commit that the profile was taken from, in full.
    pub trusted: String,
    /// What names that commit: a branch.
    pub trusted_ref: String,
    /// The profile's files that the commit under test has otherwise: the trusted ones were used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_taken: Vec<String>,
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

    /// Refuses what cannot be asked of this profile.
    ///
    /// # Errors
    /// What, and what can be.
    pub fn checked(&self) -> Result<(), String> {
        let Some(wanted) = &self.from_phase else { return Ok(()) };
        let phases: Vec<&str> = self.profile.phases.iter().map(|phase| phase.name.as_str()).collect();
        if !phases.contains(&wanted.as_str()) {
            let hint = did_you_mean(wanted, &phases);
            return Err(format!("the profile has no phase `{wanted}`; it has {}{hint}", phases.join(", ")));
        }
        if self.on.is_some() {
            return Err(
                "nothing is kept of a registered machine; such a run is always done from its beginning"
                    .to_owned(),
            );
        }
        if self.profile.power_cut.cuts() {
            return Err("a run with a power cut is always done from its beginning".to_owned());
        }
        match self.profile.machine.all_disks().iter().find(|disk| disk.fault.is_some()) {
            Some(disk) => Err(format!(
                "disk {} has a fault, and what had gone wrong with it would be forgotten; such a run is always done \
                 from its beginning",
                disk.name
            )),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::ImageSpec;
    use crate::image::Profile;

    fn from(phase: &str, more: &str) -> Result<(), String> {
        let toml = format!(
            "name = \"x\"\n{more}\n[[phase]]\nname = \"installed\"\nmarker = \"DONE\"\ntimeout = \"60s\"\n"
        );
        let spec = ImageSpec {
            image: "x.iso".into(),
            sha256: None,
            profile: Profile::from_toml(&toml).expect("a profile"),
            folder: "/".into(),
            cell: std::collections::BTreeMap::new(),
            on: None,
            main: false,
            from_phase: Some(phase.to_owned()),
            seed: 0,
            source: None,
        };
        spec.checked()
    }

    #[test]
    fn a_run_begins_at_a_phase_that_there_is_and_never_in_a_bad_world() {
        assert_eq!(from("installed", ""), Ok(()));
        let unknown = from("instaled", "").expect_err("no such phase");
        assert!(unknown.contains("did you mean `installed`"), "{unknown}");
        let cut = from("installed", "[power-cut]\nbefore = \"installed\"").expect_err("a power cut");
        assert!(cut.contains("power cut"), "{cut}");
        let disk = "[[machine.disk]]\nname = \"D0\"\nsize = \"1GiB\"\nfault = { what = \"write-error\", at = \"1MiB\" }";
        let fault = from("installed", disk).expect_err("a faulty disk");
        assert!(fault.contains("D0"), "{fault}");
    }
}
