//! Images as operators and programs see them: `/api/v1/images`.

use assay_model::{Sha256, Verdict};
use serde::{Deserialize, Serialize};

use crate::operator::RunSummary;

/// `GET /api/v1/images`: every name that was ever tested, with its latest runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The name that its history goes by: the profile's, and what a cell of a matrix adds to it.
    pub name: String,
    /// Its latest runs, newest first; at least one.
    pub tests: Vec<ImageTest>,
}

/// `GET /api/v1/images/{name}?before=N&limit=N`: the history of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageHistory {
    /// Its name.
    pub name: String,
    /// Its runs, newest first.
    pub tests: Vec<ImageTest>,
    /// What `before` has to be for those that are older; none when there are no more.
    pub next: Option<i64>,
    /// What changed when the image behind the name changed, latest first.
    pub changes: Vec<ImageChange>,
}

/// A run of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageTest {
    /// The run.
    pub run: RunSummary,
    /// Which image it tested; none when the runner never came to read it.
    pub image: Option<ImageFile>,
    /// Whether checks were switched off, so that a pass says nothing of them.
    pub checks_off: bool,
    /// Whether stages were left out, so that a pass says nothing of them.
    pub stages_left_out: bool,
    /// The phase from which it was to go on, where it was not to begin at the beginning: a pass says less then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_phase: Option<String>,
    /// The pull request that asked for it: a change of the image that nobody may have taken yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<String>,
    /// The code of the finding that says most about why it failed.
    pub code: Option<String>,
    /// What the runner says it is doing.
    pub step: Option<String>,
    /// How long it took from the moment in which a runner took it, in seconds; until now while it runs.
    pub seconds: Option<f64>,
    /// Its stages in order.
    pub stages: Vec<ImageStage>,
}

/// An image's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Its digest, as the runner read it.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its volume id, once it was inspected.
    pub volume: Option<String>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageStage {
    /// Its name.
    pub name: String,
    /// How it came out; none while it has not.
    pub verdict: Option<Verdict>,
    /// How long its latest try took, in seconds.
    pub seconds: Option<f64>,
}

/// Two runs of one name with different images behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageChange {
    /// The last finished run of the image before.
    pub from: i64,
    /// The first finished run of the image after.
    pub to: i64,
    /// What differs, one sentence each; what is not named is as it was.
    pub differences: Vec<String>,
}
