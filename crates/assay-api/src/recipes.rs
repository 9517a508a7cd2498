//! Recipes as operators and programs see them: `/api/v1/recipes`.

use assay_model::recipe::Ladder;
use serde::{Deserialize, Serialize};

use crate::operator::RunSummary;

/// `GET /api/v1/recipes`: every recipe that was ever tested, with its latest runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Its latest runs, newest first; at least one.
    pub tests: Vec<RecipeTest>,
    /// The last run that could be compared with, whether its evidence is still kept or not; none where it was never green as a
    /// whole.
    pub last_green: Option<GreenRun>,
}

/// `GET /api/v1/recipes/{name}?before=N&limit=N`: one recipe over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeHistory {
    /// Its name.
    pub name: String,
    /// Its runs, newest first.
    pub tests: Vec<RecipeTest>,
    /// What `before` has to be for those that are older; none when there are no more.
    pub next: Option<i64>,
    /// The run that red ones are compared with; none where it was never green as a whole.
    pub last_green: Option<GreenRun>,
    /// What passed and failed with the same commit, build of Assay, configuration and images, in the latest runs.
    pub flakes: Vec<RecipeFlake>,
    /// How many runs the flakes were looked for in.
    pub looked_at: u32,
}

/// A run of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeTest {
    /// The run.
    pub run: RunSummary,
    /// Its rungs and its level, as far as they are known.
    pub ladder: Ladder,
    /// Whether checks were switched off, so that a pass says nothing of them.
    pub checks_off: bool,
    /// Whether stages were left out, so that a pass says nothing of them.
    pub stages_left_out: bool,
    /// The code of the finding that says most about why it failed.
    pub code: Option<String>,
    /// What the runner says it is doing.
    pub step: Option<String>,
    /// How long it took from the moment in which a runner took it, in seconds; until now while it runs.
    pub seconds: Option<f64>,
    /// The version under test; told in a history, and none where it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is different since the recipe was green, one sentence each; told in a history, of a red run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since_green: Vec<String>,
}

/// The green run that others are compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreenRun {
    /// Its number.
    pub number: i64,
    /// RFC 3339, when it was asked for.
    pub at: String,
    /// The version that it tested.
    pub version: String,
}

/// Something that passed and failed under the same circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeFlake {
    /// The recipe.
    pub recipe: String,
    /// A stage by its name, or a hook or test by its file.
    pub what: String,
    /// The commit.
    pub commit: String,
    /// How often it passed.
    pub passed: u32,
    /// How often it failed.
    pub failed: u32,
    /// RFC 3339, the first of these runs.
    pub first: String,
    /// RFC 3339, when it failed last.
    pub last_failed: String,
    /// The runs in which it failed, oldest first.
    pub failed_runs: Vec<i64>,
    /// The codes of its failures.
    pub codes: Vec<String>,
}
