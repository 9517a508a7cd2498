//! The stage `Lint`: are the recipe's files as they should be, before anything of it is deployed?

use assay_model::recipe::Rung;
use assay_model::{Coverage, Judgement, StagePlan, text};
use assay_recipe::lint::{Severity, Verdict};

use super::evidence::Linted;
use super::told::Told;
use super::{RecipeInput, RecipeStage, Source, by_runner, judged};

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
            not_taken(&mut told, input.spec.source.as_ref());
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

/// What a change would decide about itself with. Said, and nothing more: it is in order to change tests, by themselves.
fn not_taken(told: &mut Told, source: Option<&Source>) {
    /// So many files are named.
    const NAMED: usize = 5;
    let Some(source) = source.filter(|source| !source.not_taken.is_empty()) else { return };
    let mut files: Vec<String> =
        source.not_taken.iter().take(NAMED).map(|file| text::clean_to(file, 120)).collect();
    let more = source.not_taken.len() - files.len();
    if more > 0 {
        files.push(format!("{more} more"));
    }
    let trusted = text::clean_to(&source.trusted_ref, 80);
    told.warning(
        "ChangeOfTests",
        format!("the change touches what it is tested by ({}); {trusted} has decided", files.join(", ")),
        &format!(
            "Bring the tests into {trusted} by themselves, then test the change again: nothing decides about itself."
        ),
    );
}
