//! The evidence of the stage `Storage`: what stood in the way of writing, what the wipe probe saw, what the surface
//! scan found, and how fast the disks were.
//!
//! It comes from the machine under test: keys that are not known here are let be, and all text is cleaned by the
//! judge once more before it is shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::{PartKind, Profile, Replacement};
use super::permit::GuardAnswer;
use super::smart::same_identity;
use super::spec::{DiskClass, DiskSpec, HostSpec};

/// The version of the evidence that is written here.
pub const FORMAT: u32 = 1;

/// The disks that may be written to: those that the spec names by serial number or WWN. Where the spec still names a
/// disk that was replaced, the new one is meant; what the spec says of the old one's make is not asked of it.
pub fn wanted_disks(spec: &HostSpec, replaced: &[Replacement]) -> Vec<DiskSpec> {
    let told = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.trim().is_empty());
    let now = |disk: &DiskSpec| {
        let names = [&disk.serial, &disk.wwn];
        let gone = |part: &&Replacement| {
            part.kind == PartKind::Disk
                && names.iter().any(|name| name.as_ref().is_some_and(|n| same_identity(n, &part.old)))
        };
        let Some(part) = replaced.iter().find(gone) else { return disk.clone() };
        let by_serial = disk.serial.as_ref().is_some_and(|serial| same_identity(serial, &part.old));
        let (serial, wwn) =
            if by_serial { (Some(part.new.clone()), None) } else { (None, Some(part.new.clone())) };
        DiskSpec { serial, wwn, class: disk.class, bay: disk.bay.clone(), ..DiskSpec::default() }
    };
    spec.disks.iter().filter(|disk| told(&disk.serial) || told(&disk.wwn)).map(now).collect()
}

/// How a disk of a spec is called: its serial number or, where it has none, its WWN.
pub fn name_of(disk: &DiskSpec) -> &str {
    disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or_default()
}

/// What the collector brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StorageEvidence {
    /// Version of this format: 1.
    pub format: u32,
    /// How thorough it was.
    pub profile: Profile,
    /// What came of the permit.
    pub permit: PermitOutcome,
    /// One for each disk that the spec names by serial number or WWN, in the spec's order.
    pub disks: Vec<StorageDisk>,
    /// Whether anything was written to any disk.
    pub written: bool,
    /// What did not work, one sentence each.
    pub problems: Vec<String>,
}

/// What came of the permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PermitOutcome {
    /// No permit came with this try.
    #[default]
    Missing,
    /// One came and does not hold; nothing was written.
    Invalid {
        /// Why, for people.
        why: String,
    },
    /// It holds.
    Valid {
        /// What the cluster said when it was made.
        guard: GuardAnswer,
    },
}

/// One disk that the spec names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StorageDisk {
    /// How the spec names it: its serial number, or else its WWN.
    pub wanted: String,
    /// Kernel name during this boot; empty when it was not there.
    pub name: String,
    /// Serial number that it told.
    pub serial: Option<String>,
    /// World-wide name that it told.
    pub wwn: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Bytes.
    pub size_bytes: Option<u64>,
    /// What it is: as the spec says, else as the machine does.
    pub class: Option<DiskClass>,
    /// Whether it is a virtual machine's disk.
    pub is_virtual: bool,
    /// Whether it was put in before this run, and so tested harder.
    pub replaced: bool,
    /// Why nothing was written to it. One entry on any disk keeps all of them from being written, absence excepted.
    pub refusals: Vec<Refusal>,
    /// What was on it before.
    pub probe: Option<WipeProbe>,
    /// Whether an operator had permitted this disk's data to be erased.
    pub data_permitted: bool,
    /// The surface scan.
    pub surface: Option<Surface>,
    /// Random access.
    pub speed: Option<RandomSpeed>,
    /// What is on it now.
    pub left: Option<Left>,
    /// Raw results: `surface-<disk>.json`, `fio-<disk>.json`.
    pub artifacts: Vec<String>,
    /// What did not work on it, one sentence each.
    pub problems: Vec<String>,
}

/// Why a disk is not written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// What kind of reason.
    pub why: RefusalKind,
    /// What was seen, for people.
    pub detail: String,
}

/// Kinds of reasons not to write to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// It is not there.
    Absent,
    /// Mounted, used as swap, part of an array, volume group, pool or mapping, or opened by somebody else.
    InUse,
    /// The machine runs from it.
    BootMedium,
    /// Its medium can be taken out.
    Removable,
    /// It cannot be written.
    ReadOnly,
    /// Other machines may have a way to it, or it is there more than once.
    Shared,
    /// The open descriptor's device is not the one that was probed or that is named.
    Swapped,
    /// The permit does not name it.
    NotPermitted,
    /// It holds data, and no permit names it for that.
    HoldsData,
    /// It could not be opened or read.
    Unreadable,
    /// It went away while it was looked at.
    Vanished,
}

/// What was on a disk before anything was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WipeProbe {
    /// What was recognised.
    pub signatures: Vec<Signature>,
    /// Data that nothing explains.
    pub data: Option<RawData>,
    /// Bytes of the samples that an earlier surface scan left.
    pub own_bytes: u64,
    /// Bytes that could not be read.
    pub unreadable_bytes: u64,
    /// Bytes read, both ends and the samples.
    pub read_bytes: u64,
    /// Bytes of the disk.
    pub device_bytes: u64,
    /// How many samples were read between the ends, one in each of as many equal parts; 0 when all was read.
    pub samples: u64,
    /// What the slowest request took, in milliseconds; the first does not count, as it may have woken the disk.
    pub slowest_ms: u64,
}

impl WipeProbe {
    /// Whether something is there that somebody may miss.
    pub fn holds_data(&self) -> bool {
        !self.signatures.is_empty() || self.data.is_some()
    }
}

/// Something on a disk that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signature {
    /// What: `ext4 file system`, `LVM2 physical volume` …
    pub what: String,
    /// Where, in bytes.
    pub offset: u64,
    /// Its label or name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Non-zero bytes that nothing explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RawData {
    /// Where the first of it was seen, in bytes.
    pub offset: u64,
    /// Bytes of it that were seen, in sectors of 512.
    pub bytes: u64,
}

/// How much of a disk is scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SurfacePlan {
    /// Samples.
    #[default]
    Sampled,
    /// Everything, once.
    Full,
    /// Everything, with six patterns.
    BurnIn,
}

/// The surface scan of one disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Surface {
    /// How much was scanned.
    pub plan: SurfacePlan,
    /// Bytes of the disk.
    pub device_bytes: u64,
    /// Bytes that each pattern was to be written to and read back from.
    pub planned_bytes: u64,
    /// Bytes that were written and read back right with every pattern.
    pub covered_bytes: u64,
    /// Bytes written with patterns, over all passes.
    pub written_bytes: u64,
    /// Bytes that read back right, over all passes.
    pub verified_bytes: u64,
    /// Bytes that could not be read.
    pub unreadable_bytes: u64,
    /// Bytes that could not be written.
    pub unwritable_bytes: u64,
    /// Bytes that read back wrong.
    pub corrupt_bytes: u64,
    /// Bytes that held another address's data.
    pub aliased_bytes: u64,
    /// Bytes that held what an earlier pass wrote.
    pub stale_bytes: u64,
    /// The first bad ranges.
    pub bad: Vec<BadSpot>,
    /// The room that a counterfeit disk really has, or a divisor of it.
    pub capacity_hint: Option<u64>,
    /// Requests that failed and went well when they were tried again in pieces.
    pub recovered: u64,
    /// Requests that took longer than the limit for stalls.
    pub stalls: u64,
    /// The longest request, in seconds.
    pub longest_request_s: f64,
    /// Speed by place.
    pub zones: Vec<ZoneSpeed>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// How often it was resumed.
    pub resumed: u32,
    /// Why it ended early.
    pub stopped: Option<SurfaceStop>,
    /// What made it impossible, for reasons that say nothing of the disk.
    pub impossible: Option<String>,
}

/// A bad range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BadSpot {
    /// The first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// How it is bad.
    pub class: BadClass,
    /// Whose data it held, where it held another address's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<u64>,
}

/// How a range is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadClass {
    /// Reading fails.
    Unreadable,
    /// Writing fails.
    Unwritable,
    /// It reads back wrong, with good status.
    Corrupt,
    /// It reads back another address's data.
    Aliased,
    /// It reads back what an earlier pass wrote.
    Stale,
}

/// Why a scan ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SurfaceStop {
    /// It was asked to.
    Cancelled,
    /// The disk went away.
    Gone,
    /// A request did not come back.
    Hung,
    /// Too many errors to go on.
    TooManyErrors,
    /// So much came back wrong that the rest says nothing more.
    TooMuchWrong,
    /// What was written could not be put on the medium.
    FlushFailed,
}

/// A part of a disk and how fast it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ZoneSpeed {
    /// The first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Writing.
    pub write: Option<ZoneRate>,
    /// Reading back.
    pub read: Option<ZoneRate>,
}

/// One direction in one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ZoneRate {
    /// Bytes moved.
    pub bytes: u64,
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// Half of the requests took at most this, in microseconds.
    pub p50_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// How many requests.
    pub requests: u64,
}

/// Random access, as `fio` measured it: 4 KiB, 32 at a time, past the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RandomSpeed {
    /// Reading.
    pub read: Option<RandomRate>,
    /// Writing.
    pub write: Option<RandomRate>,
    /// Errors that it met, for people.
    pub errors: Vec<String>,
}

/// One direction of random access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RandomRate {
    /// Requests per second.
    pub iops: f64,
    /// 99 of 100 took at most this, in microseconds.
    pub p99_us: u64,
    /// How many requests there were.
    pub requests: u64,
    /// For how long, in seconds.
    pub seconds: f64,
}

/// What is on a disk after the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Zeros: all of it was zeroed and samples read back.
    Zeroed,
    /// Zeros where it was tested; the rest is as it was.
    ZeroedWhereTested,
    /// The last pattern.
    Pattern,
    /// Something, as zeroing did not work or was not reached.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_known_here_do_no_harm() {
        let evidence: StorageEvidence = serde_json::from_str(
            r#"{"format": 1, "permit": {"outcome": "valid", "guard": {"answer": "no_cluster"}},
                "disks": [{"wanted": "S1", "new_key": 1}], "counters": {}}"#,
        )
        .expect("reads");
        assert_eq!(evidence.permit, PermitOutcome::Valid { guard: GuardAnswer::NoCluster });
        assert_eq!(evidence.disks[0].wanted, "S1");
    }

    #[test]
    fn a_disk_that_was_replaced_is_meant_where_the_spec_names_the_old_one() {
        let disk = |serial: Option<&str>, wwn: Option<&str>| DiskSpec {
            serial: serial.map(str::to_owned),
            wwn: wwn.map(str::to_owned),
            model: Some("M".to_owned()),
            bay: Some("2".to_owned()),
            ..DiskSpec::default()
        };
        let disks = vec![
            disk(Some("OLD"), Some("w1")),
            disk(Some("S2"), None),
            disk(None, None),
            disk(None, Some("naa.5")),
        ];
        let spec = HostSpec { disks, ..HostSpec::default() };
        let swap =
            |kind, old: &str, new: &str| Replacement { kind, old: old.to_owned(), new: new.to_owned() };
        let names = |replaced: &[Replacement]| -> Vec<String> {
            wanted_disks(&spec, replaced).iter().map(|disk| name_of(disk).to_owned()).collect()
        };
        assert_eq!(names(&[]), ["OLD", "S2", "naa.5"]);
        assert_eq!(names(&[swap(PartKind::Disk, "old", "NEW")]), ["NEW", "S2", "naa.5"]);
        assert_eq!(names(&[swap(PartKind::Disk, "0x5", "naa.6")]), ["OLD", "S2", "naa.6"]);
        assert_eq!(names(&[swap(PartKind::Dimm, "OLD", "NEW")]), ["OLD", "S2", "naa.5"]);
        let new = &wanted_disks(&spec, &[swap(PartKind::Disk, "OLD", "NEW")])[0];
        assert_eq!((new.wwn.as_ref(), new.model.as_ref(), new.bay.as_deref()), (None, None, Some("2")));
    }

    #[test]
    fn evidence_without_a_permit_has_none() {
        assert_eq!(StorageEvidence::default().permit, PermitOutcome::Missing);
    }
}
