//! What a machine may count about itself during one stage: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a machine may count about itself during one stage. Uncorrected memory errors, uncorrected machine checks and
/// fatal PCI Express errors have no limit: one is too many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CounterLimits {
    /// Most corrected machine checks; any is reported.
    pub machine_checks_corrected_max: u64,
    /// Most corrected memory errors of one module; any is reported, and none is allowed on a module that was just
    /// replaced.
    pub memory_corrected_max: u64,
    /// As above, per hour: what a stage that lasts long may have.
    pub memory_corrected_per_hour_max: u64,
    /// Most corrected errors of one PCI Express device; any is reported. Without it, they fail nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_correctable_max: Option<u64>,
    /// Most lost transactions (non-fatal errors) of one PCI Express device.
    pub pcie_nonfatal_max: u64,
    /// How often a link may go and come back, while nobody switched it.
    pub link_flaps_max: u64,
    /// Most errors of one network port; any is reported. Without it, they fail only the stage `Network`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nic_errors_max: Option<u64>,
}

impl Default for CounterLimits {
    fn default() -> Self {
        Self {
            machine_checks_corrected_max: 1,
            memory_corrected_max: 1,
            memory_corrected_per_hour_max: 10,
            pcie_correctable_max: None,
            pcie_nonfatal_max: 0,
            link_flaps_max: 0,
            nic_errors_max: None,
        }
    }
}
