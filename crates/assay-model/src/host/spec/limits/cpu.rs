//! Processors under load: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::is_default;

/// Processors under load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CpuLimits {
    /// Seconds that `stress-ng` loads processors and memory; without it by profile: 10, 600, 86400. The middle one is
    /// twice the short test of MAAS, the long one the burn-in of OpenStack Ironic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 604_800))]
    pub load_seconds: Option<u32>,
    /// Most times that one processor or core may slow itself down for heat; without it, any is reported and fails
    /// nothing: `max_temp_c` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_max: Option<u64>,
    /// Whether `stressapptest` has to run as well; without it, its absence is only said. `stress-ng` always has to.
    #[serde(skip_serializing_if = "is_default")]
    pub stressapptest_required: bool,
}
