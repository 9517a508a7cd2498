//! Power rails and supplies under load: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Power rails and supplies under load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PsuLimits {
    /// How far a rail may be from its nominal voltage, in percent, where its sensor has no limits of its own. The ATX
    /// design guide allows 5 % for +12, +5 and +3.3 V.
    #[schemars(range(min = 1, max = 50))]
    pub tolerance_percent: u32,
    /// Least power supplies that must be present and well; without it, each one that is present must be well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplies_min: Option<u32>,
    /// Seconds of load; without it by profile: 30, 300, 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 86400))]
    pub load_seconds: Option<u32>,
}

impl Default for PsuLimits {
    fn default() -> Self {
        Self { tolerance_percent: 5, supplies_min: None, load_seconds: None }
    }
}
