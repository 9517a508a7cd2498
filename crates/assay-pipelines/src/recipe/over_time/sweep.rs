//! Many recipes against a baseline: what is the same, better, worse, new and gone, rung by rung.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::RunResult;
use assay_model::recipe::{Rung, RungStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changed::SinceGreen;
use super::results::{Results, SCHEMA, STANDARD};
use crate::recipe::harness::Harness;

/// The file that a sweep is held against, and writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay recipe sweep baseline")]
pub struct Baseline {
    /// The version of the results in it.
    pub schema: u32,
    /// The build of Assay that wrote it.
    pub harness: Harness,
    /// The results, by recipe.
    pub recipes: BTreeMap<String, Results>,
}

/// A recipe's run in a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", content = "what", rename_all = "snake_case")]
pub enum Swept {
    /// It came to results.
    Results(Box<Results>),
    /// It did not.
    Nothing {
        /// Why.
        why: String,
    },
}

/// A recipe against its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Some rung holds less than it did.
    Worse,
    /// No comparison: the runner failed, or the results have another schema version.
    Unknown,
    /// It is in the baseline and was not swept.
    Gone,
    /// It is not in the baseline.
    New,
    /// Some rung holds more, and none less.
    Better,
    /// Every rung is what it was.
    Same,
}

impl Standing {
    /// Every standing, what needs eyes first.
    pub const ALL: [Self; 6] = [Self::Worse, Self::Unknown, Self::Gone, Self::New, Self::Better, Self::Same];

    /// In the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::New => "new",
            Self::Better => "better",
            Self::Same => "same",
        }
    }
}

/// A line of the reconciliation table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The recipe.
    pub recipe: String,
    /// How it stands.
    pub standing: Standing,
    /// The level before and now.
    pub level: (Option<u8>, Option<u8>),
    /// The rungs that are not what they were: before and now.
    pub rungs: Vec<(Rung, RungStatus, RungStatus)>,
    /// What is to be known of it, in one sentence; empty where there is nothing.
    pub detail: String,
    /// What is different since the baseline, where it is worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<SinceGreen>,
}

/// `sweep.json`: what a sweep came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay recipe sweep")]
pub struct Reconciliation {
    /// The version of this form: 1.
    pub format: u32,
    /// How many recipes stand in each way, by its word.
    pub counts: BTreeMap<String, usize>,
    /// Each recipe, what needs eyes first.
    pub rows: Vec<Row>,
    /// The baseline that the next sweep is held against.
    pub next: PathBuf,
}

/// Holds a sweep against its baseline; what needs eyes first comes first.
pub fn reconcile(baseline: &Baseline, swept: &BTreeMap<String, Swept>) -> Vec<Row> {
    let mut rows: Vec<Row> =
        swept.iter().map(|(name, swept)| row(name, baseline.recipes.get(name), swept)).collect();
    for (name, before) in baseline.recipes.iter().filter(|(name, _)| !swept.contains_key(*name)) {
        rows.push(Row {
            recipe: name.clone(),
            standing: Standing::Gone,
            level: (Some(before.ladder.level), None),
            rungs: Vec::new(),
            detail: "it is in the baseline and was not swept".to_owned(),
            since: None,
        });
    }
    rows.sort_by(|one, other| (one.standing, &one.recipe).cmp(&(other.standing, &other.recipe)));
    rows
}

/// What the next sweep is held against: what is whole and not worse as it is now, what is worse as it was.
///
/// So a regression is told by every sweep until it is gone, and neither a quick nor a muted run takes a baseline's place.
pub fn next(baseline: &Baseline, swept: &BTreeMap<String, Swept>, harness: Harness) -> Baseline {
    let mut recipes = BTreeMap::new();
    for (name, one) in swept {
        let before = baseline.recipes.get(name);
        let standing = row(name, before, one).standing;
        let now = match one {
            Swept::Results(results) if promotes(results) && standing != Standing::Worse => Some(&**results),
            Swept::Results(_) | Swept::Nothing { .. } => None,
        };
        if let Some(kept) = now.or(before) {
            recipes.insert(name.clone(), kept.clone());
        }
    }
    Baseline { schema: SCHEMA, harness, recipes }
}

/// Whether results say what is known of a recipe: red or green, but of the whole, and of a commit that is in history.
fn promotes(results: &Results) -> bool {
    let version = results.version.as_ref();
    results.run.result.is_some()
        && !results.run.overridden
        && results.lane == STANDARD
        && results.spared.is_empty()
        && version.is_some_and(|version| version.commit.is_some() && version.changed.is_empty())
}

fn row(name: &str, before: Option<&Results>, swept: &Swept) -> Row {
    let mut row = Row {
        recipe: name.to_owned(),
        standing: Standing::Unknown,
        level: (before.map(|before| before.ladder.level), None),
        rungs: Vec::new(),
        detail: String::new(),
        since: None,
    };
    let now = match swept {
        Swept::Results(now) => now,
        Swept::Nothing { why } => {
            row.detail.clone_from(why);
            return row;
        }
    };
    row.level.1 = Some(now.ladder.level);
    let code = now.code().map(|(stage, code)| format!("{code} at {stage}"));
    if now.run.result.is_none() {
        let error = now.stages.iter().find(|stage| stage.verdict == Some(assay_model::Verdict::Error));
        row.detail = error
            .map_or_else(|| "no verdict".to_owned(), |stage| format!("{}: {}", stage.name, stage.message));
        return row;
    }
    row.detail = code.unwrap_or_default();
    let Some(before) = before else {
        row.standing = Standing::New;
        return row;
    };
    if before.schema != now.schema {
        row.detail = format!(
            "the baseline's results have schema version {}, these {}: they are not compared",
            before.schema, now.schema
        );
        return row;
    }
    for rung in Rung::ALL {
        let (was, is) = (before.ladder.status(rung), now.ladder.status(rung));
        if was != is {
            row.rungs.push((rung, was, is));
        }
    }
    // What stands beside the rungs counts, too: a stack that leaves something behind is red on every rung's day.
    let passed = |results: &Results| results.run.result == Some(RunResult::Pass);
    let worse =
        row.rungs.iter().any(|(_, was, is)| rank(*is) < rank(*was)) || (passed(before) && !passed(now));
    let better =
        row.rungs.iter().any(|(_, was, is)| rank(*is) > rank(*was)) || (!passed(before) && passed(now));
    row.standing = match (worse, better) {
        (true, _) => Standing::Worse,
        (false, true) => Standing::Better,
        (false, false) => Standing::Same,
    };
    if worse {
        row.since = Some(SinceGreen::of(Some(before), now));
    }
    row
}

/// How much a rung's status is worth. A rung that was declared away says less than one that holds.
const fn rank(status: RungStatus) -> u8 {
    match status {
        RungStatus::Fail => 0,
        RungStatus::Unver => 1,
        RungStatus::Skip => 2,
        RungStatus::Pass => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{green, ladder, named, red};
    use super::*;

    fn swept(all: impl IntoIterator<Item = (&'static str, Results)>) -> BTreeMap<String, Swept> {
        named(all).into_iter().map(|(name, results)| (name, Swept::Results(Box::new(results)))).collect()
    }

    fn baseline() -> Baseline {
        let recipes = named([
            ("stays", green(1)),
            ("breaks", green(2)),
            ("heals", red(3, "Upgrade", "UpgradeLostData")),
            ("went", green(4)),
            ("stumbles", green(5)),
            ("older", Results { schema: SCHEMA + 1, ..green(6) }),
            ("leaks", green(7)),
        ]);
        Baseline { schema: SCHEMA, harness: Harness::default(), recipes }
    }

    fn now() -> BTreeMap<String, Swept> {
        let mut leaks = red(17, "Teardown", "SecretLeaked");
        leaks.ladder = ladder(&[]);
        let mut all = swept([
            ("stays", green(11)),
            ("breaks", red(12, "Upgrade", "UpgradeLostData")),
            ("heals", green(13)),
            ("came", green(14)),
            ("older", green(16)),
            ("leaks", leaks),
        ]);
        all.insert("stumbles".to_owned(), Swept::Nothing { why: "no runner".to_owned() });
        all
    }

    #[test]
    fn a_sweep_beside_its_baseline() {
        let lines: Vec<String> = reconcile(&baseline(), &now())
            .iter()
            .map(|row| {
                let rungs: Vec<String> =
                    row.rungs.iter().map(|(rung, was, is)| format!("{rung} {was}→{is}")).collect();
                format!(
                    "{:8} {:8} {:?} {} {}",
                    row.standing.as_str(),
                    row.recipe,
                    row.level,
                    rungs.join(" "),
                    row.detail
                )
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        worse    breaks   (Some(5), Some(1)) upgrade pass→fail UpgradeLostData at Upgrade
        worse    leaks    (Some(5), Some(5))  SecretLeaked at Teardown
        unknown  older    (Some(5), Some(5))  the baseline's results have schema version 2, these 1: they are not compared
        unknown  stumbles (Some(5), None)  no runner
        gone     went     (Some(5), None)  it is in the baseline and was not swept
        new      came     (None, Some(5))  
        better   heals    (Some(1), Some(5)) upgrade fail→pass 
        same     stays    (Some(5), Some(5))
        ");
    }

    #[test]
    fn the_next_baseline_keeps_what_was_better_and_takes_up_nothing_that_was_spared() {
        let mut now = now();
        let quick = Results { lane: "quick".to_owned(), ..green(18) };
        now.insert("stays".to_owned(), Swept::Results(Box::new(quick)));
        let mut dirty = green(19);
        dirty.version.as_mut().expect("read").changed.push("compose.yml".to_owned());
        now.insert("came".to_owned(), Swept::Results(Box::new(dirty)));
        let next = next(&baseline(), &now, Harness::default());
        let runs: Vec<(&str, i64)> =
            next.recipes.iter().map(|(name, kept)| (name.as_str(), kept.run.number)).collect();
        assert_eq!(
            runs,
            [("breaks", 2), ("heals", 13), ("leaks", 7), ("older", 16), ("stays", 1), ("stumbles", 5)]
        );
    }
}
