//! The queue: `GET /api/v1/queue` shows it, `POST /api/v1/queue` rules it.

use std::collections::BTreeMap;

use assay_model::{Micros, Pipeline, Priority};
use serde::{Deserialize, Serialize};

/// `GET /api/v1/queue`: what runs, what waits and why, and what the runners have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// `open`, `paused` or `draining`.
    pub state: String,
    /// Who stopped it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Most runs of a pipeline at once.
    pub limits: BTreeMap<Pipeline, u32>,
    /// What requesters count for; 1 for one that is not named.
    pub weights: BTreeMap<String, u32>,
    /// How many runs hold slots. Once it is 0, a queue that is being drained is drained.
    pub active: usize,
    /// The runners' slots.
    pub runners: Vec<RunnerRoom>,
    /// What has begun and is not over, oldest first.
    pub running: Vec<Running>,
    /// What waits, the first one first.
    pub waiting: Vec<Waiting>,
}

/// Who stopped the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// An operator's name.
    pub by: String,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub since: Micros,
}

/// A runner's slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerRoom {
    /// Its name.
    pub name: String,
    /// Whether it asks for work. Otherwise runs are on it, and nothing is heard from it.
    pub connected: bool,
    /// By pool.
    pub pools: BTreeMap<String, Pool>,
}

/// Slots of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// In use.
    pub used: u64,
    /// In all; none where the runner has not said.
    pub capacity: Option<u64>,
}

/// A run that has begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its number.
    pub number: i64,
    /// What is tested.
    pub target: String,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// Where.
    pub runner: String,
    /// What it is doing.
    pub doing: String,
    /// Since when it has been doing that.
    pub since: Micros,
    /// When it began.
    pub started_at: Micros,
    /// In how many seconds it is expected to end; none for one that is held for an operator.
    pub ends_in_s: Option<i64>,
    /// What it holds, by pool.
    pub needs: BTreeMap<String, u64>,
    /// Who asked for it.
    pub requester: String,
}

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its number.
    pub number: i64,
    /// What is tested.
    pub target: String,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// How urgent it is.
    pub priority: Priority,
    /// Who asked for it.
    pub requester: String,
    /// When.
    pub asked_at: Micros,
    /// What it needs, by pool.
    pub needs: BTreeMap<String, u64>,
    /// What it waits for: `slots`, `target`, `limit`, `paused`, `runner`; `none` when it is about to start.
    pub cause: String,
    /// The whole of it, for people.
    pub reason: String,
    /// Its place in the line, from 1; none for one that does not stand in it.
    pub position: Option<u32>,
    /// In about how many seconds it starts; none where nobody can tell.
    pub starts_in_s: Option<i64>,
}

/// `POST /api/v1/queue`: `{"rule": "pause", "why": "a disk is being swapped"}`. Answers with the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Nobody is admitted; what runs goes on.
    Pause {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// As pausing, until nothing runs: for an upgrade of Assay.
    Drain {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// Runs start again.
    Resume,
    /// So many runs of a pipeline at once; no limit with none.
    Limit {
        /// Which.
        pipeline: Pipeline,
        /// How many.
        at_once: Option<u32>,
    },
    /// What a requester counts for; as everybody with none.
    Weigh {
        /// Who.
        requester: String,
        /// How much.
        weight: Option<u32>,
    },
}
