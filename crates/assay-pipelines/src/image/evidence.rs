//! What the runner brings of each stage: facts with their times, without a verdict.
//!
//! Times are seconds since the machine was let go. Lines and names are the guest's own words: untrusted text, cut to a
//! sensible length.

use std::collections::BTreeMap;

use assay_console::Rung;
use assay_model::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of watching a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// It got to where it was to get.
    Reached,
    /// It said something that means failure.
    Failed {
        /// The code of the failure catalogue; `FailMarker` for a line that the profile names.
        code: String,
        /// The line.
        line: String,
        /// What it means and what to do, where the catalogue knows.
        meaning: String,
    },
    /// It waits for something that nobody will give it.
    Stalled {
        /// `StuckPrompt`, `IdleShell` or `Silent`.
        code: String,
        /// The prompt, or the last thing that was heard.
        line: String,
        /// For how long.
        seconds: f64,
    },
    /// It was still at it when its time was over.
    TimedOut {
        /// The phase or rung that was waited for.
        waited_for: String,
        /// How long it was given.
        limit_s: f64,
        /// The last line.
        line: String,
    },
    /// It went off, or reset, or crashed, when it should not have.
    Ended {
        /// `UnexpectedReset`, `UnexpectedPowerOff`, `GuestPanicked`, `WatchdogFired`.
        code: String,
        /// What QEMU says of it.
        detail: String,
    },
    /// Its power was cut, as the profile wants it.
    PowerCut,
    /// It is the runner that failed: QEMU ended by itself, or could not be spoken to.
    RunnerFault {
        /// Why.
        why: String,
    },
}

/// A rung of the boot ladder that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RungSeen {
    /// Which.
    pub rung: Rung,
    /// When.
    pub at_s: f64,
    /// The line that shows it.
    pub line: String,
}

/// A phase whose marker was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseSeen {
    /// Its name.
    pub name: String,
    /// When.
    pub at_s: f64,
    /// How long it took, from the end of the one before it.
    pub took_s: f64,
    /// How long it might have taken on this runner.
    pub limit_s: f64,
    /// From the moment in which its marker was read to the moment in which it was acted upon, in milliseconds.
    pub reacted_ms: f64,
    /// Bytes written to all disks by then, as QEMU counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// The line.
    pub line: String,
    /// On which channel.
    pub channel: String,
    /// The groups of its marker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captures: BTreeMap<String, String>,
}

/// Something that was seen beside the phases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {
    /// When.
    pub at_s: f64,
    /// Its code.
    pub code: String,
    /// The line.
    pub line: String,
    /// What it means and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// Whether it would have ended the run, were it not allowed by the profile.
    #[serde(default)]
    pub allowed: bool,
}

/// Something that was typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Typed {
    /// When.
    pub at_s: f64,
    /// What was asked.
    pub prompt: String,
    /// What was typed, or which keys were pressed.
    pub typed: String,
}

/// A picture of the screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shot {
    /// When.
    pub at_s: f64,
    /// What it was taken for.
    pub of: String,
    /// The artifact.
    pub artifact: String,
}

/// News of the virtual machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineEvent {
    /// When.
    pub at_s: f64,
    /// QEMU's name for it.
    pub name: String,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// A machine, watched until it got somewhere or did not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// How the guest is run: `kvm` or `tcg`, and why.
    pub accel: String,
    /// By how much limits were stretched.
    pub stretch: f64,
    /// What became of it.
    pub outcome: Outcome,
    /// The rungs, in the order in which they were reached.
    pub rungs: Vec<RungSeen>,
    /// The phases that were seen, in their order.
    pub phases: Vec<PhaseSeen>,
    /// What else was seen.
    pub noted: Vec<Noted>,
    /// What was typed.
    pub typed: Vec<Typed>,
    /// How many bytes and keys were put into the machine since it was switched on.
    pub input: u64,
    /// News of the virtual machine.
    pub events: Vec<MachineEvent>,
    /// Pictures.
    pub shots: Vec<Shot>,
    /// Lines heard and seen, by channel.
    pub lines: BTreeMap<String, u64>,
    /// How long it was watched.
    pub seconds: f64,
    /// Secrets that were seen on a channel: which (never the secret itself), and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<Leak>,
    /// Lines that say that a staged file was read: its path, and the line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub staged_read: BTreeMap<String, String>,
    /// Host names that were announced or shown, with the time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameSeen>,
}

/// A host name that a machine told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NameSeen {
    /// When.
    pub at_s: f64,
    /// `announced` by the installer, or shown by the `banner`.
    pub by: String,
    /// The name.
    pub name: String,
    /// On which channel.
    pub channel: String,
    /// The line.
    pub line: String,
}

/// A secret where it should not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leak {
    /// Which secret: the path of the staged file, or the expression of the profile.
    pub secret: String,
    /// Where it was seen.
    pub place: String,
}

/// Evidence of `Prepare`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prepared {
    /// The image's size in bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// As what it is connected.
    pub medium: String,
    /// The stick's size in bytes; none for a CD.
    pub stick_bytes: Option<u64>,
    /// The operator's own tool and its exit status, where one is given.
    pub flash: Option<FlashRun>,
    /// Files staged onto it, read back from it.
    pub staged: Vec<Staged>,
    /// What could not be prepared, and why: a fault of the image or of the profile.
    pub problem: Option<String>,
    /// How guests are run here, and why.
    pub accel: String,
    /// How long the calibration payload took, in milliseconds.
    pub payload_ms: Option<u64>,
    /// The disks as they are before.
    pub disks: Vec<DiskBefore>,
    /// The snapshot that the run goes on from; this evidence is that run's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_up: Option<TakenUp>,
}

/// A run that was not done from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenUp {
    /// The phase at whose end the snapshot was to be made.
    pub phase: String,
    /// The run that it was made in.
    pub run: String,
    /// When.
    pub at: String,
    /// Whether the machine was woken; else it boots from its disks as the installation left them.
    pub running: bool,
    /// The stages that were not done again: their evidence is that run's.
    pub stages: Vec<String>,
    /// The stage of which only the rest was done, where the machine was woken.
    pub rest_of: Option<String>,
}

impl TakenUp {
    /// For people.
    pub fn words(&self) -> String {
        let as_it_was = if self.running {
            format!("the machine as it was after phase {}", self.phase)
        } else {
            "the disks as the installation left them".to_owned()
        };
        format!("taken up from run {} of {}: {as_it_was}", self.run, self.at)
    }
}

/// The operator's flash tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlashRun {
    /// The command, as one would type it.
    pub command: String,
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// Its last words.
    pub said: String,
}

/// A file on the medium.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Staged {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is a secret.
    pub secret: bool,
    /// Whether reading the medium back gives what was written.
    pub read_back: bool,
}

/// A disk before the installation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskBefore {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Digest of its data and of where they are (`assay_media::prove::Fingerprint`); holes are not read.
    pub content: String,
    /// What it holds.
    pub holds: String,
}

/// Evidence of `Inspect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inspected {
    /// Why the image cannot be read as one; the rest is empty then.
    pub problem: Option<String>,
    /// The volume id.
    pub volume_id: String,
    /// The size that the image says it has, in bytes; more than the file has means that it was cut off.
    pub said_bytes: u64,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Boot entries: `BIOS`, `UEFI`, with what is wrong with them.
    pub entries: Vec<BootEntry>,
    /// Whether a stick with it boots with BIOS, and with UEFI.
    pub stick_bios: bool,
    /// As above.
    pub stick_uefi: bool,
    /// How many files there are.
    pub files: u64,
    /// For each required glob the files that it names.
    pub required: BTreeMap<String, Vec<String>>,
    /// Required files that are empty.
    pub empty: Vec<String>,
    /// Forbidden files that are there.
    pub forbidden: Vec<String>,
}

/// An entry of the boot catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootEntry {
    /// `BIOS` or `UEFI`.
    pub firmware: String,
    /// Whether it is marked bootable and its image is within the file.
    pub usable: bool,
    /// What it says, for people.
    pub detail: String,
}

/// Evidence of `Boot`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Booted {
    /// The machine.
    pub watched: Watched,
    /// The command that started it.
    pub command: String,
}

/// Evidence of `Install`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Installed {
    /// The machine.
    pub watched: Watched,
    /// How it ended: `rebooted`, `powered-off`, `stayed-on`.
    pub ended: String,
    /// What it took to switch it off.
    pub shutdown: String,
    /// Bytes written to all disks, as QEMU counts.
    pub written: u64,
    /// The disks afterwards.
    pub disks: Vec<DiskAfter>,
    /// What the machine tried on the network.
    pub egress: Vec<String>,
    /// Requests to disks that failed, as QEMU's devices counted what they told the guest.
    #[serde(default)]
    pub disk_errors: u64,
    /// What was to go wrong with disks, and what did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultSeen>,
    /// The power cut before it; `watched` and `disks` are of the time after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<PowerCut>,
}

/// A fault of a disk that was ordered, and whether it was delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultSeen {
    /// The disk.
    pub disk: String,
    /// Requests that the disk answered with an error because of it.
    pub answered: u64,
    /// Failed requests to this disk, as QEMU's device counted what it told the guest.
    pub told: u64,
    /// Whether the guest lost the disk itself, with its device.
    pub gone: bool,
}

/// A power cut in the middle of an installation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PowerCut {
    /// What the moment was drawn from.
    pub seed: u32,
    /// How long after `power-cut.after` it was to come; none when it was to come with a marker.
    pub drawn_s: Option<f64>,
    /// When it came.
    pub at_s: f64,
    /// The machine up to then.
    pub before: Watched,
    /// The disks as they stood.
    pub disks: Vec<DiskAfter>,
}

/// A disk after the installation, read from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskAfter {
    /// Its name.
    pub name: String,
    /// Whether any byte differs from before.
    pub changed: bool,
    /// The first byte that differs.
    pub first_change: Option<u64>,
    /// 4 KiB blocks that differ.
    pub changed_blocks: u64,
    /// Bytes written to it, as QEMU counted.
    pub written: u64,
    /// The partition table: `gpt`, `mbr` or `none`.
    pub table: String,
    /// Whether the machine's firmware finds something to start on it: boot code for a BIOS, an EFI system partition for UEFI.
    pub bootable: bool,
    /// Its partitions, or itself where it has none.
    pub volumes: Vec<Volume>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// A partition, or a disk without partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// The partition's number; 0 for the disk itself.
    pub number: u32,
    /// Its partition label.
    pub label: String,
    /// Its file system, or what else it holds.
    pub fs: String,
    /// The file system's label.
    pub fs_label: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// For each path that the profile asks for: its size, or why it is not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileSeen>,
}

/// A file that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileSeen {
    /// Its size in bytes; none when it is not there.
    pub bytes: Option<u64>,
    /// Its first line, where the profile compares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_line: Option<String>,
}

/// Evidence of `Reboot`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rebooted {
    /// The machine.
    pub watched: Watched,
    /// What the machine tried on the network.
    pub egress: Vec<String>,
}

/// Evidence of `Identify`: the further machines. What the first one told is in the evidence of its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Identified {
    /// The names that each further machine got, installed from the same medium.
    pub others: Vec<OtherMachine>,
    /// The machine installed over the first one's disks.
    pub repaired: Option<OtherMachine>,
}

/// A further machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OtherMachine {
    /// How its installation went.
    pub install: Watched,
    /// How its first boot went; none when its installation failed.
    pub reboot: Option<Watched>,
}

/// Evidence of `Join`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// What the control plane saw and did, in order.
    pub ledger: Value,
    /// The registrations that arrived.
    pub registrations: Vec<Registration>,
    /// Machines that said that they have joined: name, and seconds since the run's beginning.
    pub joins: Vec<(String, f64)>,
    /// Branches that were pushed, never asked to be merged, and never deleted.
    pub orphans: Vec<String>,
    /// When the marker of success was seen, on the ledger's clock, in seconds.
    pub installed_at: Option<f64>,
    /// When the installed system was up, on the ledger's clock.
    pub up_at: Option<f64>,
    /// What the de-registration left behind; none when nothing was registered.
    pub deregistered: Option<Deregistered>,
    /// Hardware addresses of the machine.
    pub macs: Vec<String>,
    /// The beginning of the run, RFC 3339; payloads must not be older.
    pub began: String,
    /// The end of it.
    pub ended: String,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// When, on the ledger's clock.
    pub at: f64,
    /// `git` or `http`.
    pub by: String,
    /// The branch.
    #[serde(default)]
    pub branch: String,
    /// Who the commit says that it is from.
    #[serde(default)]
    pub author: String,
    /// Its message.
    #[serde(default)]
    pub message: String,
    /// The paths that it touches, each with what it does to them (`A`, `M`, `D`).
    #[serde(default)]
    pub paths: Vec<(String, String)>,
    /// The payload.
    pub payload: Option<String>,
    /// Whether it was asked to be merged.
    #[serde(default)]
    pub pull_request: bool,
    /// Where the payload does not fit the profile's schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema_problems: Vec<String>,
    /// Staged secrets that are in it, by their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<String>,
}

/// Evidence of `Reconcile`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    /// The cluster: what was asked, in which version.
    pub server: String,
    /// Why there was none to ask: nothing is verified then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// The machine's name, as its registration's place in the tree has it.
    pub host: String,
    /// Where objects that name no namespace go.
    pub namespace: String,
    /// What the cluster made of the tree, with the machine in it and after it was taken out again.
    pub passes: Vec<ReconcilePass>,
}

/// What a cluster made of one commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcilePass {
    /// The commit.
    pub revision: String,
    /// The manifests in the tree at that commit, below the Application's path.
    pub files: BTreeMap<String, String>,
    /// The last looks at the cluster, oldest first: one is no proof that it lasts.
    pub looks: Vec<ReconcileLook>,
    /// Fields that the server says it would drop from these manifests, object and JSON Pointer.
    pub dropped: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// A look at a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileLook {
    /// The whole Application.
    pub application: Value,
    /// Its namespace's objects of the kinds that the tree has.
    pub objects: Vec<Value>,
}

/// A round trip out of the tree again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deregistered {
    /// Whether the registration could be merged first.
    pub merged: bool,
    /// Files of the machine that are still in the tree.
    pub left: Vec<String>,
    /// Why it did not work.
    pub problem: Option<String>,
}
