//! `SpecValidate`: is this the machine that it should be?
//!
//! It takes an inventory of its own rather than the one of the first stage, so that a retry after a repair sees the
//! repaired machine. A critical difference fails. A critical field that the machine does not tell keeps the stage
//! from passing (`unverified`, which stops a run that requires the stage): a pass needs positive evidence for every
//! critical field. A spec that declares nothing proves nothing and is never a pass.
//!
//! Told which parts were replaced, it also demands that exactly those have changed since the machine last passed.

use assay_model::host::inventory::Inventory;
use assay_model::host::spec::{Comparison, SpecDiff, Unread, compare};
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use super::repair::{self, Repair};
use crate::{HostStage, JudgeInput};

const NAME: &str = "SpecValidate";
/// Where the inventory that was compared is kept; the first stage's is another file.
const ARTIFACT: &str = "inventory-specvalidate.json";

/// The stage.
pub(super) struct SpecValidate;

impl HostStage for SpecValidate {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s: 180 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        match Inventory::from_evidence(input.evidence) {
            Ok(inventory) => judge(
                compare(input.spec, &inventory),
                repair::examine(&inventory, input.replaced, input.before),
            ),
            Err(problem) => Judgement::error(problem.to_string()),
        }
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(async move {
            assay_probes::settle(context.machine, context.spec.disks.len()).await;
            (context.progress)("reading the hardware afresh");
            let inventory = assay_probes::facts(context.machine).await;
            let failed = |problem| crate::CollectError {
                stage: NAME.into(),
                problem: format!("the inventory cannot be written down: {problem}"),
            };
            let evidence = serde_json::to_value(&inventory).map_err(failed)?;
            let kept = serde_json::to_vec_pretty(&inventory).map_err(failed)?;
            Ok(crate::Collected { evidence, artifacts: vec![(ARTIFACT.to_owned(), kept)] })
        })
    }
}

fn judge(comparison: Comparison, repair: Repair) -> Judgement {
    let compared = (comparison.agreed.len() + comparison.diffs.len()) as u64;
    let coverage = Coverage {
        what: "spec fields".into(),
        covered: compared,
        total: compared + comparison.unread.len() as u64,
    };
    if coverage.total == 0 && repair.findings.is_empty() {
        let message =
            "the spec declares nothing to compare: capture one from a known-good inventory, or write one";
        return Judgement::from_evidence(
            Vec::new(),
            Vec::new(),
            vec![coverage],
            vec![message.to_owned()],
            message,
        );
    }
    let critical = comparison.unread.iter().any(|unread| unread.severity == Severity::Critical);
    let message = match repair.findings.as_slice() {
        [] => message(&comparison, &coverage),
        [only] => only.message.clone(),
        [first, ..] => format!("{} faults of the repair; first: {}", repair.findings.len(), first.message),
    };
    let unverified = comparison.unread.iter().map(explain).chain(repair.unverified).collect();
    let stage = StageName::from(NAME);
    let of_repair = repair.findings.into_iter().map(|finding| finding.stage(&stage).evidence(ARTIFACT));
    let findings = of_repair.chain(comparison.diffs.iter().map(|diff| finding(diff, &stage))).collect();
    let checks = repair.checks.into_iter().chain(checks(comparison)).collect();
    let mut judgement = Judgement::from_evidence(checks, findings, vec![coverage], unverified, message);
    if (critical || repair.untold) && judgement.verdict == Verdict::Pass {
        judgement.verdict = Verdict::Unverified;
    }
    judgement
}

fn checks(comparison: Comparison) -> Vec<Check> {
    let check = |name, verdict, expected, seen| Check { name, verdict, expected, seen };
    let agreed = comparison
        .agreed
        .into_iter()
        .map(|agreed| check(agreed.path, Verdict::Pass, agreed.expected, agreed.seen));
    let differing = comparison.diffs.into_iter().map(|diff| match diff.severity {
        Severity::Critical => check(diff.path, Verdict::Fail, diff.expected, diff.seen),
        // A failed check fails its stage. This one the spec's severities declare not to count.
        lesser => check(
            diff.path,
            Verdict::Skip,
            diff.expected,
            format!("{} (differs; counts as {lesser})", diff.seen),
        ),
    });
    let unread = comparison
        .unread
        .into_iter()
        .map(|unread| check(unread.path, Verdict::Unverified, unread.expected, "not told".into()));
    agreed.chain(differing).chain(unread).collect()
}

fn finding(diff: &SpecDiff, stage: &StageName) -> Finding {
    let mut finding = Finding::new(&diff.code, diff.severity, &diff.message, &diff.next_step)
        .stage(stage)
        .evidence(ARTIFACT);
    finding.part.clone_from(&diff.part);
    finding
}

fn explain(unread: &Unread) -> String {
    let Unread { path, expected, severity } = unread;
    let way_out = match severity {
        Severity::Critical => format!(
            "; check it by eye, then set `severity: {{\"{path}\": warning}}` or take it out of the spec"
        ),
        Severity::Warning | Severity::Info => String::new(),
    };
    format!("{path}: expected {expected}, the machine does not tell{way_out}")
}

fn message(comparison: &Comparison, coverage: &Coverage) -> String {
    let Coverage { covered, total, .. } = coverage;
    let count = |severity| comparison.diffs.iter().filter(|diff| diff.severity == severity).count();
    let (critical, lesser) = (count(Severity::Critical), count(Severity::Warning) + count(Severity::Info));
    let worst = comparison.diffs.iter().find(|diff| diff.severity == Severity::Critical);
    let unread: Vec<&str> = comparison
        .unread
        .iter()
        .filter(|unread| unread.severity == Severity::Critical)
        .map(|unread| unread.path.as_str())
        .collect();
    let compared = format!("{covered} of {total} spec fields compared");
    match (worst, unread.as_slice()) {
        (Some(worst), _) if critical == 1 => worst.message.clone(),
        (Some(worst), _) => format!("{critical} critical differences; first: {}", worst.message),
        (None, [_, ..]) => {
            format!("{compared}, critical ones not told by the machine: {}", shortened(&unread))
        }
        (None, []) if lesser > 0 => format!("{compared}, {lesser} differ without being critical"),
        (None, []) => format!("{compared}, all as expected"),
    }
}

/// The first few of a list, and how many more there are.
fn shortened(paths: &[&str]) -> String {
    let shown = paths.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if paths.len() > 3 { format!("{shown} and {} more", paths.len() - 3) } else { shown }
}

#[cfg(test)]
#[path = "spec_validate_tests.rs"]
mod tests;
