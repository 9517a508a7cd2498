//! The stage `Reporting`: is the run's own record complete? The same as the host pipeline's, without a machine's
//! temperatures.

use assay_model::{Judgement, Owner, StageName, StagePlan};

use super::{ImageInput, ImageStage, LAST};
use crate::integrity::Integrity;

/// The record of a run.
pub(crate) struct Reporting;

impl ImageStage for Reporting {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(LAST), owner: Owner::Orchestrator, required: true, timeout_s: 300 }
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        let integrity = match Integrity::of(input.evidence) {
            Ok(integrity) => integrity,
            Err(problem) => return Judgement::error(problem),
        };
        let (checks, findings) = integrity.checks();
        let message = match findings.first() {
            Some(finding) => finding.message.clone(),
            None => integrity.message(),
        };
        Judgement::from_evidence(checks, findings, vec![integrity.coverage()], Vec::new(), message)
    }
}

#[cfg(test)]
#[path = "reporting_tests.rs"]
mod tests;
