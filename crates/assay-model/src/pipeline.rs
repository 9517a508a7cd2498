//! The kinds of things that are tested, each with its list of stages.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which list of stages a run goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pipeline {
    /// A machine that was repaired or just bought.
    Host,
    /// An installer image.
    Image,
}

impl Pipeline {
    /// Every pipeline.
    pub const ALL: [Self; 2] = [Self::Host, Self::Image];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the pipelines.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a pipeline")]
pub struct UnknownPipeline(String);

impl std::str::FromStr for Pipeline {
    type Err = UnknownPipeline;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|pipeline| pipeline.as_str() == s);
        found.ok_or_else(|| UnknownPipeline(crate::text::clean_to(s, 40)))
    }
}
