//! What an installer image is held to: the operator's profile, written as TOML.
//!
//! Five lines are enough for a plain installer; everything else has a default that suits one. What may stand in a
//! profile is in `schemas/image-profile.schema.json` and, in words, in `docs/guide/image-profiles.md`.

mod check;
mod flow;
mod machine;
mod matrix;
mod power;
mod quarantine;
mod read;
mod reconcile;
mod units;

use assay_console::Rung;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use flow::{Channel, ConsoleRules, Ends, Phase, Reply, Within};
pub use machine::{
    Architecture, Bus, Connection, DiskFault, DiskHolds, DiskRole, DiskSpec, Firmware, MachineSpec, NicSpec,
};
pub use matrix::{Axis, AxisValue, BadSelection, Case, CaseRules, Cover, MAX_CASES, Selection, merge};
pub use power::PowerCutSpec;
pub use quarantine::Quarantine;
pub use read::ProfileError;
pub use reconcile::{Cluster, ReconcileSpec, When};
pub use units::{BadUnit, Size, Span};

/// A whole profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay image profile")]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The image's name: its history goes by it. Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The last stage that is run; the whole pipeline without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How long the calibration payload took on the runner that the times in this profile were measured on, in
    /// milliseconds; `assay image init` writes it. On a slower runner all limits are stretched accordingly. Without it,
    /// times are taken literally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated_ms: Option<u64>,
    /// The machine that it is tested on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub machine: MachineSpec,
    /// How the image becomes a medium.
    #[serde(default, skip_serializing_if = "is_default")]
    pub medium: MediumSpec,
    /// What is demanded of the image's contents, without booting it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inspect: InspectSpec,
    /// What happens, in order.
    #[serde(default, rename = "phase", skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// How far the medium has to come up before its installation begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boot: BootSpec,
    /// How the installation ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub install: InstallSpec,
    /// When the power is cut while it installs, and what may be found after a cut.
    #[serde(default, skip_serializing_if = "is_default")]
    pub power_cut: PowerCutSpec,
    /// What the installed system has to reach.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboot: RebootSpec,
    /// What is read off the console all the time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub console: ConsoleRules,
    /// Who the installed machine is, and what is on its disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identify: Option<IdentifySpec>,
    /// How it registers, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinSpec>,
    /// What becomes of its registration in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<ReconcileSpec>,
    /// What is tried in several ways: each value is a difference to this profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matrix: Vec<Axis>,
    /// Which combinations of these are run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cases: CaseRules,
    /// Failures that are known, for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<Quarantine>,
}

/// How the image becomes a medium.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MediumSpec {
    /// An optical drive with the image in it, or a USB stick that the image was written to.
    #[serde(rename = "as")]
    pub kind: MediumAs,
    /// The stick's size; twice the image's and at least 1 GiB without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The operator's own tool that writes the stick, and its arguments: `{iso}` and `{stick}` stand for the two files,
    /// `{files}` for a folder with the staged files. Without it, the image is copied as `dd` would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flash: Vec<String>,
    /// Files that the operator puts onto the stick's EFI partition.
    #[serde(rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StagedFile>,
    /// Whether the operator types nothing at all: any reply in a phase is then refused, and the machine must not have
    /// been typed to.
    pub zero_typing: bool,
}

impl Default for MediumSpec {
    fn default() -> Self {
        Self { kind: MediumAs::Cd, size: None, flash: Vec::new(), files: Vec::new(), zero_typing: false }
    }
}

/// As what the medium is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MediumAs {
    /// An optical drive.
    Cd,
    /// A USB stick.
    Usb,
}

/// A file on the medium's EFI partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StagedFile {
    /// Where, from the partition's root: `/zeta-hostname.txt`.
    pub path: String,
    /// What it holds. `{control-plane}`, `{operator}` and `{token}` are replaced by what the stand-in control plane
    /// goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file to take it from, relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether it must not be seen on the console, on the screen or in the payload.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret: bool,
    /// The line (a regular expression) by which the machine says that it has read this file. Without it, whether it was
    /// read is not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// What is demanded of the image's contents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InspectSpec {
    /// The volume id, a regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
    /// Files that must be there, as globs (`/live/*.squashfs`): of each at least one that is not empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// Files that must not be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<String>,
    /// The largest size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Firmware that the image must be able to boot with; without it, that of the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boots: Vec<Firmware>,
}

/// How far the medium has to come up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BootSpec {
    /// The rung of the boot ladder; a phase of the installation counts as reaching user space.
    pub rung: Rung,
    /// How long it may take.
    pub timeout: Span,
}

impl Default for BootSpec {
    fn default() -> Self {
        Self { rung: Rung::Userspace, timeout: Span::seconds(180) }
    }
}

/// How the installation ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InstallSpec {
    /// The phase whose marker says that everything is installed; the last one of the installation without it. What
    /// comes after it must not be work any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// What must become of it.
    #[serde(skip_serializing_if = "is_default")]
    pub expect: InstallExpect,
    /// What the machine does after the last phase.
    pub ends: Ends,
    /// How long it may take for that.
    pub timeout: Span,
}

impl Default for InstallSpec {
    fn default() -> Self {
        Self { success: None, expect: InstallExpect::Installed, ends: Ends::Any, timeout: Span::seconds(60) }
    }
}

/// What must become of an installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstallExpect {
    /// It succeeds.
    #[default]
    Installed,
    /// It ends with a line that the profile names under `fail`, and never says that it succeeded: there is something
    /// wrong with this machine.
    Refused,
}

/// What the installed system has to reach, booted from its disks alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RebootSpec {
    /// The rung of the boot ladder, beside the phases of this stage.
    pub rung: Rung,
    /// How long it may take.
    pub timeout: Span,
}

impl Default for RebootSpec {
    fn default() -> Self {
        Self { rung: Rung::Login, timeout: Span::seconds(180) }
    }
}

/// Who the installed machine is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentifySpec {
    /// What the host name must look like, a regular expression over all of it.
    pub hostname: String,
    /// The line by which the installer announces it; the group `host` is the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// The line by which the installed system shows it; the group `host` is the name.
    #[serde(default = "login_banner")]
    pub banner: String,
    /// How many machines are installed from the one medium, to see that each gets a name of its own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub machines: u32,
    /// Whether installing over an earlier installation must keep the name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stable_on_repair: bool,
    /// What must be on the disks afterwards.
    #[serde(default, rename = "content", skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<ContentSpec>,
}

/// Something that must be on a disk after the installation, read from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContentSpec {
    /// The role of the disk that it is about; of several, each is held to it.
    pub disk: DiskRole,
    /// The label of the partition or of its file system.
    pub label: String,
    /// The file system: `ext4`, `vfat` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<String>,
    /// Files that must be in it, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// A file that must hold the machine's host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname_in: Option<String>,
}

/// How the machine registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JoinSpec {
    /// By what.
    pub by: JoinBy,
    /// The operator that the machine registers for.
    #[serde(default = "operator")]
    pub operator: String,
    /// Owner and name of the repository.
    #[serde(default = "repository")]
    pub repository: String,
    /// Where the payload goes in the tree; `{operator}` and `{host}` are replaced.
    #[serde(default = "tree_path")]
    pub path: String,
    /// A JSON Schema for the payload, relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// A folder with what is in the repository before the machine registers, relative to the profile: the
    /// registrations of other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Fields that must have certain values, by JSON Pointer; `{operator}` and `{host}` are replaced.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub fields: std::collections::BTreeMap<String, String>,
    /// Where the payload tells a time, by JSON Pointer: it must lie within the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<String>,
    /// Where the payload tells a hardware address, by JSON Pointer: it must be one of the machine's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<String>,
    /// Whether the machine, once installed, also has to say that it has joined.
    #[serde(default, skip_serializing_if = "is_default")]
    pub joins: bool,
    /// How long after the installed system is up that may take.
    #[serde(default = "minute")]
    pub within: Span,
    /// What goes wrong with the control plane meanwhile.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<JoinFault>,
    /// What is expected of the machine under those faults.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: JoinExpect,
}

/// By what a machine registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JoinBy {
    /// It pushes a commit and asks for it to be merged.
    Git,
    /// It posts its description.
    Http,
}

/// What is expected of the registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JoinExpect {
    /// It arrives.
    #[default]
    Registered,
    /// It does not, and nothing is left behind.
    Refused,
}

/// Something that the control plane does wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JoinFault {
    /// For which requests: `git-read`, `git-push`, `pull`, `user`, `register`, `join` or `any`.
    pub on: String,
    /// What: `slow`, `401`, `409`, `422`, `500`, `drop-after-push`, `wrong-certificate` …
    pub what: String,
    /// How often; always without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Profile {
    /// The files and folders that it names, relative to itself, each with where it names it.
    pub fn named_files(&self) -> Vec<(String, &str)> {
        let staged = self.medium.files.iter();
        let mut named: Vec<(String, &str)> = staged
            .filter_map(|file| Some((format!("medium.file {:?}: from", file.path), file.from.as_deref()?)))
            .collect();
        if let Some(join) = &self.join {
            let files = [("join.schema", &join.schema), ("join.tree", &join.tree)];
            named.extend(files.into_iter().filter_map(|(at, name)| Some((at.to_owned(), name.as_deref()?))));
        }
        if let Some(reconcile) = &self.reconcile {
            named.push(("reconcile.application".to_owned(), &reconcile.application));
            let more = reconcile.definitions.iter().map(|name| ("reconcile.definitions", name));
            let more = more.chain(reconcile.kubeconfig.iter().map(|name| ("reconcile.kubeconfig", name)));
            named.extend(more.map(|(at, name)| (at.to_owned(), name.as_str())));
        }
        named
    }

    /// The phase whose marker says that everything is installed.
    pub fn success_phase(&self) -> Option<&Phase> {
        let mut installing = self.phases.iter().filter(|phase| phase.stage == Within::Install);
        match &self.install.success {
            Some(name) => installing.find(|phase| phase.name == *name),
            None => installing.next_back(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn login_banner() -> String {
    r"(?m)(?:^|\s)(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*) login:".to_owned()
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_one(n: &u32) -> bool {
    *n == 1
}

fn operator() -> String {
    "operator".to_owned()
}

fn repository() -> String {
    "operator/cluster".to_owned()
}

fn tree_path() -> String {
    "maintainers/{operator}/cluster-nodes/{host}/node.yaml".to_owned()
}

const fn minute() -> Span {
    Span::seconds(60)
}

#[cfg(test)]
mod tests;
