//! What an operator decides about a held or running run: who, what, and why.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The decisions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    /// Run the failed stage again.
    Retry,
    /// Run the failed stage again, past what it found on these disks: the operator says of each that it may be erased.
    Permit,
    /// Accept the failure and go on with the next stage; marks the run as overridden for ever.
    Waive,
    /// Give the run up; the machine is released.
    Abandon,
    /// Stop a run that is still going.
    Cancel,
}

impl DecisionKind {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Permit => "permit",
            Self::Waive => "waive",
            Self::Abandon => "abandon",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for DecisionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the decisions.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a decision; expected retry, permit, waive, abandon or cancel")]
pub struct UnknownDecision(String);

impl FromStr for DecisionKind {
    type Err = UnknownDecision;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Retry, Self::Permit, Self::Waive, Self::Abandon, Self::Cancel]
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| UnknownDecision(s.chars().take(40).collect()))
    }
}

/// A decision as it stands in the journal and on the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// What was decided.
    pub kind: DecisionKind,
    /// Who decided: an operator's name or an API token's.
    pub by: String,
    /// Why; never empty for a waiver or a permit.
    pub why: String,
    /// The serial numbers or WWNs that a permit names, as the operator typed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serials: Vec<String>,
}
