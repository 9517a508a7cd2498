//! The limits that a spec may set, over the defaults of each stage. One file a subject.

mod counters;
mod cpu;
mod gpu;
mod memory;
mod network;
mod psu;
mod storage;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use counters::CounterLimits;
pub use cpu::CpuLimits;
pub use gpu::GpuLimits;
pub use memory::MemoryLimits;
pub use network::NetworkLimits;
pub use psu::PsuLimits;
pub use storage::{DiskFloors, LeaveOnDisks, StorageLimits};

use super::is_default;

/// Limits that later stages hold the machine to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// No temperature sensor of the machine may read more, in °C.
    pub max_temp_c: u32,
    /// Disk health.
    #[serde(skip_serializing_if = "is_default")]
    pub smart: SmartLimits,
    /// What the machine counts about itself during each stage.
    #[serde(skip_serializing_if = "is_default")]
    pub counters: CounterLimits,
    /// Processors under load.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu: CpuLimits,
    /// Memory under test.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: MemoryLimits,
    /// Disks under the surface scan and under load.
    #[serde(skip_serializing_if = "is_default")]
    pub storage: StorageLimits,
    /// Network ports under load.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkLimits,
    /// Accelerators under load.
    #[serde(skip_serializing_if = "is_default")]
    pub gpu: GpuLimits,
    /// Power rails and supplies under load.
    #[serde(skip_serializing_if = "is_default")]
    pub psu: PsuLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_temp_c: 90,
            smart: SmartLimits::default(),
            counters: CounterLimits::default(),
            cpu: CpuLimits::default(),
            memory: MemoryLimits::default(),
            storage: StorageLimits::default(),
            network: NetworkLimits::default(),
            gpu: GpuLimits::default(),
            psu: PsuLimits::default(),
        }
    }
}

/// What a disk may say about its own health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SmartLimits {
    /// Rated endurance used up, in percent, that fails a disk when reached.
    pub percentage_used_fail: u32,
    /// Rated endurance used up, in percent, that warns when reached.
    pub percentage_used_warn: u32,
    /// Most reallocated sectors (grown defects).
    pub reallocated_max: u64,
    /// Most sectors waiting to be reallocated.
    pub pending_max: u64,
    /// Most sectors that could not be corrected.
    pub uncorrectable_max: u64,
    /// Most NVMe media errors.
    pub media_errors_max: u64,
    /// Hottest that a disk may be, in °C; without it, the disk's own limit counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_max_c: Option<u32>,
    /// Whether a short self-test is run and awaited.
    pub self_test: bool,
}

impl Default for SmartLimits {
    fn default() -> Self {
        Self {
            percentage_used_fail: 100,
            percentage_used_warn: 80,
            reallocated_max: 0,
            pending_max: 0,
            uncorrectable_max: 0,
            media_errors_max: 0,
            temperature_max_c: None,
            self_test: true,
        }
    }
}
