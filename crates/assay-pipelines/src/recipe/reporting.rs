//! The stage `Reporting`: is the run's own record complete? The same as in the other pipelines; and of a red run, what is different
//! since the recipe was green.

use assay_model::{Judgement, Owner, StageName, StagePlan};

use super::over_time::SinceGreen;
use super::{LAST, RecipeInput, RecipeStage};
use crate::integrity::Integrity;

/// The record of a run.
pub(super) struct Reporting;

impl RecipeStage for Reporting {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(LAST), owner: Owner::Orchestrator, required: true, timeout_s: 300 }
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        let integrity = match Integrity::of(input.evidence) {
            Ok(integrity) => integrity,
            Err(problem) => return Judgement::error(problem),
        };
        let (checks, mut findings) = integrity.checks();
        let message = match findings.first() {
            Some(finding) => finding.message.clone(),
            None => integrity.message(),
        };
        // The control plane knows the history, and put what a red run differs in from the last green one beside it.
        if let Some(since) = input.evidence.get("since_green") {
            match serde_json::from_value::<SinceGreen>(since.clone()) {
                Ok(since) => findings.extend(since.findings()),
                Err(problem) => {
                    return Judgement::error(format!("what changed since green does not read: {problem}"));
                }
            }
        }
        Judgement::from_evidence(checks, findings, vec![integrity.coverage()], Vec::new(), message)
    }
}

#[cfg(test)]
mod tests {
    use assay_model::{Severity, Verdict};
    use serde_json::{Value, json};

    use super::super::over_time::changed::{CHANGED, NO_BASELINE};
    use super::super::over_time::{Aspect, Change};
    use super::*;
    use crate::recipe::RecipeSpec;

    fn judged(since: &Value) -> Judgement {
        let spec = RecipeSpec::of(&json!({
            "name": "web", "folder": "/recipes/web", "settings": {}, "seed": 1,
            "manifest": { "format": 1, "settings": {}, "overlay": null, "hooks": {}, "tests": {}, "not_asked_for": [],
                "ignored": [], "switches": [], "warnings": [] },
        }));
        let mut evidence = json!({
            "chain_ok": true, "events": 9, "artifacts": 2, "missing_artifacts": [], "altered_artifacts": [],
        });
        if !since.is_null() {
            evidence["since_green"] = since.clone();
        }
        Reporting.judge(&RecipeInput::new(&spec.expect("a spec"), &evidence, &[]))
    }

    #[test]
    fn what_changed_since_green_is_told_and_judges_nothing() {
        let change =
            Change { aspect: Aspect::Images, message: "the tag a:1 was moved".to_owned(), values: None };
        let since = SinceGreen::Compared {
            run: 4,
            at: "2026-01-02T03:04:05Z".to_owned(),
            changes: vec![change],
            unknown: Vec::new(),
        };
        let told = judged(&serde_json::to_value(since).expect("JSON"));
        assert_eq!((told.verdict, told.findings.len()), (Verdict::Pass, 1));
        assert_eq!((told.findings[0].code.as_str(), told.findings[0].severity), (CHANGED, Severity::Info));
        assert_eq!(told.message, "9 events in an unbroken chain, 2 artifacts intact");
        assert_eq!(judged(&json!({ "how": "never_green" })).findings[0].code, NO_BASELINE);
        assert!(judged(&Value::Null).findings.is_empty());
        assert_eq!(judged(&json!({ "how": "dreamt" })).verdict, Verdict::Error);
    }
}
