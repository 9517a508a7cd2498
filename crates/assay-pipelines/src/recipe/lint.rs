//! The stage `Lint`: are the recipe's files as they should be, before anything of it is deployed?

use assay_model::recipe::Rung;
use assay_model::{Coverage, Judgement, StagePlan, text};
use assay_recipe::lint::{Severity, Verdict};

use super::evidence::Linted;
use super::told::Told;
use super::{RecipeInput, RecipeStage, by_runner, judged};

/// The recipe's files.
pub(super) struct Lint;

impl RecipeStage for Lint {
    fn plan(&self) -> StagePlan {
        by_runner("Lint", false)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Lint)
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |linted: &Linted| {
            let mut told = Told::default();
            let Some(report) = &linted.report else {
                let problem = linted.problem.as_deref().unwrap_or("it does not read");
                told.check("recipe", false, "a recipe", "it does not read as one");
                told.critical(
                    "NoRecipe",
                    text::clean(problem),
                    "Name the folder that has the recipe's compose.yml.",
                );
                return told.judgement(String::new);
            };
            let (mut checked, mut rules) = (0, 0);
            for result in &report.results {
                rules += 1;
                let name = format!("{} {}", result.rule, result.title);
                match result.verdict {
                    Verdict::Pass => {
                        checked += 1;
                        told.check(name, true, "nothing found", "nothing found");
                    }
                    Verdict::Fail => {
                        checked += 1;
                        let is_error = result.severity == Severity::Error;
                        told.check(
                            name,
                            !is_error,
                            "nothing found",
                            format!("{} found", result.findings.len()),
                        );
                        for finding in &result.findings {
                            let place = match finding.line {
                                0 => finding.file.clone(),
                                line => format!("{}:{line}", finding.file),
                            };
                            let message =
                                format!("{}: {}", text::clean(&place), text::clean(&finding.message));
                            let (code, next) =
                                (format!("Lint{}", result.rule), text::clean(&finding.next_step));
                            if is_error {
                                told.critical(&code, message, &next);
                            } else {
                                told.warning(&code, message, &next);
                            }
                        }
                    }
                    Verdict::Unverified => {
                        let why = text::clean(result.reason.as_deref().unwrap_or("for no reason given"));
                        told.unverified.push(format!("{name}: {why}"));
                    }
                    Verdict::Skip | Verdict::NotChecked => rules -= 1,
                }
            }
            told.coverage.push(Coverage { what: "rules".to_owned(), covered: checked, total: rules });
            told.judgement(|| format!("{checked} rules, no error"))
        })
    }
}
