//! Memory under test: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory under test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryLimits {
    /// Least memory that must have been written and verified, in percent of what the kernel could give when the test
    /// began; without it by profile: 50, 95, 95. What the kernel and the live image hold cannot be tested from within
    /// (`Memtest86` tests that as well).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent_min: Option<u32>,
    /// How often all patterns are written and verified; without it by profile: 1, 1, 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub rounds: Option<u32>,
    /// Whole passes of memtest86+ in the opt-in stage `Memtest86`; without it by profile: 1, 1, 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub memtest_passes: Option<u32>,
    /// How long the stage `Memtest86` may take, in minutes from its power-on on; what is not complete by then is
    /// unverified. Without it 40 minutes, and for each GiB of memory and each pass one minute more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20160))]
    pub memtest_minutes: Option<u32>,
}
