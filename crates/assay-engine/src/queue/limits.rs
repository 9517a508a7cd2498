//! What operators have ruled for the queue: whether runs start at all, how many of a pipeline at once, who counts for more.
//!
//! It is one row of the settings table, so that it outlives a restart: a queue that was paused stays paused.

use std::collections::BTreeMap;

use assay_model::{Micros, Pipeline};
use serde::{Deserialize, Serialize};

/// The rules in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Whether runs start.
    pub mode: Mode,
    /// Most runs of a pipeline at once; no limit for one that is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Pipeline, u32>,
    /// What requesters count for; 1 for one that is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
}

/// Whether runs start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Mode {
    /// They do.
    #[default]
    Open,
    /// Nobody is admitted; what runs goes on.
    Paused(Stop),
    /// As paused, until nothing runs: then this control plane may be stopped and replaced.
    Draining(Stop),
}

/// Who stopped the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// An operator's name.
    pub by: String,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub since: Micros,
}

impl Mode {
    /// The spelling in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused(_) => "paused",
            Self::Draining(_) => "draining",
        }
    }

    /// Who stopped it, if somebody did.
    pub const fn stop(&self) -> Option<&Stop> {
        match self {
            Self::Open => None,
            Self::Paused(stop) | Self::Draining(stop) => Some(stop),
        }
    }

    /// `the queue is paused by mara (a disk is being swapped)`; nothing while it is open.
    pub fn told(&self) -> Option<String> {
        let stop = self.stop()?;
        let why = if stop.why.is_empty() { String::new() } else { format!(" ({})", stop.why) };
        Some(match self {
            Self::Draining(_) => {
                format!("the queue is being drained by {}{why}: nothing new starts", stop.by)
            }
            _ => format!("the queue is paused by {}{why}", stop.by),
        })
    }
}

impl Policy {
    /// What a requester counts for.
    pub(super) fn weight(&self, requester: &str) -> f64 {
        f64::from(self.weights.get(requester).copied().unwrap_or(1).max(1))
    }
}
