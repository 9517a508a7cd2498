//! Stages: the unit of durable progress.

use std::borrow::Borrow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stage's name as operators see it: `Inventory`, `SpecValidate` … Stable; scripts match on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StageName(pub String);

impl StageName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&str> for StageName {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}
impl Borrow<str> for StageName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl PartialEq<str> for StageName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}
impl PartialEq<&str> for StageName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}
impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Who collects a stage's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent on the machine under test.
    Agent,
    /// The control plane itself.
    Orchestrator,
    /// The runner, from outside: the machine boots something else than the live image meanwhile.
    Runner,
}

/// One stage of a run's plan, fixed when the run is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagePlan {
    /// Its name.
    pub name: StageName,
    /// Who collects its evidence.
    pub owner: Owner,
    /// Whether the run needs it to pass.
    pub required: bool,
    /// Longest time one attempt may take, in seconds.
    pub timeout_s: u32,
}
