//! What a recipe's run comes to beyond pass and fail: five rungs, each with a status, and the level that they add up to.
//!
//! A level says how far a recipe can be trusted. Rungs that do not apply to a recipe (a stateless one has nothing to back up) are
//! stepped over, with their reason; rungs that should have been tried and were not are never.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::view::StageView;
use crate::{RunView, Verdict};

/// The version of what is told of levels. Two results are compared only when it is the same in both: a ladder with another
/// number of rungs means something else by the same level.
pub const SCHEMA: u32 = 1;

/// A rung of the ladder, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// It can be installed and answers.
    Install,
    /// The release before it can be upgraded to it.
    Upgrade,
    /// What it stores can be backed up and restored.
    Backup,
    /// Its own tests pass.
    Functional,
    /// Its files are as they should be.
    Lint,
}

impl Rung {
    /// Every rung, the lowest first.
    pub const ALL: [Self; 5] = [Self::Install, Self::Upgrade, Self::Backup, Self::Functional, Self::Lint];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Functional => "functional",
            Self::Lint => "lint",
        }
    }

    /// The stages that it is read from.
    pub const fn stages(self) -> &'static [&'static str] {
        match self {
            Self::Install => &["Install"],
            Self::Upgrade => &["Upgrade"],
            Self::Backup => &["Backup", "Restore"],
            Self::Functional => &["Custom"],
            Self::Lint => &["Lint"],
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RungStatus {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It does not apply: declared so, or by the recipe's structure.
    Skip,
    /// It should have been tried and was not, or the runner failed.
    Unver,
}

impl RungStatus {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Unver => "unver",
        }
    }

    const fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::Pass) => Self::Pass,
            Some(Verdict::Fail) => Self::Fail,
            Some(Verdict::Skip) => Self::Skip,
            Some(Verdict::Unverified | Verdict::Error) | None => Self::Unver,
        }
    }

    /// Two stages of one rung.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fail, _) | (_, Self::Fail) => Self::Fail,
            (Self::Unver, _) | (_, Self::Unver) => Self::Unver,
            (Self::Skip, Self::Skip) => Self::Skip,
            _ => Self::Pass,
        }
    }
}

/// Not one of the statuses.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a rung's status")]
pub struct UnknownRungStatus(String);

impl FromStr for RungStatus {
    type Err = UnknownRungStatus;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let all = [Self::Pass, Self::Fail, Self::Skip, Self::Unver];
        let found = all.into_iter().find(|status| status.as_str() == s);
        found.ok_or_else(|| UnknownRungStatus(crate::text::clean_to(s, 40)))
    }
}

impl fmt::Display for RungStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A rung with its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RungResult {
    /// Which.
    pub rung: Rung,
    /// What is known of it.
    pub status: RungStatus,
    /// The sentence of the stage that decided it.
    pub message: String,
}

/// The whole ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ladder {
    /// The version of this shape and of the rungs' meaning.
    pub schema: u32,
    /// The highest rung that holds while every lower one holds or does not apply; 0 for none.
    pub level: u8,
    /// Every rung, the lowest first.
    pub rungs: Vec<RungResult>,
}

impl Ladder {
    /// Reads it from a recipe's run, as far as it is known.
    pub fn of(run: &RunView) -> Self {
        let stage = |name: &str| {
            let stage = run.stages.iter().find(|stage| stage.plan.name == name);
            let status = RungStatus::of(stage.and_then(StageView::verdict));
            let message = stage.and_then(StageView::judgement).map(|told| told.message.clone());
            (status, message.unwrap_or_else(|| "it was not reached".to_owned()))
        };
        let rungs = Rung::ALL.map(|rung| {
            let mut stages = rung.stages().iter().map(|name| stage(name));
            let first = stages.next().unwrap_or((RungStatus::Unver, String::new()));
            let (status, message) = stages.fold(first, |(status, message), (next, told)| {
                let both = status.and(next);
                // The stage that made it what it is has the word.
                let message = if both == status && status != RungStatus::Pass { message } else { told };
                (both, message)
            });
            RungResult { rung, status, message }
        });
        Self::from_rungs(rungs.to_vec())
    }

    /// Adds rungs up.
    pub fn from_rungs(rungs: Vec<RungResult>) -> Self {
        Self { schema: SCHEMA, level: level(rungs.iter().map(|result| result.status)), rungs }
    }

    /// What is known of one rung.
    pub fn status(&self, rung: Rung) -> RungStatus {
        self.rungs.iter().find(|result| result.rung == rung).map_or(RungStatus::Unver, |found| found.status)
    }

    /// As a line: `level 2 of 5 (install pass, upgrade pass, backup fail, functional skip, lint pass)`.
    pub fn line(&self) -> String {
        let rungs: Vec<String> =
            self.rungs.iter().map(|result| format!("{} {}", result.rung, result.status)).collect();
        format!("level {} of {} ({})", self.level, Rung::ALL.len(), rungs.join(", "))
    }
}

/// The level that statuses add up to, the lowest rung first.
pub fn level(statuses: impl IntoIterator<Item = RungStatus>) -> u8 {
    let mut level = 0;
    for (place, status) in (1..).zip(statuses) {
        match status {
            RungStatus::Pass => level = place,
            RungStatus::Skip => {}
            RungStatus::Fail | RungStatus::Unver => break,
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::{Ladder, Rung, RungResult, RungStatus};

    fn level(statuses: [RungStatus; 5]) -> u8 {
        let rungs = Rung::ALL.into_iter().zip(statuses);
        let rungs = rungs.map(|(rung, status)| RungResult { rung, status, message: String::new() });
        Ladder::from_rungs(rungs.collect()).level
    }

    #[test]
    fn a_level_steps_over_what_does_not_apply_and_never_over_what_was_not_tried() {
        use RungStatus::{Fail, Pass, Skip, Unver};
        let cases = [
            ([Pass, Pass, Pass, Pass, Pass], 5),
            ([Pass, Skip, Skip, Skip, Pass], 5),
            ([Pass, Skip, Skip, Skip, Fail], 1),
            ([Pass, Pass, Unver, Pass, Pass], 2),
            ([Pass, Fail, Pass, Pass, Pass], 1),
            ([Fail, Pass, Pass, Pass, Pass], 0),
            ([Unver, Pass, Pass, Pass, Pass], 0),
            ([Skip, Skip, Skip, Skip, Skip], 0),
            ([Pass, Skip, Pass, Skip, Skip], 3),
        ];
        for (statuses, expected) in cases {
            assert_eq!(level(statuses), expected, "{statuses:?}");
        }
    }

    #[test]
    fn one_rung_of_two_stages_is_as_good_as_the_worse() {
        use RungStatus::{Fail, Pass, Skip, Unver};
        for (one, other, both) in [
            (Pass, Pass, Pass),
            (Pass, Fail, Fail),
            (Pass, Unver, Unver),
            (Unver, Fail, Fail),
            (Skip, Skip, Skip),
            (Pass, Skip, Pass),
        ] {
            assert_eq!(one.and(other), both);
            assert_eq!(other.and(one), both);
        }
    }
}
