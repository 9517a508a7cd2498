//! The recipe itself in a run's evidence, so that the run can be done again where no folder of it is: the file `recipe.tar`
//! ([`assay_recipe::kept`]), and what is told of it beside the first stage that the runner collects.

use assay_model::{Finding, Judgement, Severity, text};
use assay_recipe::kept::LeftOut;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where it is told in a stage's evidence.
pub(super) const BESIDE: &str = "kept";

/// What is told of the recipe's place in the evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeKept {
    /// Its size; 0 where it is not there.
    #[serde(default)]
    pub bytes: u64,
    /// What was read and is not in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Why it is not there; empty where it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why_not: String,
}

/// Says of a run that it cannot be done again from its evidence alone. That is nobody's fault, and decides nothing.
pub(super) fn or_not_kept(mut judgement: Judgement, evidence: &Value) -> Judgement {
    let kept: Option<RecipeKept> =
        evidence.get(BESIDE).and_then(|kept| serde_json::from_value(kept.clone()).ok());
    if let Some(kept) = kept.filter(|kept| !kept.why_not.is_empty()) {
        let why = text::clean_to(&kept.why_not, 300);
        judgement.findings.push(Finding::new(
            "RecipeNotKept",
            Severity::Info,
            format!("the recipe is not in the evidence: {why}"),
            "Keep the recipe's folder for as long as you may want this run again: `assay reproduce` cannot do it without.",
        ));
    }
    judgement
}

#[cfg(test)]
mod tests {
    use assay_model::Verdict;

    use super::*;

    #[test]
    fn a_recipe_that_is_not_kept_is_told_and_decides_nothing() {
        let told = |evidence: Value| {
            let judgement = Judgement { verdict: Verdict::Pass, ..Judgement::error("") };
            let judgement = or_not_kept(judgement, &evidence);
            assert_eq!(judgement.verdict, Verdict::Pass);
            judgement.findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>()
        };
        let kept = |why_not: &str| serde_json::json!({"how": "done", BESIDE: RecipeKept { why_not: why_not.to_owned(), ..RecipeKept::default() }});
        assert_eq!(
            told(kept("the recipe has 40 MiB")),
            ["the recipe is not in the evidence: the recipe has 40 MiB"]
        );
        assert!(told(kept("")).is_empty());
        // An older runner, and a guest that says what it likes.
        assert!(told(serde_json::json!({"how": "done"})).is_empty());
        assert!(told(serde_json::json!({"how": "done", BESIDE: [1]})).is_empty());
    }
}
