//! The stage `Custom`: the recipe's own tests, against the app as it stands at the end.

use assay_model::recipe::Rung;
use assay_model::{Coverage, Judgement, StagePlan, Verdict, text};

use super::evidence::{Screenshot, Tested};
use super::told::Told;
use super::{RecipeInput, RecipeStage, by_runner, judged};

/// What only the recipe's authors can know.
pub(super) struct Custom;

impl RecipeStage for Custom {
    fn plan(&self) -> StagePlan {
        by_runner("Custom", false)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Functional)
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &Tested| {
            let mut told = Told::default();
            told.ran(&seen.ran, "test", "TestFailed");
            // Whoever was tested could say so of a test that fails: it is no pass either way.
            let excused = |found: &str| seen.not_run.iter().any(|not| not.name == found);
            let never = seen.found.iter().filter(|found| !seen.ran.iter().any(|ran| ran.name == **found));
            let never = never.filter(|found| !excused(found));
            for name in never {
                let name = text::clean(name);
                told.check(format!("test {name}"), false, "it runs", "it did not run");
                told.critical(
                    "TestNotRun",
                    format!("{name} was found and did not run"),
                    "Look at the stage's log.",
                );
            }
            if let Some(Screenshot::Missing { why }) = &seen.screenshot {
                told.unverified.push(format!("no picture of the app: {}", text::clean(why)));
            }
            if !seen.left_out.is_empty() {
                let count = seen.left_out.len();
                told.unverified.push(format!("{count} tests in extra/ were not asked for (--extra)"));
            }
            for not in &seen.not_run {
                let (name, why) = (text::clean(&not.name), text::clean(&not.why));
                told.unverified.push(format!("test {name} was not run: {why}"));
            }
            let (passed, total) = (seen.ran.iter().filter(|ran| ran.succeeded()).count(), seen.found.len());
            if total == 0 {
                let why = "the recipe has no tests of its own (functional/, browser/)";
                let judgement = told.judgement(|| why.to_owned());
                return Judgement { verdict: Verdict::Skip, ..judgement };
            }
            told.coverage.push(Coverage {
                what: "tests".to_owned(),
                covered: passed as u64,
                total: total as u64,
            });
            let judgement = told.judgement(|| format!("{passed} of {total} tests passed"));
            match seen.not_run.len() {
                0 => judgement,
                _ if judgement.verdict == Verdict::Fail => judgement,
                count => Judgement {
                    verdict: Verdict::Unverified,
                    message: format!("{passed} of {total} tests passed, {count} could not be run here"),
                    ..judgement
                },
            }
        })
    }
}
