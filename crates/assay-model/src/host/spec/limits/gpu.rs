//! Accelerators under load: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Accelerators under load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuLimits {
    /// Hottest that a GPU may be under load, in °C; without it, the GPU's own slowdown threshold counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_max_c: Option<u32>,
    /// Least share of the device memory that must be written and read back, in percent; the driver keeps some to itself.
    #[schemars(range(min = 1, max = 100))]
    pub memory_percent_min: u32,
    /// Least arithmetic achieved, in percent of what cores and highest clock could do. Without it, less than half is
    /// reported and fails nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub compute_percent_min: Option<u32>,
    /// Least memory throughput achieved, in percent of what bus and highest clock could do. Without it, less than half
    /// is reported and fails nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub bandwidth_percent_min: Option<u32>,
    /// Most corrected memory errors during the stage.
    pub ecc_corrected_max: u64,
    /// Most pages or rows taken out of use in the board's life; fewer are reported and fail nothing.
    pub retired_max: u64,
    /// Most transfers repeated on the PCI Express link during the stage.
    pub link_replays_max: u64,
    /// Least PCI Express lanes; without it, as many as GPU and slot can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_width_min: Option<u32>,
    /// Least PCI Express generation under load; without it, the one that GPU and slot can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_generation_min: Option<u32>,
}

impl Default for GpuLimits {
    fn default() -> Self {
        Self {
            temperature_max_c: None,
            memory_percent_min: 80,
            compute_percent_min: None,
            bandwidth_percent_min: None,
            ecc_corrected_max: 0,
            retired_max: 59,
            link_replays_max: 80,
            link_width_min: None,
            link_generation_min: None,
        }
    }
}
