//! Network ports under load: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Network ports under load. TCP's own ceiling is 94.1 % of the line rate (1448 bytes of payload in 1538 on the wire).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkLimits {
    /// Least payload in each direction, in percent of the negotiated speed, for ports of up to 10 Gb/s.
    #[schemars(range(max = 94))]
    pub percent_of_line_min: u32,
    /// The same for faster ports, which one stream does not fill.
    #[schemars(range(max = 94))]
    pub percent_of_fast_line_min: u32,
    /// Least payload in each direction in Mb/s, instead of a share of the line rate: for ports that have no speed
    /// (virtual ones) or whose network cannot carry more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_mbps_min: Option<u32>,
    /// Most segments sent again, per million.
    pub retransmits_per_million_max: u32,
    /// Most errors that a port may count while data goes through it (CRC, frame, length, carrier …).
    pub errors_max: u64,
    /// Seconds of each direction; without it by profile: 3, 15, 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub seconds: Option<u32>,
    /// Hardware addresses of ports on networks that the runner is not on: only their link is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_only: Vec<String>,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            percent_of_line_min: 90,
            percent_of_fast_line_min: 80,
            throughput_mbps_min: None,
            retransmits_per_million_max: 1000,
            errors_max: 0,
            seconds: None,
            link_only: Vec::new(),
        }
    }
}
