//! The weekly digest: what was proven, what is red and since when, what drifted, what is flaky, what waits for an operator, what
//! became slow. One model, made purely of rows, drawn up as a page, as Markdown and as a feed.
//!
//! A digest of a week that is over is the same whenever it is asked for: everything is told as it stood at the week's end, and
//! nothing about now is looked at. It lives as long as the journals do.

mod fold;
mod week;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Micros, Pipeline};

pub use fold::{Ended, Failure, Input, LOOK_BACK, Standing, TargetKey};
pub use week::{UnknownWeek, Week};
pub use words::{Item, Section, Word};

/// The version of this form.
pub const SCHEMA: u32 = 1;

/// A week in one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay weekly digest")]
pub struct Digest {
    /// The version of this form: 1.
    pub schema: u32,
    /// ISO 8601: `2026-W47`.
    pub week: Week,
    /// RFC 3339: its first instant.
    pub from: String,
    /// RFC 3339: the first instant after it, or the moment in which an unfinished week was looked at.
    pub to: String,
    /// Whether the week is not over, so that a later digest of it says something else.
    pub unfinished: bool,
    /// What was tested, by pipeline. Only those of which something was.
    pub proven: Vec<Proven>,
    /// What is red at the end, and was not at the beginning.
    pub went_red: Vec<Red>,
    /// What was red all the time.
    pub still_red: Vec<Red>,
    /// What was red, at the beginning or meanwhile, and is green at the end.
    pub became_green: Vec<Green>,
    /// Tags of images that were moved upstream.
    pub drifted: Vec<Drift>,
    /// What passed and failed under the same circumstances, and failed in this week.
    pub flaky: Vec<Flaky>,
    /// What waits for an operator at the end.
    pub waiting: Vec<Waits>,
    /// What takes longer than in the four weeks before, the slowest growth first.
    pub slower: Vec<Slower>,
}

/// What came of a pipeline's runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proven {
    /// Which.
    pub pipeline: Pipeline,
    /// How many targets were tested.
    pub targets: u32,
    /// Runs that passed as a whole.
    pub passed: u32,
    /// Runs that passed with something waived, left out or switched off.
    pub passed_in_part: u32,
    /// Runs that failed.
    pub failed: u32,
    /// Runs that came to no verdict: the runner failed, not the target.
    pub no_verdict: u32,
    /// Runs that were cancelled or superseded.
    pub broken_off: u32,
}

/// Something that is red.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Red {
    /// What kind of thing.
    pub pipeline: Pipeline,
    /// Its name.
    pub target: String,
    /// Its last run that failed.
    pub run: i64,
    /// Where that failed.
    pub stage: Option<String>,
    /// The code that says most about why.
    pub code: Option<String>,
    /// RFC 3339: when the first run failed since it was green.
    pub since: String,
    /// That run.
    pub since_run: i64,
}

/// Something that is green again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Green {
    /// What kind of thing.
    pub pipeline: Pipeline,
    /// Its name.
    pub target: String,
    /// The first green run since it was red.
    pub run: i64,
    /// RFC 3339, when that ended.
    pub at: String,
    /// The last run that was red.
    pub red_run: i64,
}

/// A tag that stands for other bytes than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// The recipe that deploys it.
    pub recipe: String,
    /// The image's reference.
    pub reference: String,
    /// The beginning of the id that it had.
    pub was: String,
    /// The beginning of the id that it has.
    pub is: String,
    /// The run that saw it first.
    pub run: i64,
    /// Whether that run was red.
    pub red: bool,
}

/// Something that passed and failed under the same circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flaky {
    /// The recipe.
    pub recipe: String,
    /// A stage by its name, or a hook or test by its file.
    pub what: String,
    /// The commit.
    pub commit: String,
    /// How often it failed, in this week and the four before.
    pub failed: u32,
    /// How often it passed.
    pub passed: u32,
    /// The run in which it failed last.
    pub run: i64,
    /// The codes of its failures.
    pub codes: Vec<String>,
}

/// Something that goes on only once an operator decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Waits {
    /// A failed run that keeps its target as it is.
    Held {
        /// What kind of thing.
        pipeline: Pipeline,
        /// Its name.
        target: String,
        /// The run.
        run: i64,
        /// Where it failed.
        stage: Option<String>,
        /// RFC 3339, until when it is held.
        until: Option<String>,
    },
    /// The queue stands still.
    Queue {
        /// Whether it is being drained, for an upgrade.
        draining: bool,
        /// Who stopped it.
        by: String,
        /// Why; may be empty.
        why: String,
        /// RFC 3339, since when.
        since: String,
    },
}

/// Something that takes longer than it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slower {
    /// What kind of thing.
    pub pipeline: Pipeline,
    /// Its name.
    pub target: String,
    /// In which profile.
    pub profile: String,
    /// The median of its green runs in this week, in seconds.
    pub seconds: f64,
    /// The same of the four weeks before.
    pub before_seconds: f64,
    /// How many runs the first of these is of.
    pub runs: u32,
    /// The latest of them.
    pub run: i64,
}

impl Digest {
    /// Whether there is nothing to tell.
    pub const fn is_empty(&self) -> bool {
        self.proven.is_empty()
            && self.still_red.is_empty()
            && self.waiting.is_empty()
            && self.went_red.is_empty()
    }

    /// `Week 2026-W47, 16 to 22 November 2026`.
    pub fn title(&self) -> String {
        format!("Week {}, {}", self.week, self.week.days())
    }

    /// One sentence: `12 runs: 9 passed, 3 failed. 1 went red, 2 still red, 1 green again.`
    pub fn summary(&self) -> String {
        words::summary(self)
    }

    /// Everything but the counts, in words, in the order in which it is to be read.
    pub fn sections(&self) -> Vec<Section> {
        words::sections(self)
    }

    /// As Markdown. Text that is not ours stands in code spans.
    pub fn markdown(&self) -> String {
        words::markdown(self)
    }
}

/// When something is, in a digest.
fn instant(at: Micros) -> String {
    at.rfc3339()
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
