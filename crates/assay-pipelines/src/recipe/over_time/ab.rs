//! Recipe, harness, world or chance: what two builds of Assay at two commits say about which of them is to blame.
//!
//! A red run has four possible reasons, and one more run of the same tells them apart from none. Two builds times two commits do:
//! each cell differs from its neighbour in one thing. The old build at the old commit is the control: it was green once, so where
//! it is red today, neither of the two is the reason.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::{RunResult, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::results::Results;

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TryOutcome {
    /// It passed.
    Green,
    /// It failed.
    Red,
    /// Neither: the runner failed.
    NoVerdict,
}

impl TryOutcome {
    /// What a run's results say.
    pub fn of(results: &Results) -> Self {
        match results.run.result {
            Some(RunResult::Pass) => Self::Green,
            Some(RunResult::Fail) => Self::Red,
            None => Self::NoVerdict,
        }
    }
}

/// What the tries of one cell come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CellOutcome {
    /// Every try that came to a verdict passed.
    Green,
    /// Every one failed.
    Red,
    /// Some passed and some failed.
    Flaky,
    /// None came to a verdict.
    NoVerdict,
}

impl CellOutcome {
    /// Adds tries up.
    pub fn of(tries: &[TryOutcome]) -> Self {
        let any = |wanted: TryOutcome| tries.contains(&wanted);
        match (any(TryOutcome::Green), any(TryOutcome::Red)) {
            (true, true) => Self::Flaky,
            (true, false) => Self::Green,
            (false, true) => Self::Red,
            (false, false) => Self::NoVerdict,
        }
    }

    /// In the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::Flaky => "flaky",
            Self::NoVerdict => "no verdict",
        }
    }
}

/// The four cells. With one commit both of its columns are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// Old build, old commit: the control.
    pub old_old: CellOutcome,
    /// Old build, new commit.
    pub old_new: CellOutcome,
    /// New build, old commit.
    pub new_old: CellOutcome,
    /// New build, new commit.
    pub new_new: CellOutcome,
}

/// What is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The new commit is red where the old one is green, with the same build.
    RecipeRegressed,
    /// The new build is red where the old one is green, at the same commit.
    HarnessRegressed,
    /// Both, each by itself.
    BothRegressed,
    /// Only the new build at the new commit is red: each alone is good.
    OnlyTogether,
    /// The control is red: something else than recipe and harness has changed.
    WorldDrifted,
    /// The same build at the same commit is sometimes green and sometimes red.
    Flaky,
    /// Nothing is red.
    NothingRegressed,
    /// A cell that matters came to no verdict.
    NoAnswer,
}

/// `ab.json`: the answer with everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay recipe A/B")]
pub struct Comparison {
    /// The version of this form: 1.
    pub format: u32,
    /// The recipe's folder.
    pub recipe: PathBuf,
    /// What is to blame.
    pub answer: Answer,
    /// The same as one sentence.
    pub sentence: String,
    /// The four cells.
    pub table: Table,
    /// Every cell with its tries: both commits with the old build, then both with the new one.
    pub cells: Vec<Cell>,
}

/// A build of Assay at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The program.
    pub harness: PathBuf,
    /// The digest of its file.
    pub harness_sha256: Sha256,
    /// The commit, in full; none for the folder as it is.
    pub commit: Option<String>,
    /// What the tries come to.
    pub outcome: CellOutcome,
    /// Each of them.
    pub tries: Vec<Try>,
}

/// A run of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Try {
    /// Everything that it left.
    pub folder: PathBuf,
    /// How it ended.
    pub outcome: TryOutcome,
    /// What failed, or why there is no verdict.
    pub detail: String,
    /// The images' ids by their references.
    pub images: BTreeMap<String, String>,
}

impl Answer {
    /// Reads the table. Total: every table has an answer.
    #[expect(clippy::match_same_arms, reason = "the order of the arms is the order of the reasons")]
    pub const fn of(table: Table) -> Self {
        use CellOutcome::{Flaky, Green, NoVerdict, Red};
        match (table.old_old, table.old_new, table.new_old, table.new_new) {
            (Flaky, ..) | (_, Flaky, ..) | (_, _, Flaky, _) | (.., Flaky) => Self::Flaky,
            (Red, ..) => Self::WorldDrifted,
            (NoVerdict, ..) | (_, NoVerdict, ..) => Self::NoAnswer,
            // A build that comes to no verdict anywhere, where the old one does everywhere, is broken itself.
            (Green, Green, NoVerdict, NoVerdict) | (Green, Green, Red, _) => Self::HarnessRegressed,
            (Green, Red, NoVerdict, NoVerdict) | (Green, Red, Red, _) => Self::BothRegressed,
            (Green, _, NoVerdict, _) | (Green, Green, Green, NoVerdict) => Self::NoAnswer,
            (Green, Red, Green, _) => Self::RecipeRegressed,
            (Green, Green, Green, Red) => Self::OnlyTogether,
            (Green, Green, Green, Green) => Self::NothingRegressed,
        }
    }

    /// In one sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::RecipeRegressed => {
                "recipe regressed: with the same build of Assay the old commit is green and the new one is red"
            }
            Self::HarnessRegressed => {
                "harness regressed: at the same commit the old build of Assay is green and the new one is not"
            }
            Self::BothRegressed => {
                "recipe and harness regressed, each by itself: the new commit is red with the old build, and the new build is not green at the old commit"
            }
            Self::OnlyTogether => {
                "only together red: the new commit with the new build of Assay; each is green with the other's old one, so look at what the new build asks and the old one does not"
            }
            Self::WorldDrifted => {
                "the world drifted: the old build of Assay is red at the old commit, which is known as green, so the reason is neither of the two; look at images, the runner, and what is reached outside"
            }
            Self::Flaky => {
                "flaky: the same build of Assay at the same commit is sometimes green and sometimes red, so no other difference in this table means anything"
            }
            Self::NothingRegressed => {
                "nothing regressed: all are green; what was red before was chance, or has another reason than commit and build"
            }
            Self::NoAnswer => {
                "no answer: the runner failed where it matters, see the runs that came to no verdict"
            }
        }
    }
}

/// Whether a cell has to be tried again: what is not green, until it was tried often enough; and what was green once is flaky or
/// not by then.
pub fn wants_another(tries: &[TryOutcome], most: u32) -> bool {
    let enough = u32::try_from(tries.len()).unwrap_or(u32::MAX) >= most;
    !enough && !tries.contains(&TryOutcome::Green)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CellOutcome::{Flaky, Green, NoVerdict, Red};

    fn answer(cells: [CellOutcome; 4]) -> Answer {
        let [old_old, old_new, new_old, new_new] = cells;
        Answer::of(Table { old_old, old_new, new_old, new_new })
    }

    #[test]
    fn who_is_to_blame() {
        let cases = [
            // Old build: old commit, new commit; new build: old commit, new commit.
            ([Green, Red, Green, Red], Answer::RecipeRegressed),
            // The new build does not see it: the recipe has changed for the worse all the same.
            ([Green, Red, Green, Green], Answer::RecipeRegressed),
            ([Green, Red, Green, NoVerdict], Answer::RecipeRegressed),
            ([Green, Green, Red, Red], Answer::HarnessRegressed),
            ([Green, Green, Red, Green], Answer::HarnessRegressed),
            ([Green, Green, NoVerdict, NoVerdict], Answer::HarnessRegressed),
            ([Green, Red, Red, Red], Answer::BothRegressed),
            ([Green, Red, NoVerdict, NoVerdict], Answer::BothRegressed),
            ([Green, Green, Green, Red], Answer::OnlyTogether),
            ([Red, Red, Red, Red], Answer::WorldDrifted),
            ([Red, Green, Green, Green], Answer::WorldDrifted),
            ([Green, Green, Green, Green], Answer::NothingRegressed),
            ([Flaky, Red, Red, Red], Answer::Flaky),
            ([Green, Green, Green, Flaky], Answer::Flaky),
            ([NoVerdict, Green, Green, Green], Answer::NoAnswer),
            ([Green, NoVerdict, Green, Green], Answer::NoAnswer),
            ([Green, Green, NoVerdict, Green], Answer::NoAnswer),
        ];
        for (cells, expected) in cases {
            assert_eq!(answer(cells), expected, "{cells:?}");
        }
    }

    #[test]
    fn every_table_has_an_answer_and_it_does_not_contradict_the_control() {
        let all = [Green, Red, Flaky, NoVerdict];
        let mut seen = 0;
        for one in all {
            for two in all {
                for three in all {
                    for four in all {
                        let cells = [one, two, three, four];
                        let answer = answer(cells);
                        seen += 1;
                        assert_eq!(answer == Answer::Flaky, cells.contains(&Flaky), "{cells:?}");
                        if matches!(
                            answer,
                            Answer::RecipeRegressed | Answer::HarnessRegressed | Answer::OnlyTogether
                        ) {
                            assert_eq!(one, Green, "{cells:?}: nobody is blamed without a green control");
                        }
                        assert_eq!(answer == Answer::NothingRegressed, cells == [Green; 4], "{cells:?}");
                    }
                }
            }
        }
        assert_eq!(seen, 256);
    }

    #[test]
    fn tries_add_up_and_a_red_one_is_tried_again() {
        use TryOutcome as T;
        for (tries, cell, again) in [
            (&[][..], NoVerdict, true),
            (&[T::Green], Green, false),
            (&[T::Red], Red, true),
            (&[T::NoVerdict], NoVerdict, true),
            (&[T::Red, T::Red], Red, false),
            (&[T::Red, T::Green], Flaky, false),
            (&[T::NoVerdict, T::Green], Green, false),
            (&[T::NoVerdict, T::Red], Red, false),
        ] {
            assert_eq!((CellOutcome::of(tries), wants_another(tries, 2)), (cell, again), "{tries:?}");
        }
    }
}
