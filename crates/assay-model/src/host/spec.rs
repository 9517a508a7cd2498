//! What a machine should be: the expected spec of a registered host, written as YAML.
//!
//! A spec states only what matters to its owner; what it leaves out is not compared. It is the standard
//! that a repaired machine is held to, so reading it is strict: an unknown key, an unknown stage or a
//! severity for a field that does not exist is an error with its line, never silently nothing.
//! [`compare()`] holds a machine's inventory against it; what follows from a difference is the pipeline's business.

mod capture;
mod compare;
mod limits;
mod severity;
mod yaml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use compare::{Agreed, Comparison, SpecDiff, Unread, compare, diff};
pub use limits::{
    CounterLimits, CpuLimits, DiskFloors, GpuLimits, LeaveOnDisks, Limits, MemoryLimits, NetworkLimits,
    PsuLimits, SmartLimits, StorageLimits,
};
pub use severity::{DEFAULT_SEVERITIES, FieldPattern, FieldSeverity};
pub use yaml::SpecError;

use crate::StageName;

/// The version of the format that is written and read here.
pub const FORMAT: u32 = 1;

/// The host pipeline's stages, which `stages` may name.
pub const STAGES: [&str; 10] = [
    "Inventory",
    "SpecValidate",
    "SMART",
    "CPUStress",
    "Memtest86",
    "Storage",
    "Network",
    "GPU",
    "PSU",
    "Reporting",
];

/// The expected spec of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Version of this format: 1.
    #[serde(deserialize_with = "format_1")]
    #[schemars(range(min = 1, max = 1))]
    pub format: u32,
    /// The machine as a whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub system: SystemSpec,
    /// Processors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu: CpuSpec,
    /// Memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: MemorySpec,
    /// The disks that must be there. Once any is listed, any other disk is reported too.
    /// Only disks listed here by serial number or WWN are ever written to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
    /// The network ports that must be there. Once any is listed, any other port is reported too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<NicSpec>,
    /// PCI devices that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciSpec>,
    /// Accelerators that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSpec>,
    /// Which cluster the host belongs to. Disks are written to only where this is declared and the cluster says that
    /// the host is no live member; `none` declares that there is no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterSpec>,
    /// Limits that later stages hold the machine to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// How bad a difference is, by field, over the defaults ([`DEFAULT_SEVERITIES`]). A section covers all
    /// below it, and the more specific entry wins: `memory.dimms: critical`, `disks[AB12].firmware: ignore`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub severity: BTreeMap<FieldPattern, FieldSeverity>,
    /// Which stages this host must pass, over the pipeline's defaults.
    #[serde(default, deserialize_with = "known_stages", skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<StageName, StageRule>,
}

impl Default for HostSpec {
    fn default() -> Self {
        Self {
            format: FORMAT,
            system: SystemSpec::default(),
            cpu: CpuSpec::default(),
            memory: MemorySpec::default(),
            disks: Vec::new(),
            nics: Vec::new(),
            pci: Vec::new(),
            gpus: Vec::new(),
            cluster: None,
            limits: Limits::default(),
            severity: BTreeMap::new(),
            stages: BTreeMap::new(),
        }
    }
}

/// The machine as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSpec {
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The owner's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_tag: Option<String>,
    /// Firmware version, exactly as the vendor writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_version: Option<String>,
}

/// Processors. Counts are for the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CpuSpec {
    /// Model name, the same in every socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Populated sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Cores over all sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Hardware threads over all sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Microcode revision, the same in every socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microcode: Option<String>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySpec {
    /// Installed memory in MiB. The kernel may use up to 5 % and 256 MiB less than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_mib: Option<u64>,
    /// The modules that must be there. Once any is listed, any other module is reported too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dimms: Vec<DimmSpec>,
}

/// One memory module, found by its slot or, without one, by its serial number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DimmSpec {
    /// The slot, as the firmware names it: `DIMM_A1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locator: Option<String>,
    /// The bank, needed only where slots of different banks have the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<String>,
    /// Size in MiB; 0 says that the slot must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_mib: Option<u64>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Part number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
}

/// What a disk is, for thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskClass {
    /// Attached by NVMe.
    Nvme,
    /// Solid state behind SATA, SAS and the like.
    Ssd,
    /// Spinning.
    Hdd,
}

impl DiskClass {
    /// The spelling in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
        }
    }
}

/// One disk, found by its serial number or WWN. Without either it is any disk that fits the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiskSpec {
    /// Serial number, as printed on the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World-wide name, with or without its prefix (`naa.`, `eui.`, `0x`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// At least this large, in GB (10⁹ bytes, as on the label).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size_gb: Option<u64>,
    /// Exactly this large, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<DiskClass>,
    /// Firmware revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Where it sits, for people: printed in findings, not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bay: Option<String>,
}

/// One network port, found by its hardware address. Without one it is any port with that driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NicSpec {
    /// Permanent hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// At least this fast, negotiated, in Mb/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_speed_mbps: Option<u32>,
}

/// A kind of PCI device and how many of it there must be at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciSpec {
    /// Vendor and device: `8086:10d3`.
    pub id: String,
    /// How many at least.
    #[serde(default = "one")]
    pub count: u32,
}

/// A kind of accelerator and how many of it there must be at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// Vendor and device: `10de:20b5`.
    pub id: String,
    /// How many at least.
    #[serde(default = "one")]
    pub count: u32,
}

/// The cluster that a host belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterSpec {
    /// None: nobody else counts on its disks.
    None,
    /// A Proxmox VE cluster, asked through its API.
    Proxmox(ProxmoxMember),
}

/// A host's place in a Proxmox VE cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxmoxMember {
    /// Base address of the API of any other member: `https://pve1:8006`.
    pub url: String,
    /// The node's name in the cluster.
    pub node: String,
    /// SHA-256 fingerprint of the API's certificate, where no public authority signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// What a spec says about one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageRule {
    /// Whether the run needs it to pass.
    pub required: bool,
}

fn one() -> u32 {
    1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn format_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        FORMAT => Ok(FORMAT),
        other => Err(serde::de::Error::custom(format!(
            "format {other} is not known here; write `format: {FORMAT}`"
        ))),
    }
}

/// A stage name that is known to be one, so that a misspelt stage is refused at its own line.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct KnownStage(String);

impl TryFrom<String> for KnownStage {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        if STAGES.contains(&name.as_str()) {
            return Ok(Self(name));
        }
        let hint = crate::text::did_you_mean(&name, &STAGES);
        Err(format!("there is no stage `{}`{hint}\nstages: {}", crate::text::clean(&name), STAGES.join(", ")))
    }
}

fn known_stages<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<StageName, StageRule>, D::Error> {
    let stages = BTreeMap::<KnownStage, StageRule>::deserialize(deserializer)?;
    Ok(stages.into_iter().map(|(name, rule)| (StageName(name.0), rule)).collect())
}
