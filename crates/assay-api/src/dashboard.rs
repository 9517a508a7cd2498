//! The dashboard: `GET /api/v1/dashboard`, every recipe with how far it can be trusted.

use assay_model::recipe::RungStatus;
use assay_model::{Micros, RunResult, RunState};
use serde::{Deserialize, Serialize};

use crate::recipes::GreenRun;

/// `GET /api/v1/dashboard`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dashboard {
    /// Every recipe that was ever tested, by name.
    pub recipes: Vec<BoardRecipe>,
}

/// A recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoardRecipe {
    /// Its name.
    pub name: String,
    /// How it stands: the run that its badge shows. None where no whole run of it came to a verdict.
    pub standing: Option<BoardRun>,
    /// The last run that could be compared with, whether its evidence is still kept or not; none where it was never green as a
    /// whole.
    pub last_green: Option<GreenRun>,
    /// Its latest runs, newest first, whatever they are; at least one.
    pub runs: Vec<BoardRun>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoardRun {
    /// Its number.
    pub run: i64,
    /// Where it is in its life.
    pub state: RunState,
    /// Its result, once there is one.
    pub result: Option<RunResult>,
    /// Whether anything was waived.
    pub overridden: bool,
    /// Whether it goes through all stages with all checks on.
    pub whole: bool,
    /// `standard` or `quick`.
    pub profile: String,
    /// The pull request that it is of.
    pub pull_request: Option<String>,
    /// The stage that is running.
    pub stage: Option<String>,
    /// The level; none of one that is not over.
    pub level: Option<u8>,
    /// Every rung's status, the lowest first; nothing of one that is not over.
    pub rungs: Vec<RungStatus>,
    /// Where it failed.
    pub failed_stage: Option<String>,
    /// The code that says most about why.
    pub code: Option<String>,
    /// The version under test, as people name it; none where it was not read.
    pub version: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// When it was asked for.
    pub asked_at: Micros,
    /// When it ended.
    pub completed_at: Option<Micros>,
    /// How long it took from the moment in which a runner took it, in seconds; none while it runs.
    pub seconds: Option<f64>,
}
