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
    /// An app recipe.
    Recipe,
}

impl Pipeline {
    /// Every pipeline.
    pub const ALL: [Self; 3] = [Self::Host, Self::Image, Self::Recipe];

    /// Whether a run goes on with its next stage after one has failed. A recipe's does: what it has brought up must be taken
    /// down and counted, and what does not depend on the failed stage is told as well. A stage that does is told as not reached.
    pub const fn goes_on(self) -> bool {
        matches!(self, Self::Recipe)
    }

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Image => "image",
            Self::Recipe => "recipe",
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
